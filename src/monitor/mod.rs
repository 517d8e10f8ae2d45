//! QMP and human monitor sessions, the event bus and the handlers of the commands that run in the monitor.

mod attention;
mod commands;
pub mod cpu;
pub mod events;
pub mod guest;
pub mod hmp;
mod human;
mod images;
pub mod link;
pub mod probe;
pub mod pump;
mod run;
pub mod session;

pub use run::{Start, run_for_worker, run_without_guest, serve_worker};

pub use crate::qapi::qmp::VersionTriple;

use crate::qapi::qmp::VersionInfo;

/// What `query-version` and the greeting say: the release of QEMU whose behaviour this is, and who provides it.
#[must_use]
pub fn version() -> VersionInfo {
    VersionInfo {
        qemu: VersionTriple {
            major: 10,
            minor: 2,
            micro: 0,
        },
        package: concat!("remuda-", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
