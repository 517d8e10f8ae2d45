//! The PVH boot protocol (xen/docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h).

use super::error::BootError;
use super::{Handover, Image, elf, entry, put};
use crate::{
    accel::x86_64::EntryMode,
    machine::pc::layout::{ONE_MIB, direct},
};

/// `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336e_c578;
/// The version of `hvm_start_info` that has a memory map.
const START_VERSION: u32 = 1;

/// Loads an ELF file at its own addresses. Returns the registers to start with and where the kernel ends.
pub(super) fn load(
    handover: &Handover<'_>,
    kernel: &mut Image,
    initrd: Option<&mut Image>,
) -> Result<(EntryMode, u64), BootError> {
    let loaded = elf::load(handover.memory, kernel)?;
    let floor = loaded.end.max(ONE_MIB);
    let module = initrd
        .map(|initrd| initrd.load_below(handover.memory, handover.initrd_limit, floor))
        .transpose()?;
    let mut tables: Vec<u8> = Vec::new();
    for range in handover.e820 {
        tables.extend(range.to_bytes());
        tables.extend([0; 4]);
    }
    let modules = direct::PVH_TABLES + u64::try_from(tables.len()).unwrap_or_default();
    if let Some(module) = &module {
        let words = [module.start, module.end - module.start, 0, 0];
        tables.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    put(handover.memory, direct::PVH_TABLES, &tables)?;
    let start_info = StartInfo {
        module_count: u32::from(module.is_some()),
        modules: if module.is_some() { modules } else { 0 },
        rsdp: handover.rsdp,
        range_count: u32::try_from(handover.e820.len()).unwrap_or_default(),
    };
    put(handover.memory, direct::START_INFO, &start_info.to_bytes())?;
    tracing::debug!(entry = loaded.entry, cmdline = handover.cmdline, "PVH kernel");
    let registers = EntryMode {
        rbx: direct::START_INFO,
        ..entry(loaded.entry)
    };
    Ok((registers, loaded.end))
}

/// `struct hvm_start_info`; the addresses that never change are filled in by [`StartInfo::to_bytes`].
struct StartInfo {
    module_count: u32,
    modules: u64,
    rsdp: u64,
    range_count: u32,
}

impl StartInfo {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(56);
        for word in [START_MAGIC, START_VERSION, 0, self.module_count] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [self.modules, direct::CMDLINE, self.rsdp, direct::PVH_TABLES] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [self.range_count, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}
