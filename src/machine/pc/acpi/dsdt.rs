//! The differentiated system description table: what the guest cannot find out by itself.

use std::ops::Range;

use acpi_tables::{
    Aml,
    aml::{
        AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, IO, If,
        Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, Or, Package, PackageBuilder, Path, ResourceTemplate,
        Return, Scope, Store, Uuid,
    },
    sdt::Sdt,
};

use super::{Description, PM_BASE, PM_LEN, aml_bytes, slots, table};
use crate::devices::AcpiDevice;
use crate::devices::pm::Pm;
use crate::machine::pc::layout::{MMCONFIG, VGA_WINDOW};

/// Sleep types as the ICH9's power management control register takes them.
const S3_TYPE: u8 = 1;
const S4_TYPE: u8 = 2;
const S5_TYPE: u8 = 0;

/// PCI Express features the guest may drive itself: hot plug, power events, error reports, capability structure. All
/// five bits that there are but the one for standard hot plug controllers.
const OSC_CONTROL: u8 = 0x1d;
/// Of them, hot plug, which ACPI does itself unless it was switched off.
const OSC_NATIVE_HOTPLUG: u8 = 1;
/// `_OSC` of a PCI host bridge (PCI Firmware Specification 4.5.1).
const OSC_UUID: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";

pub(super) fn dsdt(machine: &Description<'_>) -> Sdt {
    let mut dsdt = table(machine.oem, *b"DSDT", 2);
    dsdt.append_slice(&system_bus(machine));
    dsdt.append_slice(&processors(machine));
    if machine.slots.is_some() {
        dsdt.append_slice(&slots::event());
    }
    for (name, kind, enabled) in [
        ("_S3_", S3_TYPE, machine.s3),
        ("_S4_", S4_TYPE, machine.s4),
        ("_S5_", S5_TYPE, true),
    ] {
        if enabled {
            let state = Package::new(vec![&kind, &kind, &0_u8, &0_u8]);
            dsdt.append_slice(&aml_bytes(&[&Name::new(name.into(), &state)]));
        }
    }
    dsdt
}

fn system_bus(machine: &Description<'_>) -> Vec<u8> {
    let bridge = host_bridge(machine);
    let reserved = reserved_resources();
    Scope::raw("\\_SB_".into(), [bridge, reserved].concat())
}

/// The PCI host bridge, with the devices behind the LPC bridge.
fn host_bridge(machine: &Description<'_>) -> Vec<u8> {
    let children = [
        aml_bytes(&[
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_SEG".into(), &0_u8),
            &Name::new("_BBN".into(), &0_u8),
        ]),
        bridge_resources(machine),
        interrupt_routes(),
        operating_system_capabilities(machine),
        lpc_bridge(machine),
        machine.slots.as_deref().map(slots::below_host).unwrap_or_default(),
    ];
    device("PCI0", children.concat())
}

/// `_CRS`: bus numbers, ports and memory the bridge hands on.
fn bridge_resources(machine: &Description<'_>) -> Vec<u8> {
    let buses = AddressSpace::new_bus_number(0_u16, 255);
    let config = IO::new(0xcf8, 0xcf8, 1, 8);
    let low_ports = AddressSpace::new_io(0_u16, 0xcf7, None);
    let high_ports = AddressSpace::new_io(0xd00_u16, 0xffff, None);
    let vga = memory32(VGA_WINDOW, AddressSpaceCacheable::Cacheable);
    let holes: Vec<_> = machine
        .pci_holes32
        .iter()
        .map(|hole| memory32(hole.clone(), AddressSpaceCacheable::NotCacheable))
        .collect();
    let high = AddressSpace::new_memory(
        AddressSpaceCacheable::Cacheable,
        true,
        machine.pci_hole64.start,
        machine.pci_hole64.end - 1,
        None,
    );
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config, &low_ports, &high_ports, &vga];
    resources.extend(holes.iter().map(|hole| hole as &dyn Aml));
    resources.push(&high);
    aml_bytes(&[&Name::new("_CRS".into(), &ResourceTemplate::new(resources))])
}

fn memory32(range: Range<u64>, cacheable: AddressSpaceCacheable) -> AddressSpace<u32> {
    let [min, max] = [range.start, range.end - 1].map(|addr| u32::try_from(addr).unwrap_or(u32::MAX));
    AddressSpace::new_memory(cacheable, true, min, max, None)
}

/// `_PRT`: which I/O APIC pin each slot's interrupt pins reach.
fn interrupt_routes() -> Vec<u8> {
    let mut routes = PackageBuilder::new();
    for slot in 0..32_u8 {
        for pin in 0..4_u8 {
            let address = u32::from(slot) << 16 | 0xffff;
            routes.add_element(&Package::new(vec![&address, &pin, &0_u8, &pin_gsi(slot, pin)]));
        }
    }
    aml_bytes(&[&Name::new("_PRT".into(), &routes)])
}

/// The global interrupt that pin `pin` (0 for INTA#) of a slot on the root bus reaches.
pub(crate) fn pin_gsi(slot: u8, pin: u8) -> u8 {
    let turned = (slot % 4 + pin) % 4;
    // Slots 25 and up are the chipset's own functions, on the first four of the eight lines.
    if slot >= 25 { 16 + turned } else { 20 + turned }
}

/// `_OSC`: the guest asks what it may drive itself; it gets what it asks for within [`OSC_CONTROL`].
fn operating_system_capabilities(machine: &Description<'_>) -> Vec<u8> {
    let by_acpi = if machine.slots.is_some() { OSC_NATIVE_HOTPLUG } else { 0 };
    let may_have = OSC_CONTROL & !by_acpi;
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let buffer = Arg(3);
    let status_field = CreateDWordField::new(&status, &buffer, &0_u8);
    let control_field = CreateDWordField::new(&control, &buffer, &8_u8);
    let granted = And::new(&Local(0), &control, &may_have);
    let revision_differs = NotEqual::new(&Arg(1), &1_u8);
    let unknown_revision = Or::new(&status, &status, &8_u8);
    let reduced = NotEqual::new(&control, &Local(0));
    let masked = Or::new(&status, &status, &0x10_u8);
    let write_back = Store::new(&control, &Local(0));
    let flag_revision = If::new(&revision_differs, vec![&unknown_revision]);
    let flag_masked = If::new(&reduced, vec![&masked]);
    let uuid = Uuid::new(OSC_UUID);
    let ours = Equal::new(&Arg(0), &uuid);
    let accept = If::new(
        &ours,
        vec![&control_field, &granted, &flag_revision, &flag_masked, &write_back],
    );
    let unknown_uuid = Or::new(&status, &status, &4_u8);
    let refuse = Else::new(vec![&unknown_uuid]);
    let answer = Return::new(&buffer);
    aml_bytes(&[&Method::new(
        "_OSC".into(),
        4,
        false,
        vec![&status_field, &accept, &refuse, &answer],
    )])
}

/// The LPC bridge at 1f.0 and what has fixed ports behind it.
fn lpc_bridge(machine: &Description<'_>) -> Vec<u8> {
    let mut children = aml_bytes(&[&Name::new("_ADR".into(), &0x001f_0000_u32)]);
    children.extend(simple_device("RTC_", "PNP0B00", &[(0x70, 8)], &[8]));
    if machine.keyboard {
        children.extend(simple_device("KBD_", "PNP0303", &[(0x60, 1), (0x64, 1)], &[1]));
        children.extend(simple_device("MOU_", "PNP0F13", &[], &[12]));
    }
    let (mut number, mut panic_port) = (0_u8, None);
    for shown in machine.devices {
        match *shown {
            AcpiDevice::SerialPort(port, irq) => {
                number += 1;
                let uid = aml_bytes(&[&Name::new("_UID".into(), &number)]);
                let body = [resources("PNP0501", &[(port, 8)], &[irq]), uid].concat();
                children.extend(device(&format!("COM{number}"), body));
            }
            AcpiDevice::PanicPort(port) => panic_port = Some(port),
        }
    }
    children.extend(panic_port.into_iter().flat_map(panic_device));
    device("ISA_", children)
}

/// The paravirtual panic device, found by its id; `RDPT` and `WRPT` read and write its port.
fn panic_device(port: u16) -> Vec<u8> {
    use acpi_tables::aml::{
        Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, OpRegion, OpRegionSpace,
    };
    let io = IO::new(port, port, 1, 1);
    let body = aml_bytes(&[
        &Name::new("_HID".into(), &"QEMU0001"),
        &Name::new("_STA".into(), &0xf_u8),
        &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&io])),
        &OpRegion::new("PEOR".into(), OpRegionSpace::SystemIO, &port, &1_u8),
        &Field::new(
            "PEOR".into(),
            FieldAccessType::Byte,
            FieldLockRule::NoLock,
            FieldUpdateRule::Preserve,
            vec![FieldEntry::Named(*b"PEPT", 8)],
        ),
        &Method::new("RDPT".into(), 0, false, vec![&Return::new(&Path::new("PEPT"))]),
        &Method::new("WRPT".into(), 1, false, vec![&Store::new(&Path::new("PEPT"), &Arg(0))]),
    ]);
    device("PEVT", body)
}

/// What PCI must leave alone: MMCONFIG and the power management ports.
fn reserved_resources() -> Vec<u8> {
    let [base, len] =
        [MMCONFIG.start, MMCONFIG.end - MMCONFIG.start].map(|number| u32::try_from(number).unwrap_or_default());
    let config = Memory32Fixed::new(true, base, len);
    let power = IO::new(PM_BASE, PM_BASE, 1, u8::try_from(PM_LEN).unwrap_or(u8::MAX));
    let slots = IO::new(
        Pm::HOTPLUG_PORT,
        Pm::HOTPLUG_PORT,
        1,
        u8::try_from(Pm::HOTPLUG_LEN).unwrap_or(u8::MAX),
    );
    let body = aml_bytes(&[
        &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
        &Name::new("_UID".into(), &1_u8),
        &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&config, &power, &slots])),
    ]);
    device("DRAC", body)
}

/// A device object for each CPU; the MADT says which are there.
fn processors(machine: &Description<'_>) -> Vec<u8> {
    let mut cpus = Vec::new();
    for (uid, _) in (0..machine.present_cpus).zip(&machine.apic_ids) {
        let mut body = aml_bytes(&[&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &uid)]);
        if let Some(node) = machine.numa.node_of_cpu(uid) {
            body.extend(aml_bytes(&[&Name::new("_PXM".into(), &node)]));
        }
        cpus.extend(device(&format!("C{uid:03X}"), body));
    }
    Scope::raw("\\_SB_".into(), cpus)
}

fn simple_device(name: &str, hid: &str, ports: &[(u16, u8)], irqs: &[u8]) -> Vec<u8> {
    device(name, resources(hid, ports, irqs))
}

/// `_HID`, `_STA` and `_CRS` of a device with fixed ports and edge-triggered interrupts.
fn resources(hid: &str, ports: &[(u16, u8)], irqs: &[u8]) -> Vec<u8> {
    let ports: Vec<_> = ports.iter().map(|(port, len)| IO::new(*port, *port, 1, *len)).collect();
    let irqs: Vec<_> = irqs
        .iter()
        .map(|irq| Interrupt::new(true, true, false, false, u32::from(*irq)))
        .collect();
    let mut list: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    list.extend(irqs.iter().map(|irq| irq as &dyn Aml));
    aml_bytes(&[
        &Name::new("_HID".into(), &EISAName::new(hid)),
        &Name::new("_STA".into(), &0xf_u8),
        &Name::new("_CRS".into(), &ResourceTemplate::new(list)),
    ])
}

/// A device object around byte code that is there already.
fn device(name: &str, body: Vec<u8>) -> Vec<u8> {
    let body = Raw(body);
    aml_bytes(&[&Device::new(name.into(), vec![&body])])
}

/// Byte code as it is.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}
