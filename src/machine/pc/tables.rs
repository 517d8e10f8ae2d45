//! What firmware or a kernel is told about the machine: ACPI, SMBIOS, the memory map.

use super::{
    acpi::{self, Description, SlotPort},
    boot::{FirmwareTables, acpi_range},
    error::PcError,
    layout::{BIOS_SEGMENT, E820Entry, E820Type, FOUR_GIB, MMCONFIG, SCRATCH, direct},
    options::Options,
    pci::FunctionView,
    ram::Ram,
    smbios::{Inventory, Smbios, Spot},
};
use crate::{
    devices::AcpiDevice,
    machine::{config::MachineConfig, config::SmpConfig, numa::Numa, topology, types::MachineType},
    qapi::Error,
};

/// What the tables are made from.
pub(crate) struct Facts<'a> {
    pub(crate) machine: &'a MachineType,
    pub(crate) config: &'a MachineConfig,
    pub(crate) options: &'a Options,
    pub(crate) smp: SmpConfig,
    pub(crate) numa: &'a Numa,
    pub(crate) ram: &'a Ram,
    /// CPUID leaf 1, EAX and EDX, as the CPU model has them.
    pub(crate) processor_id: u64,
    /// The PCI functions.
    pub(crate) pci: &'a [FunctionView],
    /// Devices that nobody could find otherwise.
    pub(crate) devices: Vec<AcpiDevice>,
    /// Ports into whose slots devices come by ACPI, if they do.
    pub(crate) slots: Option<Vec<SlotPort>>,
}

impl Facts<'_> {
    /// Tables at the addresses a kernel without firmware finds them at.
    pub(crate) fn for_kernel(&self) -> Result<FirmwareTables, Error> {
        let smbios = self.smbios()?;
        let structures = direct::SMBIOS + direct::SMBIOS_ENTRY_SIZE;
        let mut tables = FirmwareTables {
            smbios: smbios.entry_point(structures),
            ..FirmwareTables::default()
        };
        let room = usize::try_from(direct::SMBIOS_ENTRY_SIZE).unwrap_or_default();
        tables.smbios.resize(room, 0);
        tables.smbios.extend(&smbios.structures);
        let end = direct::SMBIOS + u64::try_from(tables.smbios.len()).unwrap_or(u64::MAX);
        if end > BIOS_SEGMENT.end {
            return Err(PcError::LongSmbios.into());
        }
        if self.options.acpi {
            let blob = acpi::build(&self.description(false));
            let base = acpi_range(self.ram.split, blob.len())?.start;
            (tables.rsdp, tables.acpi) = blob.place(base);
        }
        Ok(tables)
    }

    /// Files for firmware, by their fw_cfg names.
    pub(crate) fn for_firmware(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let smbios = self.smbios()?;
        let mut files = vec![
            ("etc/smbios/smbios-anchor", smbios.entry_point(0)),
            ("etc/smbios/smbios-tables", smbios.structures),
            ("etc/e820", self.e820()),
            ("etc/system-states", self.system_states().to_vec()),
        ];
        if self.options.acpi {
            files.extend(acpi::build(&self.description(true)).firmware_files());
        }
        Ok(files)
    }

    fn smbios(&self) -> Result<Smbios, Error> {
        Smbios::new(&Inventory {
            machine_type: self.machine.name,
            product: self.machine.description,
            uuid: self.config.uuid,
            smp: self.smp,
            processor_id: self.processor_id,
            ram: (self.ram.split.low, self.ram.split.high),
            options: &self.config.smbios,
            entry_point: self.options.smbios_entry_point,
            find_device: &|id| find_device(self.pci, id),
        })
    }

    fn description(&self, legacy_start: bool) -> Description<'_> {
        let regions = self
            .ram
            .blocks
            .iter()
            .flat_map(|block| block.pieces.iter().map(move |piece| (block, piece)));
        let ram = regions.map(|(block, piece)| (piece.guest_addr..piece.guest_addr + piece.size, block.node));
        let memory_end = self.ram.split.memory_end(&self.config.memory);
        Description {
            oem: self.options.oem,
            apic_ids: (0..self.smp.max_cpus)
                .map(|index| topology::apic_id(index, &self.smp))
                .collect(),
            present_cpus: self.smp.cpus,
            numa: self.numa,
            ram: ram.collect(),
            pci_holes32: self.ram.split.pci_holes32().collect(),
            pci_hole64: self.ram.split.pci_hole64(memory_end),
            devices: &self.devices,
            slots: self.slots.clone(),
            keyboard: self.options.i8042,
            s3: !self.options.disable_s3,
            s4: !self.options.disable_s4,
            legacy_start,
        }
    }

    /// RAM and what firmware cannot know to be reserved.
    fn e820(&self) -> Vec<u8> {
        let split = self.ram.split;
        let mut entries = vec![
            E820Entry::new(0..split.low, E820Type::Ram),
            E820Entry::new(SCRATCH, E820Type::Reserved),
        ];
        if split.high != 0 {
            entries.push(E820Entry::new(FOUR_GIB..FOUR_GIB + split.high, E820Type::Ram));
        }
        debug_assert!(split.low <= MMCONFIG.start);
        entries.into_iter().flat_map(E820Entry::to_bytes).collect()
    }

    /// Sleep states S0 to S5: bit 7 says that one is there, the other bits are its type.
    fn system_states(&self) -> [u8; 6] {
        let present = |there: bool, kind: u8| if there { 0x80 | kind } else { kind };
        [
            0x80,
            0,
            0,
            present(!self.options.disable_s3, 1),
            present(!self.options.disable_s4, 2),
            0x80,
        ]
    }
}

/// Where the PCI device with this id is, on the root bus or behind a bridge.
fn find_device(functions: &[FunctionView], id: &str) -> Option<Spot> {
    let on_root = functions.iter().find(|function| function.id.as_deref() == Some(id));
    if let Some(function) = on_root {
        return Some(Some(function.devfn));
    }
    let mut behind = functions.iter().filter_map(|function| function.behind.as_deref());
    behind.any(|behind| find_device(behind, id).is_some()).then_some(None)
}
