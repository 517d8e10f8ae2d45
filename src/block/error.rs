//! What goes wrong with a request.

use nix::errno::Errno;

use crate::qapi::QmpError;

/// Why a request, or the opening of an image, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// What the system said.
    #[error("{}", .0.desc())]
    Io(Errno),
    /// The node is not to be written to.
    #[error("Block node is read-only")]
    ReadOnly,
    /// The request does not lie within the node.
    #[error("request of {bytes} bytes at {offset} is not within {length} bytes")]
    OutOfRange {
        /// Its first byte.
        offset: u64,
        /// Bytes of it.
        bytes: u64,
        /// Bytes of the node.
        length: u64,
    },
    /// The image is not what its format says.
    #[error("{what}")]
    Corrupt {
        /// What is wrong, in words that name the structure.
        what: String,
        /// Where in the image's file, if it is at one place.
        offset: Option<u64>,
    },
    /// The driver cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// What the user asked for is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl BlockError {
    /// What a device reports.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Io(errno) => *errno,
            Self::ReadOnly => Errno::EPERM,
            Self::OutOfRange { .. } | Self::Corrupt { .. } => Errno::EIO,
            Self::Unsupported(_) => Errno::EOPNOTSUPP,
            Self::Invalid(_) => Errno::EINVAL,
        }
    }

    /// Whether it failed because the host has no room.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        self.errno() == Errno::ENOSPC
    }
}

impl QmpError for BlockError {}

impl From<Errno> for BlockError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno)
    }
}

impl From<std::io::Error> for BlockError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}
