//! What the rest of the process hands to a machine, already opened.

use crate::block::Graph;
use crate::machine::chardevs::Chardevs;
use crate::machine::entropy::EntropySources;
use crate::net::Networks;

use crate::accel::x86_64::Accelerator;

/// Descriptors for the guest's side of host back ends.
#[derive(Default)]
pub struct Resources {
    /// Lines whose other ends the back ends of character devices have.
    pub chardevs: Chardevs,
    /// Where devices get random bytes from.
    pub entropy: EntropySources,
    /// The back ends of its network cards, and the list of the cards.
    pub networks: Networks,
    /// What disks are made of.
    pub graph: Graph,
    /// An accelerator that was opened ahead, if the guest is to run on it.
    pub accelerator: Option<Box<dyn Accelerator>>,
}
