//! What the rest of the process hands to a machine, already opened.

use crate::machine::chardevs::Chardevs;

/// Descriptors for the guest's side of host back ends.
#[derive(Debug, Default)]
pub struct Resources {
    /// Lines whose other ends the back ends of character devices have.
    pub chardevs: Chardevs,
}
