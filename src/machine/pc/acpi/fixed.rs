//! The tables without byte code.

use acpi_tables::sdt::Sdt;

use super::{Description, PM_BASE, RESET_PORT, SCI, table};
use crate::machine::pc::layout::{IO_APIC, LOCAL_APIC, MMCONFIG};

/// Offsets of pointers in the FADT.
pub(super) const FADT_FACS: usize = 36;
pub(super) const FADT_DSDT: usize = 40;
pub(super) const FADT_X_DSDT: usize = 140;

/// The port that switches ACPI mode on and off, and what to write there.
const SMI_COMMAND: u32 = 0xb2;
const ACPI_ENABLE: u8 = 2;
const ACPI_DISABLE: u8 = 3;
/// What to write to the reset control register.
const RESET_VALUE: u8 = 0x0f;

/// Flags of the FADT: WBINVD works, C1 works, the sleep button is no fixed one, the clock wakes from S4, there is a reset
/// register.
const FADT_FLAGS: u32 = 1 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 10;
/// More CPUs than the flat APIC mode can address.
const FADT_FORCE_PHYSICAL: u32 = 1 << 19;
/// IA-PC boot flags: there are legacy devices, a keyboard controller.
const LEGACY_DEVICES: u16 = 1;
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
/// IA-PC boot flags: there is no VGA before a driver finds one.
const VGA_NOT_PRESENT: u16 = 1 << 2;

/// Largest id a local APIC without x2APIC can have.
const MAX_XAPIC_ID: u32 = 254;

/// Firmware ACPI control structure: the waking vector. It has no checksum.
pub(super) fn facs() -> [u8; 64] {
    let mut facs = [0; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = 64;
    facs
}

/// Fixed ACPI description table: the ICH9's power management.
pub(super) fn fadt(machine: &Description<'_>) -> Sdt {
    let mut fadt = table(machine.oem, *b"FACP", 3);
    fadt.append_slice(&[0; 244 - 36]);
    fadt.write_u8(45, 0);
    fadt.write_u16(46, SCI.into());
    if machine.legacy_start {
        fadt.write_u32(48, SMI_COMMAND);
        fadt.write_u8(52, ACPI_ENABLE);
        fadt.write_u8(53, ACPI_DISABLE);
    }
    let base = u32::from(PM_BASE);
    for (offset, port) in [(56, base), (64, base + 4), (76, base + 8), (80, base + 0x20)] {
        fadt.write_u32(offset, port);
    }
    // Lengths of event, control, second control, timer and general purpose event blocks.
    for (offset, len) in [(88, 4), (89, 2), (91, 4), (92, 16)] {
        fadt.write_u8(offset, len);
    }
    // C2 and C3 take longer than the guest may use them.
    fadt.write_u16(96, 0xfff);
    fadt.write_u16(98, 0xfff);
    // The CMOS byte of the century.
    fadt.write_u8(108, 0x32);
    let keyboard = if machine.keyboard { KEYBOARD_CONTROLLER } else { 0 };
    fadt.write_u16(109, LEGACY_DEVICES | keyboard | VGA_NOT_PRESENT);
    let many = if machine.apic_ids.len() > 8 {
        FADT_FORCE_PHYSICAL
    } else {
        0
    };
    fadt.write_u32(112, FADT_FLAGS | many);
    fadt.write_bytes(116, &io_register(u64::from(RESET_PORT), 8));
    fadt.write_u8(128, RESET_VALUE);
    let wide = [
        (148, base, 32),
        (172, base + 4, 16),
        (208, base + 8, 32),
        (220, base + 0x20, 128),
    ];
    for (offset, port, bits) in wide {
        fadt.write_bytes(offset, &io_register(u64::from(port), bits));
    }
    fadt
}

/// A generic address structure for ports.
fn io_register(port: u64, bits: u8) -> [u8; 12] {
    let mut register = [0; 12];
    register[0] = 1;
    register[1] = bits;
    register[4..].copy_from_slice(&port.to_le_bytes());
    register
}

/// Multiple APIC description table.
pub(super) fn madt(machine: &Description<'_>) -> Sdt {
    let mut madt = table(machine.oem, *b"APIC", 3);
    madt.append_slice(&u32::try_from(LOCAL_APIC).unwrap_or_default().to_le_bytes());
    madt.append_slice(&1_u32.to_le_bytes());
    for (uid, apic_id) in (0_u32..).zip(&machine.apic_ids) {
        // CPUs that may come later are "online capable", not enabled.
        let flags: u32 = if uid < machine.present_cpus { 1 } else { 2 };
        madt.append_slice(&local_apic(uid, *apic_id, flags));
    }
    let io_apic = u32::try_from(IO_APIC).unwrap_or_default();
    let mut entry = vec![1, 12, 0, 0];
    entry.extend(io_apic.to_le_bytes());
    entry.extend(0_u32.to_le_bytes());
    madt.append_slice(&entry);
    madt.append_slice(&source_override(0, 2, 0));
    for irq in [5, 9, 10, 11] {
        // Level-triggered, active high.
        madt.append_slice(&source_override(irq, u32::from(irq), 0xd));
    }
    if machine.apic_ids.iter().any(|id| *id > MAX_XAPIC_ID) {
        madt.append_slice(&[0xa, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    } else {
        madt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    }
    madt
}

fn local_apic(uid: u32, apic_id: u32, flags: u32) -> Vec<u8> {
    let small = (
        u8::try_from(uid),
        u8::try_from(apic_id).ok().filter(|_| apic_id <= MAX_XAPIC_ID),
    );
    let mut entry = match small {
        (Ok(uid), Some(apic_id)) => vec![0, 8, uid, apic_id],
        _ => [vec![9, 16, 0, 0], apic_id.to_le_bytes().to_vec()].concat(),
    };
    entry.extend(flags.to_le_bytes());
    if entry[0] == 9 {
        entry.extend(uid.to_le_bytes());
    }
    entry
}

fn source_override(irq: u8, gsi: u32, flags: u16) -> Vec<u8> {
    let mut entry = vec![2, 10, 0, irq];
    entry.extend(gsi.to_le_bytes());
    entry.extend(flags.to_le_bytes());
    entry
}

/// PCI Express memory-mapped configuration space.
pub(super) fn mcfg(machine: &Description<'_>) -> Sdt {
    let mut mcfg = table(machine.oem, *b"MCFG", 1);
    mcfg.append_slice(&[0; 8]);
    mcfg.append_slice(&MMCONFIG.start.to_le_bytes());
    mcfg.append_slice(&[0, 0, 0, 255, 0, 0, 0, 0]);
    mcfg
}

/// System resource affinity table: which CPUs and memory belong to which node.
pub(super) fn srat(machine: &Description<'_>) -> Sdt {
    let mut srat = table(machine.oem, *b"SRAT", 1);
    srat.append_slice(&1_u32.to_le_bytes());
    srat.append_slice(&[0; 8]);
    for (index, apic_id) in (0..).zip(&machine.apic_ids) {
        let node = u32::from(machine.numa.node_of_cpu(index).unwrap_or_default());
        srat.append_slice(&cpu_affinity(*apic_id, node));
    }
    for (range, node) in &machine.ram {
        let mut entry = vec![1, 40];
        entry.extend(u32::from(node.unwrap_or_default()).to_le_bytes());
        entry.extend([0; 2]);
        entry.extend(range.start.to_le_bytes());
        entry.extend((range.end - range.start).to_le_bytes());
        entry.extend([0; 4]);
        entry.extend(1_u32.to_le_bytes());
        entry.extend([0; 8]);
        srat.append_slice(&entry);
    }
    srat
}

fn cpu_affinity(apic_id: u32, node: u32) -> Vec<u8> {
    let [low, high @ ..] = node.to_le_bytes();
    match u8::try_from(apic_id).ok().filter(|_| apic_id <= MAX_XAPIC_ID) {
        Some(apic_id) => {
            let mut entry = vec![0, 16, low, apic_id, 1, 0, 0, 0, 0];
            entry.extend(high);
            entry.extend([0; 4]);
            entry
        }
        None => {
            let mut entry = vec![2, 24, 0, 0];
            entry.extend(node.to_le_bytes());
            entry.extend(apic_id.to_le_bytes());
            entry.extend(1_u32.to_le_bytes());
            entry.extend([0; 8]);
            entry
        }
    }
}

/// System locality table: distances between nodes.
pub(super) fn slit(machine: &Description<'_>) -> Sdt {
    let numa = machine.numa;
    let mut slit = table(machine.oem, *b"SLIT", 1);
    slit.append_slice(&u64::try_from(numa.nodes.len()).unwrap_or_default().to_le_bytes());
    for from in numa.nodes.keys() {
        let row: Vec<u8> = numa.nodes.keys().map(|to| numa.distance(*from, *to)).collect();
        slit.append_slice(&row);
    }
    slit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::numa::Numa;
    use crate::machine::pc::acpi::tests::description;

    #[test]
    fn cpus_beyond_the_xapic_get_the_long_form() {
        let numa = Numa::default();
        let madt = madt(&description(&numa));
        let body = &madt.as_slice()[44..];
        assert_eq!(body[..8], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(body[8..16], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(body[16..32], [9, 16, 0, 0, 44, 1, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn affinity_entries_have_the_length_they_say() {
        for apic_id in [0, 300] {
            let entry = cpu_affinity(apic_id, 1);
            assert_eq!(entry.len(), usize::from(entry[1]));
        }
    }

    #[test]
    fn the_fixed_table_names_the_reset_register() {
        let numa = Numa::default();
        let fadt = fadt(&description(&numa));
        let bytes = fadt.as_slice();
        assert_eq!(bytes.len(), 244);
        assert_eq!(bytes[116..129], [1, 8, 0, 0, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 0x0f]);
        assert_eq!(bytes[48..54], [0; 6], "ACPI mode is on from the start");
    }
}
