//! Why there is no such memory, in QEMU's words where it has some.

use std::fmt;
use std::io;
use std::path::PathBuf;

use vm_memory::mmap::MmapRegionError;

use crate::qapi::QmpError;
use crate::qom::PropertyError;
use crate::qom::objects::MemoryBackendError;
use crate::report::reason;

/// A memory backend that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// What is asked of it contradicts itself.
    #[error(transparent)]
    Config(#[from] MemoryBackendError),
    /// The host does not give this backend's memory.
    #[error("cannot set up guest memory '{id}': {cause}")]
    Map {
        /// The backend's id.
        id: String,
        /// Why not.
        cause: MapFailure,
    },
    /// The host does not place memory as asked.
    #[error("cannot bind memory to host NUMA nodes: {}", reason(.0))]
    Bind(io::Error),
    /// The file cannot be opened.
    #[error("can't open backing store {} for guest RAM: {}", path.display(), reason(error))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file cannot be made as long as the memory.
    #[error("can't resize backing store {} to {size} bytes: {}", path.display(), reason(error))]
    Resize {
        /// The file.
        path: PathBuf,
        /// In bytes.
        size: u64,
        /// Why not.
        error: io::Error,
    },
    /// The file ends before the memory would.
    #[error(
        "{id} backing store size 0x{len:x} is too small for 'size' option 0x{size:x} plus 'offset' option 0x{offset:x}"
    )]
    FileTooSmall {
        /// The backend's id.
        id: String,
        /// The file's size, in bytes.
        len: u64,
        /// The memory's size, in bytes.
        size: u64,
        /// Where in the file it is to begin.
        offset: u64,
    },
    /// There can be no file of that size.
    #[error("offset and size of the backing store overflow")]
    Overflow,
    /// There is no memfd.
    #[error("failed to create memfd for '{id}': {}", reason(error))]
    Memfd {
        /// The backend's id.
        id: String,
        /// Why not.
        error: io::Error,
    },
    /// The memory would begin within a page, of its file or of this process.
    #[error("{what} 0x{bytes:x} must be multiples of page size 0x{page:x}")]
    PartOfPage {
        /// Which of the two.
        what: &'static str,
        /// What was asked for.
        bytes: u64,
        /// The page's size, in bytes.
        page: u64,
    },
    /// The alignment is no power of two.
    #[error("alignment 0x{0:x} must be a power of two")]
    OddAlignment(u64),
    /// The memory is not made of whole pages.
    #[error("backend '{qom_type}' memory size must be multiple of {}", Size(*page))]
    OddSize {
        /// The backend's type.
        qom_type: &'static str,
        /// The page's size, in bytes.
        page: u64,
    },
}

impl QmpError for BackendError {}

impl From<PropertyError> for BackendError {
    fn from(error: PropertyError) -> Self {
        Self::Config(error.into())
    }
}

/// Why memory cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapFailure {
    /// An address has fewer bits than that.
    #[error("it is larger than the address space")]
    TooLarge,
    /// The system says why.
    #[error("{}", reason(.0))]
    Host(io::Error),
    /// What is asked for contradicts itself.
    #[error("{0}")]
    Request(MmapRegionError),
}

impl From<MmapRegionError> for MapFailure {
    fn from(error: MmapRegionError) -> Self {
        match error {
            MmapRegionError::Mmap(error) => Self::Host(error),
            other => Self::Request(other),
        }
    }
}

/// Bytes in the largest unit that they are a multiple of.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = match self.0 {
            size if size % (1 << 30) == 0 => (size >> 30, "GiB"),
            size if size % (1 << 20) == 0 => (size >> 20, "MiB"),
            size => (size >> 10, "KiB"),
        };
        write!(f, "{size} {unit}")
    }
}
