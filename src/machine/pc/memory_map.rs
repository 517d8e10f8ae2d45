//! The address spaces of a PC: memory and ports, and what PCI devices are mapped in.

use std::sync::Arc;

use crate::mem::{AddressSpace, MapError, Mapping, RamBlocks, Region, Topology};

/// What shows nowhere else in memory: RAM and the chipset's registers lie over it.
const PCI_PRIORITY: i32 = -1;
/// Of base address registers, over what else PCI has.
pub(crate) const BAR_PRIORITY: i32 = 1;

/// The address spaces of a PC, without anything in them yet.
pub(crate) struct MemoryMap {
    pub(crate) topology: Arc<Topology>,
    /// What processors and devices see as memory.
    pub(crate) memory: Arc<AddressSpace>,
    /// What processors see as ports.
    pub(crate) ports: Arc<AddressSpace>,
    /// All memory; PCI shows where nothing else is.
    pub(crate) system: Region,
    /// All ports.
    pub(crate) io: Region,
    /// What PCI devices and firmware are mapped in.
    pub(crate) pci: Region,
    /// All RAM and ROM.
    pub(crate) blocks: RamBlocks,
    _pci: Mapping,
}

impl MemoryMap {
    pub(crate) fn new() -> Result<Self, MapError> {
        let topology = Topology::new();
        let system = Region::container("system", u64::MAX);
        let io = Region::container("io", 0xffff);
        let pci = Region::container("pci", u64::MAX);
        let mapped = topology.map(&system, 0, &pci, PCI_PRIORITY)?;
        Ok(Self {
            memory: AddressSpace::new(&topology, &system, 0xff),
            ports: AddressSpace::new(&topology, &io, 0xff),
            topology,
            system,
            io,
            pci,
            blocks: RamBlocks::default(),
            _pci: mapped,
        })
    }

    /// Shows ports.
    pub(crate) fn map_ports(&self, start: u16, ports: &Region) -> Result<Mapping, MapError> {
        self.topology.map(&self.io, start.into(), ports, 0)
    }

    /// Shows memory-mapped registers of the chipset.
    pub(crate) fn map_registers(&self, start: u64, registers: &Region) -> Result<Mapping, MapError> {
        self.topology.map(&self.system, start, registers, 0)
    }
}

impl Drop for MemoryMap {
    fn drop(&mut self) {
        // Devices hold the address spaces that lead to them.
        self.topology.dismantle();
    }
}
