//! Who is told when an address space changes.

use std::{io, sync::Arc};

use super::{FlatRange, PlacedDoorbell, RamBlock};

/// What a change took away and what it brought.
#[derive(Debug)]
pub struct Change<'a> {
    /// Ranges that are not there any more, by address.
    pub removed: Vec<&'a FlatRange>,
    /// Ranges that are there now, by address.
    pub added: Vec<&'a FlatRange>,
    /// Doorbells that are not there any more.
    pub removed_doorbells: Vec<&'a PlacedDoorbell>,
    /// Doorbells that are there now.
    pub added_doorbells: Vec<&'a PlacedDoorbell>,
}

impl Change<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.added.is_empty()
            && self.removed_doorbells.is_empty()
            && self.added_doorbells.is_empty()
    }

    /// The change back.
    pub(super) fn reversed(self) -> Self {
        Self {
            removed: self.added,
            added: self.removed,
            removed_doorbells: self.added_doorbells,
            added_doorbells: self.removed_doorbells,
        }
    }
}

/// A listener cannot do what it was told.
#[derive(Debug, thiserror::Error)]
#[error("{what} at {addr:#x}: {source}")]
pub struct ListenerError {
    /// What it tried, in its own terms.
    pub what: &'static str,
    /// Guest address.
    pub addr: u64,
    /// What the host said.
    pub source: io::Error,
}

/// Follows an address space. Called with the topology locked, so it must not change it, and one call at a time.
pub trait Listener: Send + Sync {
    /// The space changed. What cannot be done makes the change fail, and the listener is told the way back. A doorbell
    /// that it cannot hear is no error: the address space rings it.
    ///
    /// # Errors
    /// What was refused.
    fn changed(&self, change: &Change<'_>) -> Result<(), ListenerError>;
    /// From now on, or no longer, what the guest writes to the block is to be known.
    ///
    /// # Errors
    /// What was refused.
    fn log_writes(&self, block: &Arc<RamBlock>, on: bool) -> Result<(), ListenerError>;
    /// Marks what the guest has written since the last call for all who watch ([`super::Watchers::mark_words`]).
    ///
    /// # Errors
    /// What was refused.
    fn fetch_writes(&self, block: &Arc<RamBlock>) -> Result<(), ListenerError>;
}
