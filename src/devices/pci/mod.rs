//! PCI: configuration space, and the functions of the q35 chipset.

mod config;
mod express;
mod function;
mod lpc;
mod mch;
mod msix;
mod root_port;

pub use config::{BarKind, ConfigSpace};
pub use function::{PciFunction, config_state, restore_config};
pub use lpc::{LPC, Lpc};
pub use mch::{MCH, Mch};
pub use msix::{MAX_VECTORS, MsiSink, Msix};
pub use root_port::{ROOT_PORT, RootPort, RootPortConfig};
