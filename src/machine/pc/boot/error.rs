//! Why a guest cannot be booted.

use std::io;
use std::path::PathBuf;

use elf::ParseError;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestMemoryError, VolatileMemoryError};

use crate::mem::{BlockExists, MapError};
use crate::qapi::QmpError;
use crate::report::reason;

/// Firmware, a kernel or what goes with it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The firmware.
    #[error("could not load PC BIOS '{}': {cause}", name.display())]
    Firmware {
        /// As it was asked for.
        name: PathBuf,
        /// What is wrong with it.
        cause: FirmwareFault,
    },
    /// The firmware's block cannot be shown to the guest.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A block of the firmware's name is there already.
    #[error(transparent)]
    Block(#[from] BlockExists),
    /// A file that goes into the guest cannot be opened.
    #[error("could not open {what} file '{}': {}", path.display(), reason(error))]
    Open {
        /// `kernel` or `initrd`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The kernel.
    #[error("invalid kernel image '{}': {cause}", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: KernelFault,
    },
    /// The initrd.
    #[error("cannot load initrd '{}': {cause}", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: InitrdFault,
    },
    /// The kernel's command line has no room.
    #[error("kernel command line is longer than {limit} bytes")]
    CommandLine {
        /// What it must stay below.
        limit: u64,
    },
    /// The guest has hardly any memory.
    #[error("{low} bytes of memory are too few to start a kernel")]
    LittleMemory {
        /// What it has below 4 GiB.
        low: u64,
    },
    /// What must be in guest memory cannot be put there.
    #[error("guest memory at 0x{at:x}: {error}")]
    Memory {
        /// The address.
        at: u64,
        /// Why not.
        error: GuestMemoryError,
    },
    /// The address where a guest goes on after sleep cannot be read.
    #[error("the waking vector at 0x{at:x}: {error}")]
    WakingVector {
        /// Where it would be.
        at: u64,
        /// Why not.
        error: GuestMemoryError,
    },
}

impl QmpError for BootError {}

/// What is wrong with firmware.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirmwareFault {
    /// There is none of this name.
    #[error("no such file here or in the folders for firmware")]
    NotFound,
    /// It cannot be read.
    #[error("{}", reason(.0))]
    Read(io::Error),
    /// It is no ROM of a PC.
    #[error("its size of {size} bytes is not a multiple of 64 KiB up to {max} bytes")]
    Size {
        /// What it has.
        size: u64,
        /// The most it may have.
        max: u64,
    },
    /// There is no memory for it.
    #[error("{0}")]
    NoMemory(MmapRegionError),
    /// Its memory cannot be written.
    #[error("{0}")]
    Copy(VolatileMemoryError),
}

/// What is wrong with a kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelFault {
    /// It cannot be read, or has less than a header.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// No boot protocol is known for it.
    #[error("neither an ELF file with a PVH entry point nor a bzImage")]
    UnknownForm,
    /// It is from before the protocol that is spoken.
    #[error("boot protocol {0:#06x} is too old")]
    OldProtocol(u16),
    /// It does not fit, or contradicts itself.
    #[error("{0}")]
    BzImage(linux_loader::loader::Error),
    /// It is an ELF file that contradicts itself.
    #[error("{0}")]
    Elf(#[from] ParseError),
    /// It is for another processor.
    #[error("it is for another machine ({0})")]
    Machine(u16),
    /// Its program headers are of another size than its class has.
    #[error("Invalid program header size")]
    ProgramHeaders,
    /// No note names an entry point.
    #[error("Error loading uncompressed kernel without PVH ELF Note")]
    NoEntry,
    /// A segment would be beyond memory as such.
    #[error("a segment ends beyond all addresses")]
    Beyond,
    /// A segment does not get into guest memory.
    #[error("a segment of {count} bytes for 0x{at:x}: {error}")]
    Segment {
        /// Its size in the file.
        count: u64,
        /// Where it belongs.
        at: u64,
        /// Why not.
        error: GuestMemoryError,
    },
}

/// What is wrong with an initrd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitrdFault {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// There is no room between the kernel and the end of low memory.
    #[error("it does not fit into memory")]
    TooLarge,
    /// It does not get into guest memory.
    #[error("{0}")]
    Copy(#[from] GuestMemoryError),
}
