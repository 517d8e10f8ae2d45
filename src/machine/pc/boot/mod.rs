//! How a guest starts: firmware, or a kernel without firmware.

mod elf;
mod error;
mod firmware;
mod linux;
mod pvh;

use std::{
    fs::File,
    io::{Read, Seek},
    ops::Range,
    path::{Path, PathBuf},
};

use vm_memory::{Bytes, GuestAddress};

use super::layout::{E820Entry, ONE_MIB, Split, direct};
use crate::{
    accel::x86_64::{BootState, EntryMode},
    machine::{
        config::{KernelConfig, MachineConfig},
        info::RomInfo,
    },
    mem::GuestRam,
};

use error::{InitrdFault, KernelFault};

pub(crate) use error::BootError;
pub(crate) use firmware::{Firmware, find};

/// Offset of the waking vector in the first of the ACPI tables, the FACS.
const FACS_WAKING_VECTOR: u64 = 12;

/// How a guest starts.
#[derive(Debug)]
pub(crate) enum Boot {
    /// A kernel, without firmware.
    Direct(DirectBoot),
    /// Firmware, which finds the rest.
    Firmware(Firmware),
}

impl Boot {
    /// Opens what `-kernel` or `-bios` names. A kernel is started by firmware when firmware is named as well.
    pub(crate) fn open(config: &MachineConfig, max_firmware: u64) -> Result<Self, BootError> {
        match (&config.kernel, &config.bios) {
            (Some(kernel), None) => DirectBoot::open(kernel).map(Self::Direct),
            (_, bios) => Firmware::open(bios.as_deref(), &config.data_dirs, max_firmware).map(Self::Firmware),
        }
    }

    /// Whether a kernel starts without firmware.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }

    /// The firmware, if it starts the guest.
    pub(crate) fn rom(&self) -> Option<RomInfo> {
        match self {
            Self::Direct(_) => None,
            Self::Firmware(firmware) => Some(firmware.info()),
        }
    }

    /// Puts into guest memory what has to be there after power-on, and says where the boot vCPU starts.
    pub(crate) fn load(
        &mut self,
        ram: &GuestRam,
        split: Split,
        tables: &FirmwareTables,
    ) -> Result<BootState, BootError> {
        match self {
            Self::Direct(direct) => direct.load(ram, split, tables),
            Self::Firmware(_) => Ok(BootState::PowerOn),
        }
    }

    /// Where the boot vCPU goes on after sleep (ACPI S3): firmware finds that out by itself.
    pub(crate) fn waking_state(
        &self,
        ram: &GuestRam,
        split: Split,
        tables: &FirmwareTables,
    ) -> Result<BootState, BootError> {
        if !self.is_direct() {
            return Ok(BootState::PowerOn);
        }
        let at = acpi_range(split, tables.acpi.len())?.start + FACS_WAKING_VECTOR;
        let vector = ram.read_obj(GuestAddress(at));
        vector
            .map(|vector| BootState::Waking { vector })
            .map_err(|error| BootError::WakingVector { at, error })
    }
}

/// A kernel to be started without firmware. Its files stay open, so that it can be loaded again at a reset.
#[derive(Debug)]
pub(crate) struct DirectBoot {
    kernel: Image,
    kind: KernelKind,
    initrd: Option<Image>,
    cmdline: String,
    /// Where the kernel ended when it was last loaded.
    loaded_end: u64,
}

/// Tables that a kernel wants to find, made for the addresses they are put at.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirmwareTables {
    /// The ACPI tables, for the end of low RAM.
    pub(crate) acpi: Vec<u8>,
    /// The ACPI root pointer.
    pub(crate) rsdp: Vec<u8>,
    /// SMBIOS entry point and structures.
    pub(crate) smbios: Vec<u8>,
}

#[derive(Debug)]
struct Image {
    file: File,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelKind {
    Pvh,
    Linux,
}

/// What the two boot protocols need to know.
struct Handover<'a> {
    memory: &'a GuestRam,
    e820: &'a [E820Entry],
    cmdline: &'a str,
    rsdp: u64,
    /// Highest address an initrd may end at.
    initrd_limit: u64,
}

impl DirectBoot {
    /// Opens the files and finds out which boot protocol the kernel speaks.
    pub(crate) fn open(config: &KernelConfig) -> Result<Self, BootError> {
        let mut kernel = Image::open(&config.kernel, "kernel")?;
        let kind = kernel.kind()?;
        let initrd = config
            .initrd
            .as_deref()
            .map(|path| Image::open(path, "initrd"))
            .transpose()?;
        let limit = direct::CMDLINE_SIZE;
        if config.append.len() as u64 >= limit {
            return Err(BootError::CommandLine { limit });
        }
        Ok(Self {
            kernel,
            kind,
            initrd,
            cmdline: config.append.clone(),
            loaded_end: 0,
        })
    }

    /// Loads everything into guest memory and says where the boot vCPU starts.
    fn load(&mut self, memory: &GuestRam, split: Split, tables: &FirmwareTables) -> Result<BootState, BootError> {
        let acpi = acpi_range(split, tables.acpi.len())?;
        put(memory, acpi.start, &tables.acpi)?;
        put(memory, direct::RSDP, &tables.rsdp)?;
        put(memory, direct::SMBIOS, &tables.smbios)?;
        let mut cmdline = self.cmdline.clone().into_bytes();
        cmdline.push(0);
        put(memory, direct::CMDLINE, &cmdline)?;
        let gdt: Vec<u8> = BootState::gdt()
            .iter()
            .flat_map(|descriptor| descriptor.to_le_bytes())
            .collect();
        put(memory, direct::GDT, &gdt)?;
        let handover = Handover {
            memory,
            e820: &split.e820(acpi.clone()),
            cmdline: &self.cmdline,
            rsdp: direct::RSDP,
            initrd_limit: acpi.start,
        };
        clear(memory, self.loaded_end)?;
        let (mut entry, end) = match self.kind {
            KernelKind::Pvh => pvh::load(&handover, &mut self.kernel, self.initrd.as_mut())?,
            KernelKind::Linux => linux::load(&handover, &mut self.kernel, self.initrd.as_mut())?,
        };
        self.loaded_end = end;
        entry.gdt = direct::GDT;
        Ok(BootState::Kernel(entry))
    }
}

/// Where ACPI tables of this size go.
pub(crate) fn acpi_range(split: Split, len: usize) -> Result<Range<u64>, BootError> {
    const PAGE: u64 = 4096;
    let len = u64::try_from(len).unwrap_or(u64::MAX).checked_next_multiple_of(PAGE);
    let end = split.low - split.low % PAGE;
    let start = len
        .and_then(|len| end.checked_sub(len))
        .filter(|start| *start >= 2 * ONE_MIB);
    start
        .map(|start| start..end)
        .ok_or(BootError::LittleMemory { low: split.low })
}

impl Image {
    fn open(path: &Path, what: &'static str) -> Result<Self, BootError> {
        let file = File::open(path).map_err(|error| BootError::Open {
            what,
            path: path.to_owned(),
            error,
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn kind(&mut self) -> Result<KernelKind, BootError> {
        let mut head = [0; 0x206];
        self.file.read_exact(&mut head).map_err(|error| self.bad(error))?;
        if head.starts_with(b"\x7fELF") {
            return Ok(KernelKind::Pvh);
        }
        if head[0x202..0x206] == *b"HdrS" {
            return Ok(KernelKind::Linux);
        }
        Err(self.bad(KernelFault::UnknownForm))
    }

    fn bad(&self, cause: impl Into<KernelFault>) -> BootError {
        BootError::Kernel {
            path: self.path.clone(),
            cause: cause.into(),
        }
    }

    /// Copies the whole file to the highest place below `limit`. Returns where it lies.
    fn load_below(&mut self, memory: &GuestRam, limit: u64, floor: u64) -> Result<Range<u64>, BootError> {
        self.copy_below(memory, limit, floor)
            .map_err(|cause| BootError::Initrd {
                path: self.path.clone(),
                cause,
            })
    }

    fn copy_below(&mut self, memory: &GuestRam, limit: u64, floor: u64) -> Result<Range<u64>, InitrdFault> {
        let len = self.file.metadata()?.len();
        let start = limit.checked_sub(len).map(|start| start & !0xfff);
        let start = start.filter(|start| *start >= floor).ok_or(InitrdFault::TooLarge)?;
        self.file.rewind()?;
        let count = usize::try_from(len).map_err(|_| InitrdFault::TooLarge)?;
        memory.read_exact_volatile_from(GuestAddress(start), &mut self.file, count)?;
        Ok(start..start + len)
    }
}

fn put(memory: &GuestRam, addr: u64, bytes: &[u8]) -> Result<(), BootError> {
    memory
        .write_slice(bytes, GuestAddress(addr))
        .map_err(|error| BootError::Memory { at: addr, error })
}

/// The registers every protocol has in common: none but the entry point.
fn entry(rip: u64) -> EntryMode {
    EntryMode {
        rip,
        ..EntryMode::default()
    }
}

/// Zeroes what a kernel that ran before left behind, since the kernel's zero-initialised data is not in its file.
fn clear(memory: &GuestRam, end: u64) -> Result<(), BootError> {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut addr = ONE_MIB;
    while addr < end {
        let len = usize::try_from(end - addr).unwrap_or(ZEROES.len()).min(ZEROES.len());
        memory
            .write_slice(&ZEROES[..len], GuestAddress(addr))
            .map_err(|error| BootError::Memory { at: addr, error })?;
        addr += 4096;
    }
    Ok(())
}
