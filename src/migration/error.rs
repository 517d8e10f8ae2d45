//! What goes wrong with a guest that moves.

use std::io;

use crate::mem::ListenerError;
use crate::report::reason;
use crate::vmstate::StateError;

/// Why a migration comes to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// It was told to end.
    #[error("the migration was cancelled")]
    Cancelled,
    /// The descriptor failed.
    #[error("{doing}: {}", reason(error))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The stream is over before it is complete.
    #[error("the stream ends in the middle of {0}")]
    Ended(String),
    /// It does not begin as one.
    #[error("Not a migration stream")]
    NotAStream,
    /// It is of another version.
    #[error("Unsupported migration stream version {0}")]
    Version(u32),
    /// The section that comes first is not there.
    #[error("Configuration section missing")]
    NoConfiguration,
    /// It is of another machine.
    #[error("Machine type received is '{theirs}' and local is '{own}'")]
    Machine {
        /// In the stream.
        theirs: String,
        /// Of this guest.
        own: String,
    },
    /// Something of which there is nothing here.
    #[error("{0}")]
    Unknown(String),
    /// A section does not end where it should.
    #[error("Missing section footer for {0}")]
    Footer(String),
    /// A section that needs more than anybody has.
    #[error("section {0} is longer than {1} bytes")]
    TooLong(String, usize),
    /// A block of memory that this guest has not.
    #[error("Unknown ramblock \"{0}\", cannot accept migration")]
    UnknownBlock(String),
    /// A block of memory of another size.
    #[error("Size mismatch: {name}: {theirs:#x} != {own:#x}")]
    BlockSize {
        /// Its name.
        name: String,
        /// Bytes in the stream.
        theirs: u64,
        /// Bytes of this guest.
        own: u64,
    },
    /// A page outside of its block.
    #[error("ram: page {address:#x} is outside of block \"{name}\"")]
    Page {
        /// The block.
        name: String,
        /// Address in it.
        address: u64,
    },
    /// A record of memory that cannot be understood.
    #[error("ram: {0}")]
    Record(String),
    /// A section or field.
    #[error("{0}")]
    State(#[from] StateError),
    /// Which pages the guest writes is not told.
    #[error("the guest's writes cannot be logged: {0}")]
    Log(#[from] ListenerError),
    /// The other side could not take the guest over.
    #[error("the other side could not take the guest over (status {0})")]
    Refused(u32),
    /// The thread that has the guest is gone.
    #[error("the guest is ending")]
    Ending,
}

impl MigrationError {
    /// An error of a channel, while `doing`.
    pub(super) fn io(doing: &'static str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionAborted if super::channel::is_cancel(&error) => Self::Cancelled,
            _ => Self::Io { doing, error },
        }
    }
}
