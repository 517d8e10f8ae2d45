//! What a machine offers to whoever saves and moves its guest.

use std::sync::Arc;

use crate::mem::{AddressSpace, RamBlock};
use crate::qapi::Error;
use crate::vmstate::{ReceivedSection, SavedSection, StateError};

/// Memory of a guest as a stream has it: under a name, with a length.
#[derive(Clone, Debug)]
pub struct StreamBlock {
    /// Its name in a stream.
    pub name: String,
    /// The memory.
    pub block: Arc<RamBlock>,
    /// Bytes that are sent.
    pub len: u64,
    /// Bytes that are taken at most; `len` if it cannot be another one.
    pub max: u64,
}

/// All memory of a guest as a stream has it.
#[derive(Clone)]
pub struct StreamMemory {
    /// In the order of a stream.
    pub blocks: Vec<StreamBlock>,
    /// Names of blocks that other emulators send and for which this machine has no use.
    pub unused: Vec<&'static str>,
    /// Where the blocks show, so that it is known which pages the guest writes.
    pub space: Arc<AddressSpace>,
}

/// Takes over the state of another guest of the same command line, section by section, in any order.
///
/// After an error the guest is of no use.
pub trait StateLoader {
    /// How many bytes the section takes from the beginning of its bytes, after which there may be more. Nothing becomes of
    /// them yet.
    ///
    /// # Errors
    /// Names the section that is not this guest's, or the field that is truncated or cannot be taken over.
    fn measure(&mut self, section: &ReceivedSection<'_>) -> Result<usize, StateError>;
    /// Takes over a section, which has no byte more than it takes.
    ///
    /// # Errors
    /// As [`Self::measure`].
    fn load(&mut self, section: &ReceivedSection<'_>) -> Result<(), StateError>;
    /// All sections have come. Returns what the guest was doing, such as `running`.
    ///
    /// # Errors
    /// Names what the accelerator or a device cannot be.
    fn finish(self: Box<Self>) -> Result<String, StateError>;
}

/// A guest that can be saved and moved. Only while paused, but for what says otherwise.
pub trait Migratable {
    /// Why the guest cannot be saved, if anything stands in the way. May be called while it runs.
    fn blockers(&self) -> Vec<String>;
    /// The guest's memory, as it is to be sent. May be called while it runs.
    ///
    /// # Errors
    /// The host has no memory left.
    fn memory(&self) -> Result<StreamMemory, Error>;
    /// All sections but that of the memory, in the order of a stream. `run_state` is what the guest was doing before it was
    /// stopped for this, such as `running`.
    ///
    /// # Errors
    /// Something cannot be saved; the guest is as it was.
    fn save(&self, run_state: &str) -> Result<Vec<SavedSection>, StateError>;
    /// Begins to take over the state of another guest. Only just after a reset.
    ///
    /// # Errors
    /// The accelerator does not tell what there is.
    fn loader(&self) -> Result<Box<dyn StateLoader + '_>, StateError>;
}
