//! PCI: configuration space, and the functions of the q35 chipset.

mod config;
mod endpoint;
mod errors;
mod express;
mod function;
mod interrupt;
mod lpc;
mod mch;
mod msix;
mod reserve;
mod root_port;
mod slot;
mod vmstate;

pub use config::{BarKind, ConfigSpace};
pub use endpoint::{Endpoint, EndpointConfig, PowerManagement};
pub use express::Link;
pub use function::{PciFunction, PciPlace, Port, SharedFunction, SlotNumber};
pub use interrupt::Pin;
pub use lpc::{ChipConfig, LPC, Lpc, LpcPart, LpcState, SmiFeatures};
pub use mch::{HOST, MCH, Mch, MchState, SEGMENTS, Segment, Shadow};
pub use msix::{Msix, MsixLayout};
pub use reserve::{Reserve, ReserveError};
pub use root_port::{CLASS as ROOT_PORT, RootPort, RootPortConfig, RootPortLinks, RootPortState};
pub use slot::{Unplug, UnplugError};
pub use vmstate::{MsixState, PciState};
