//! The Linux boot protocol for bzImage files, 32-bit entry (Documentation/arch/x86/boot.rst, zero-page.rst).

use std::io::{Read, Seek, SeekFrom};

use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{Address, GuestAddress};

use super::error::{BootError, KernelFault};
use super::{Handover, Image, entry, put};
use crate::{
    accel::x86_64::EntryMode,
    machine::pc::layout::{ONE_MIB, direct},
};

/// Size of `struct boot_params`.
const ZERO_PAGE_SIZE: usize = 4096;
/// Offset of the setup header in the file and in `struct boot_params`.
const HEADER: usize = 0x1f1;
/// The header's length byte counts from here on.
const HEADER_END_BASE: usize = 0x202;
/// The oldest protocol with a command line pointer and an initrd limit.
const OLDEST_VERSION: u16 = 0x0203;

// Offsets in `struct boot_params`.
const ACPI_RSDP_ADDR: usize = 0x070;
const E820_ENTRIES: usize = 0x1e8;
const VIDEO_MODE: usize = 0x1fa;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const HEAP_END_PTR: usize = 0x224;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const INIT_SIZE: usize = 0x260;
const E820_TABLE: usize = 0x2d0;

/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `CAN_USE_HEAP`.
const CAN_USE_HEAP: u8 = 0x80;
/// The normal video mode.
const VIDEO_NORMAL: u16 = 0xffff;

/// Loads a bzImage at 1 MiB. Returns the registers to start with and where the kernel ends.
pub(super) fn load(
    handover: &Handover<'_>,
    kernel: &mut Image,
    initrd: Option<&mut Image>,
) -> Result<(EntryMode, u64), BootError> {
    let mut zero_page = ZeroPage::from_image(kernel)?;
    let version = zero_page.u16(VERSION);
    if version < OLDEST_VERSION {
        return Err(kernel.bad(KernelFault::OldProtocol(version)));
    }
    let start = GuestAddress(ONE_MIB);
    let loaded = BzImage::load(handover.memory, Some(start), &mut kernel.file, None)
        .map_err(|error| kernel.bad(KernelFault::BzImage(error)))?;
    // What the kernel needs to unpack itself counts as the kernel.
    let end = loaded.kernel_end.max(ONE_MIB + u64::from(zero_page.u32(INIT_SIZE)));
    if let Some(initrd) = initrd {
        let limit = handover.initrd_limit.min(u64::from(zero_page.u32(INITRD_ADDR_MAX)) + 1);
        let range = initrd.load_below(handover.memory, limit, end)?;
        zero_page.put32(RAMDISK_IMAGE, range.start);
        zero_page.put32(RAMDISK_SIZE, range.end - range.start);
    }
    zero_page.fill(handover);
    put(handover.memory, direct::START_INFO, &zero_page.0)?;
    tracing::debug!(version, cmdline = handover.cmdline, "Linux kernel");
    let registers = EntryMode {
        rsi: direct::START_INFO,
        ..entry(loaded.kernel_load.raw_value())
    };
    Ok((registers, loaded.kernel_end))
}

/// `struct boot_params`.
struct ZeroPage([u8; ZERO_PAGE_SIZE]);

impl ZeroPage {
    /// Takes the setup header out of a bzImage.
    fn from_image(kernel: &mut Image) -> Result<Self, BootError> {
        let mut head = [0; HEADER_END_BASE + 0x100];
        let read = kernel
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| kernel.file.read_exact(&mut head));
        read.map_err(|error| kernel.bad(error))?;
        let end = HEADER_END_BASE + usize::from(head[HEADER_END_BASE - 1]);
        let mut page = [0; ZERO_PAGE_SIZE];
        page[HEADER..end].copy_from_slice(&head[HEADER..end]);
        Ok(Self(page))
    }

    fn fill(&mut self, handover: &Handover<'_>) {
        self.0[TYPE_OF_LOADER] = LOADER_UNDEFINED;
        self.0[LOAD_FLAGS] |= CAN_USE_HEAP;
        self.0[HEAP_END_PTR..HEAP_END_PTR + 2].copy_from_slice(&0xfe00_u16.to_le_bytes());
        self.0[VIDEO_MODE..VIDEO_MODE + 2].copy_from_slice(&VIDEO_NORMAL.to_le_bytes());
        self.put32(CMD_LINE_PTR, direct::CMDLINE);
        self.0[ACPI_RSDP_ADDR..ACPI_RSDP_ADDR + 8].copy_from_slice(&handover.rsdp.to_le_bytes());
        self.0[E820_ENTRIES] = u8::try_from(handover.e820.len()).unwrap_or_default();
        let table = self.0[E820_TABLE..].chunks_exact_mut(20);
        for (slot, range) in table.zip(handover.e820) {
            slot.copy_from_slice(&range.to_bytes());
        }
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Stores an address or size below 4 GiB.
    fn put32(&mut self, at: usize, value: u64) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
    }
}
