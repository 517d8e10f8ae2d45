//! Guest physical addresses of a PC.

use std::ops::Range;

use crate::machine::config::MemoryConfig;

/// RAM of this size or more leaves the hole below 4 GiB at its full width.
const SPLIT_FROM: u64 = 0xb000_0000;
/// RAM below 4 GiB when it is split.
const SPLIT_LOW: u64 = 0x8000_0000;
/// A GiB, to which windows above 4 GiB are aligned.
const GIB: u64 = 1 << 30;
/// First byte above 4 GiB.
pub(crate) const FOUR_GIB: u64 = 1 << 32;

/// The VGA window: no RAM shows here.
pub(crate) const VGA_WINDOW: Range<u64> = 0xa_0000..0xc_0000;
/// Where ROM shows, or RAM in its place, as the host bridge says.
pub(crate) const ROM_AREA: Range<u64> = 0xc_0000..0x10_0000;
/// The segment that firmware tables are searched in.
pub(crate) const BIOS_SEGMENT: Range<u64> = 0xf_0000..0x10_0000;
/// First byte above 1 MiB.
pub(crate) const ONE_MIB: u64 = 0x10_0000;
/// PCI Express configuration space (MMCONFIG): one MiB for each of 256 buses.
pub(crate) const MMCONFIG: Range<u64> = 0xb000_0000..0xc000_0000;
/// Below 4 GiB, where PCI devices' registers go: from here to the I/O APIC.
pub(crate) const PCI_HOLE_END: u64 = IO_APIC;
/// Four pages that the accelerator may have for itself.
pub(crate) const SCRATCH: Range<u64> = 0xfeff_c000..0xff00_0000;
/// The I/O APIC's registers.
pub(crate) const IO_APIC: u64 = 0xfec0_0000;
/// The local APICs' registers.
pub(crate) const LOCAL_APIC: u64 = 0xfee0_0000;
/// Bytes of the window above RAM for PCI devices' large registers.
pub(crate) const PCI_HOLE64_SIZE: u64 = 32 << 30;

/// Where things for a kernel that is started without firmware go.
pub(crate) mod direct {
    /// The global descriptor table.
    pub(crate) const GDT: u64 = 0x500;
    /// PVH's `hvm_start_info`, or Linux's `boot_params`.
    pub(crate) const START_INFO: u64 = 0x6000;
    /// PVH's memory map and module list.
    pub(crate) const PVH_TABLES: u64 = 0x7000;
    /// The command line.
    pub(crate) const CMDLINE: u64 = 0x2_0000;
    /// Room for the command line, including the NUL.
    pub(crate) const CMDLINE_SIZE: u64 = 0x1_0000;
    /// The extended BIOS data area: end of the RAM below 640 KiB.
    pub(crate) const EBDA: u64 = 0x9_fc00;
    /// The ACPI root pointer, found by a search of the BIOS segment.
    pub(crate) const RSDP: u64 = 0xf_0000;
    /// The SMBIOS entry point, found by a search of the BIOS segment.
    pub(crate) const SMBIOS: u64 = 0xf_0040;
    /// Room for the entry point; the structures follow.
    pub(crate) const SMBIOS_ENTRY_SIZE: u64 = 0x20;
}

/// RAM bytes below and above 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Bytes from 0 on.
    pub(crate) low: u64,
    /// Bytes from 4 GiB on.
    pub(crate) high: u64,
}

impl Split {
    /// How RAM of `size` bytes is split, with at most `max_low` bytes below 4 GiB.
    pub(crate) fn of(size: u64, max_low: u64) -> Self {
        let low = if size >= SPLIT_FROM { SPLIT_LOW } else { size };
        let low = low.min(max_low);
        Self { low, high: size - low }
    }

    /// The windows below 4 GiB for PCI devices' registers.
    pub(crate) fn pci_holes32(self) -> impl Iterator<Item = Range<u64>> {
        let holes = [self.low..MMCONFIG.start, MMCONFIG.end..PCI_HOLE_END];
        holes.into_iter().filter(|hole| !hole.is_empty())
    }

    /// Where memory ends, with that which may be plugged later: it starts at a full GiB, and has one more for each slot, so
    /// that every module finds an aligned place.
    pub(crate) fn memory_end(self, memory: &MemoryConfig) -> u64 {
        let ram_end = FOUR_GIB.saturating_add(self.high);
        let plugged = memory.max_size.saturating_sub(memory.size);
        if plugged == 0 {
            return ram_end;
        }
        let start = ram_end.checked_next_multiple_of(GIB).unwrap_or(u64::MAX);
        start
            .saturating_add(plugged)
            .saturating_add(memory.slots.saturating_mul(GIB))
    }

    /// The window above 4 GiB for PCI devices' registers; `memory_end` is where memory that may be plugged later ends.
    pub(crate) fn pci_hole64(self, memory_end: u64) -> Range<u64> {
        let start = memory_end.max(FOUR_GIB.saturating_add(self.high));
        let start = start.checked_next_multiple_of(GIB).unwrap_or(u64::MAX);
        start..start.saturating_add(PCI_HOLE64_SIZE)
    }

    /// The memory map a kernel started without firmware sees. `acpi` is where tables lie, at the end of low RAM.
    pub(crate) fn e820(self, acpi: Range<u64>) -> Vec<E820Entry> {
        use E820Type::{Acpi, Ram, Reserved};
        let mut entries = vec![
            E820Entry::new(0..direct::EBDA, Ram),
            E820Entry::new(direct::EBDA..VGA_WINDOW.start, Reserved),
            E820Entry::new(BIOS_SEGMENT, Reserved),
            E820Entry::new(ONE_MIB..acpi.start, Ram),
            E820Entry::new(acpi.clone(), Acpi),
            E820Entry::new(acpi.end..self.low, Ram),
            E820Entry::new(MMCONFIG, Reserved),
            E820Entry::new(SCRATCH, Reserved),
            E820Entry::new(FOUR_GIB..FOUR_GIB + self.high, Ram),
        ];
        entries.retain(|entry| entry.size != 0);
        entries
    }
}

/// What a range of guest memory is (ACPI 6.5, 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum E820Type {
    /// Usable.
    Ram = 1,
    /// Not to be touched.
    Reserved = 2,
    /// Tables; usable once they have been read.
    Acpi = 3,
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct E820Entry {
    pub(crate) addr: u64,
    pub(crate) size: u64,
    pub(crate) kind: E820Type,
}

impl E820Entry {
    pub(crate) fn new(range: Range<u64>, kind: E820Type) -> Self {
        Self {
            addr: range.start,
            size: range.end.saturating_sub(range.start),
            kind,
        }
    }

    /// The twenty bytes that Linux, firmware and fw_cfg share.
    pub(crate) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_is_split_at_two_gib() {
        assert_eq!(Split::of(2 * GIB, FOUR_GIB), Split { low: 2 * GIB, high: 0 });
        assert_eq!(Split::of(0xb000_0000 - 1, FOUR_GIB).high, 0);
        assert_eq!(
            Split::of(3 * GIB, GIB),
            Split {
                low: GIB,
                high: 2 * GIB
            }
        );
        assert_eq!(
            Split::of(4 * GIB, FOUR_GIB),
            Split {
                low: 2 * GIB,
                high: 2 * GIB
            }
        );
    }

    #[test]
    fn memory_maps_have_no_empty_or_overlapping_ranges() {
        for size in [64 << 20, GIB, 0xafff_f000, 8 * GIB] {
            let split = Split::of(size, FOUR_GIB);
            let entries = split.e820(split.low - 0x1_0000..split.low);
            let ram: u64 = entries
                .iter()
                .filter(|entry| entry.kind != E820Type::Reserved)
                .map(|entry| entry.size)
                .sum();
            assert_eq!(ram, size - (ONE_MIB - direct::EBDA));
            for pair in entries.windows(2) {
                assert!(pair[0].addr + pair[0].size <= pair[1].addr, "{pair:x?}");
                assert!(pair[0].size > 0);
            }
        }
    }

    #[test]
    fn pci_windows_avoid_ram_and_mmconfig() {
        let holes: Vec<_> = Split::of(GIB, FOUR_GIB).pci_holes32().collect();
        assert_eq!(holes, [GIB..0xb000_0000, 0xc000_0000..0xfec0_0000]);
        let holes: Vec<_> = Split::of(0xb000_0000 - 0x1000, FOUR_GIB)
            .pci_holes32()
            .map(|hole| hole.start)
            .collect();
        assert_eq!(holes, [0xb000_0000 - 0x1000, 0xc000_0000]);
        assert_eq!(Split::of(5 * GIB, FOUR_GIB).pci_hole64(0).start, 7 * GIB);
    }
}
