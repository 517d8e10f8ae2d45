//! Guests that move: the stream of QEMU's migration, and the two ends of it.
//!
//! ```text
//! header, configuration, [return path]     kind bytes: 07, 08
//! START ram: the list of blocks            01
//! PART ram: pages                          02, again and again while the guest runs
//! --- the guest stops ---
//! END ram: the pages that are left         03
//! FULL sections of vCPUs and devices       04
//! EOF, and what the sections consist of    00, 06
//! ```
//!
//! [`write`] and [`read`] know the layout and nothing of how bytes travel; [`Channel`] is a descriptor that gives up when
//! it is told to. [`Outgoing`] and [`receive`] are the work of either side, each on a thread of its own. The state of the
//! devices is the business of the worker's main thread, which they ask for it.

mod channel;
mod error;
mod incoming;
mod outgoing;
mod pages;
mod progress;
mod ram;
pub mod read;
#[cfg(test)]
mod tests;
mod uri;
mod wire;
pub mod write;

pub use channel::{Cancel, Channel};
pub use error::MigrationError;
pub use incoming::{Devices, receive, report};
pub use outgoing::{News, Options, Outgoing};
pub use progress::{Limits, Progress};
pub use uri::{BadUri, parse_uri};
