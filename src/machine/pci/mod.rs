//! PCI topology: which function sits where, and how its place is named.

mod address;
mod error;
mod topology;

pub use address::Devfn;
pub use error::PlaceError;
pub use topology::{BusId, Function, Placement, Topology};
