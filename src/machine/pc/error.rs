//! What a PC guest cannot be or do, as opposed to one of its parts.

use std::io;

use nix::errno::Errno;
use vm_memory::GuestMemoryError;

use crate::qapi::QmpError;
use crate::report::reason;

/// A PC that cannot be made, or something that cannot be asked or done of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PcError {
    /// The command line names no machine, and none is the default.
    #[error("No machine specified, and there is no default")]
    NoMachine,
    /// There is no machine of this name.
    #[error("unsupported machine type: \"{0}\"")]
    UnknownMachine(String),
    /// The machine does not have so many vCPUs.
    #[error("Invalid SMP CPUs {count}. The max CPUs supported by machine '{machine}' is {limit}")]
    TooManyVcpus {
        /// What is asked for.
        count: u32,
        /// The machine.
        machine: &'static str,
        /// What it has at most.
        limit: u32,
    },
    /// No accelerator of those named can be used: what each says, a line each.
    #[error("{}", .0.join("\n"))]
    NoAccelerator(Vec<String>),
    /// The system does not keep our memory from being swapped out.
    #[error("locking memory failed: {}", .0.desc())]
    LockMemory(Errno),
    /// There is no loop for devices.
    #[error("event loop: {}", reason(.0))]
    EventLoop(io::Error),
    /// The accelerator does not take the interrupt controllers' inputs.
    #[error("interrupt routes: {0}")]
    Routes(io::Error),
    /// The tables of a kernel without firmware are too long.
    #[error("SMBIOS tables do not fit below 1 MiB; start the kernel with firmware")]
    LongSmbios,
    /// The host does not say what time it is where it stands.
    #[error("-rtc base=localtime: the host's time zone is not known")]
    NoTimeZone,
    /// The host has no clock that only goes forward.
    #[error("-rtc clock=rt: {}", reason(.0))]
    NoMonotonicClock(io::Error),
    /// CMOS memory has no room for so many.
    #[error("Too many boot devices for PC")]
    LongBootOrder,
    /// CMOS memory has no number for it.
    #[error("Invalid boot device for PC: '{0}'")]
    BootDevice(char),
    /// The paravirtual clock cannot be set.
    #[error("KVM_SET_CLOCK failed: {}", reason(.0))]
    SetClock(io::Error),
    /// The paravirtual clock cannot be read.
    #[error("KVM_GET_CLOCK failed: {}", reason(.0))]
    GetClock(io::Error),
    /// The accelerator keeps no statistics.
    #[error("KVM stats: {}", reason(.0))]
    Stats(io::Error),
    /// A local APIC cannot be read.
    #[error("KVM_GET_LAPIC failed: {}", reason(.0))]
    GetLapic(io::Error),
    /// The interrupt controllers cannot be read, for people.
    #[error("KVM_GET_IRQCHIP failed: {}", reason(.0))]
    GetIrqchip(io::Error),
    /// The same, or changed, for a saved state.
    #[error("interrupt controllers: {}", reason(.0))]
    Chips(io::Error),
    /// A debugger's registers cannot be read or written.
    #[error("registers: {}", reason(.0))]
    Registers(io::Error),
    /// The accelerator does not stop for a debugger.
    #[error("KVM_SET_GUEST_DEBUG failed: {}", reason(.0))]
    SetDebug(io::Error),
    /// A virtual address leads nowhere.
    #[error("Invalid addr 0x{addr:016x}/size {size} specified")]
    Unmapped {
        /// Where the range begins.
        addr: u64,
        /// Its bytes.
        size: usize,
    },
    /// There is neither RAM nor ROM.
    #[error("no memory at guest address 0x{0:x}")]
    NoMemory(u64),
    /// Memory that is there cannot be read or written.
    #[error("guest memory at 0x{at:x}: {error}")]
    Memory {
        /// Where.
        at: u64,
        /// Why not.
        error: GuestMemoryError,
    },
}

impl QmpError for PcError {}
