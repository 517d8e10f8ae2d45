//! ACPI tables (ACPI specification 6.5).

mod blob;
mod dsdt;
mod fixed;
mod slots;

use std::ops::Range;

use acpi_tables::{Aml, sdt::Sdt};

pub(crate) use blob::Blob;
pub(crate) use dsdt::pin_gsi;
pub(crate) use slots::SlotPort;

use crate::devices::AcpiDevice;
use crate::machine::numa::Numa;

const OEM_REVISION: u32 = 1;

/// The manufacturer's ids in the headers of tables, filled up with blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oem {
    /// Whose tables they are.
    pub(crate) id: [u8; 6],
    /// Which tables of the manufacturer's they are.
    pub(crate) table_id: [u8; 8],
}

impl Default for Oem {
    /// What guests have always seen. Some tie a licence to it.
    fn default() -> Self {
        Self {
            id: *b"BOCHS ",
            table_id: *b"BXPC    ",
        }
    }
}

/// The interrupt of the fixed ACPI hardware.
pub(crate) const SCI: u8 = 9;
/// The first port of the fixed ACPI hardware (ICH9 PMBASE).
pub(crate) const PM_BASE: u16 = 0x600;
/// Ports of the fixed ACPI hardware.
pub(crate) const PM_LEN: u16 = 0x80;
/// The reset control register.
pub(crate) const RESET_PORT: u16 = 0xcf9;

/// What the tables tell.
#[derive(Clone, Debug)]
pub(crate) struct Description<'a> {
    /// Ids in table headers.
    pub(crate) oem: Oem,
    /// APIC ids by CPU index, those that may be plugged in later included.
    pub(crate) apic_ids: Vec<u32>,
    /// CPUs that are there from the start.
    pub(crate) present_cpus: u32,
    /// NUMA nodes of CPUs.
    pub(crate) numa: &'a Numa,
    /// RAM ranges and their NUMA nodes.
    pub(crate) ram: Vec<(Range<u64>, Option<u16>)>,
    /// Windows below 4 GiB for PCI devices' registers.
    pub(crate) pci_holes32: Vec<Range<u64>>,
    /// Window above 4 GiB for PCI devices' registers.
    pub(crate) pci_hole64: Range<u64>,
    /// Devices that nobody could find otherwise.
    pub(crate) devices: &'a [AcpiDevice],
    /// The ports into whose slots devices come by ACPI; none where they come by the ports' own registers.
    pub(crate) slots: Option<Vec<SlotPort>>,
    /// Whether there is a keyboard controller.
    pub(crate) keyboard: bool,
    /// Whether the guest may sleep (S3).
    pub(crate) s3: bool,
    /// Whether the guest may hibernate (S4).
    pub(crate) s4: bool,
    /// Whether ACPI mode has to be switched on through port 0xb2. It is on from the start without firmware.
    pub(crate) legacy_start: bool,
}

/// Makes all tables.
pub(crate) fn build(machine: &Description<'_>) -> Blob {
    let mut blob = Blob::default();
    let facs = blob.add_raw(&fixed::facs(), 64);
    let dsdt = blob.add(&dsdt::dsdt(machine));
    let fadt = blob.add(&fixed::fadt(machine));
    blob.point(fadt + fixed::FADT_FACS, 4, facs);
    blob.point(fadt + fixed::FADT_DSDT, 4, dsdt);
    blob.point(fadt + fixed::FADT_X_DSDT, 8, dsdt);
    let mut listed = vec![fadt, blob.add(&fixed::madt(machine)), blob.add(&fixed::mcfg(machine))];
    if machine.numa.is_enabled() {
        listed.push(blob.add(&fixed::srat(machine)));
    }
    if machine.numa.has_distances() {
        listed.push(blob.add(&fixed::slit(machine)));
    }
    let mut xsdt = table(machine.oem, *b"XSDT", 1);
    xsdt.append_slice(&vec![0; 8 * listed.len()]);
    let xsdt = blob.add(&xsdt);
    for (index, target) in listed.into_iter().enumerate() {
        blob.point(xsdt + HEADER_SIZE + 8 * index, 8, target);
    }
    blob.finish(xsdt, machine.oem.id);
    blob
}

/// Size of the header all tables but FACS have.
const HEADER_SIZE: usize = 36;

/// A table that holds nothing but its header.
fn table(oem: Oem, signature: [u8; 4], revision: u8) -> Sdt {
    let size = u32::try_from(HEADER_SIZE).unwrap_or_default();
    Sdt::new(signature, size, revision, oem.id, oem.table_id, OEM_REVISION)
}

/// The byte code of a list of objects.
fn aml_bytes(objects: &[&dyn Aml]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for object in objects {
        object.to_aml_bytes(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn description(numa: &Numa) -> Description<'_> {
        Description {
            oem: Oem::default(),
            apic_ids: vec![0, 1, 300],
            present_cpus: 2,
            numa,
            ram: vec![(0..1 << 30, Some(0))],
            pci_holes32: vec![1 << 30..0xb000_0000, 0xc000_0000..0xfec0_0000],
            pci_hole64: 1 << 34..1 << 35,
            devices: &[AcpiDevice::SerialPort(0x3f8, 4), AcpiDevice::PanicPort(0x505)],
            slots: None,
            keyboard: true,
            s3: true,
            s4: false,
            legacy_start: false,
        }
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn word(bytes: &[u8], at: usize) -> usize {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_sums_to_zero() {
        const BASE: usize = 0x3fe_0000;
        let numa = Numa::default();
        let (rsdp, tables) = build(&description(&numa)).place(BASE as u64);
        assert_eq!(
            (&rsdp[..8], sum(&rsdp[..20]), sum(&rsdp)),
            (b"RSD PTR ".as_slice(), 0, 0)
        );
        let table = |addr: usize| {
            let at = addr - BASE;
            let table = &tables[at..at + word(&tables, at + 4)];
            assert_eq!(sum(table), 0, "{:?}", String::from_utf8_lossy(&table[..4]));
            table
        };
        let xsdt = table(word(&rsdp, 24));
        let names: Vec<_> = (HEADER_SIZE..xsdt.len())
            .step_by(8)
            .map(|at| table(word(xsdt, at))[..4].to_vec())
            .collect();
        assert_eq!(names, [*b"FACP", *b"APIC", *b"MCFG"]);
        let fadt = table(word(xsdt, HEADER_SIZE));
        assert_eq!(&table(word(fadt, fixed::FADT_DSDT))[..4], b"DSDT");
        assert_eq!(&tables[word(fadt, fixed::FADT_FACS) - BASE..][..4], b"FACS");
        assert_eq!(word(fadt, fixed::FADT_FACS) % 64, 0);
    }
}
