//! The types that everything else inherits from.

use super::types::{Default, PropertyInfo, PropertyKind, TypeInfo};

/// Roots, interfaces, buses, and the abstract parents of devices, accelerators and character devices.
pub static TYPES: &[TypeInfo] = &[
    root(
        "object",
        false,
        &[PropertyInfo::read_only("type", PropertyKind::String, "")],
    ),
    root("interface", true, &[]),
    interface("user-creatable"),
    interface("hotplug-handler"),
    interface("vmstate-if"),
    interface("resettable"),
    interface("nmi"),
    interface("conventional-pci-device"),
    interface("pci-express-device"),
    plain("container", "object"),
    device("device", "object", None, &DEVICE),
    device("cpu", "device", None, &[]),
    device("sys-bus-device", "device", Some("System"), &[]),
    device("isa-device", "device", Some("ISA"), &[]),
    device("pci-device", "device", Some("PCI"), &PCI_DEVICE),
    device("ccw-device", "device", Some("virtual-css-bus"), &[]),
    parent("bus", "object", &BUS),
    plain("System", "bus"),
    plain("ISA", "bus"),
    plain("PCI", "bus"),
    plain("PCIE", "PCI"),
    plain("virtio-bus", "bus"),
    plain("virtio-pci-bus", "virtio-bus"),
    plain("virtual-css-bus", "bus"),
    parent("chardev", "object", &[]),
    parent("chardev-fd", "chardev", &[]),
];

/// What every device has. `realized` and its kin belong to the instance and are not set by users.
const DEVICE: [PropertyInfo; 4] = [
    PropertyInfo::read_only("parent_bus", PropertyKind::Link("bus"), ""),
    PropertyInfo::read_only("realized", PropertyKind::Bool, ""),
    PropertyInfo::read_only("hotplugged", PropertyKind::Bool, ""),
    PropertyInfo::read_only("hotpluggable", PropertyKind::Bool, ""),
];

/// What every device on a PCI bus has.
const PCI_DEVICE: [PropertyInfo; 7] = [
    PropertyInfo::new(
        "addr",
        PropertyKind::PciAddr,
        Default::Int(-1),
        "Slot and optional function number, example: 06.0 or 06",
    ),
    PropertyInfo::new("multifunction", PropertyKind::Bool, Default::Bool(false), "on/off"),
    PropertyInfo::new("acpi-index", PropertyKind::Uint32, Default::Uint(0), ""),
    PropertyInfo::new("rombar", PropertyKind::Int32, Default::Int(-1), ""),
    PropertyInfo::new("romfile", PropertyKind::Str, Default::None, ""),
    PropertyInfo::new("romsize", PropertyKind::Uint32, Default::Uint(u32::MAX as u64), ""),
    PropertyInfo::new("x-pcie-ext-tag", PropertyKind::Bool, Default::Bool(true), "on/off"),
];

const BUS: [PropertyInfo; 1] = [PropertyInfo::read_only("realized", PropertyKind::Bool, "")];

const fn root(name: &'static str, is_abstract: bool, properties: &'static [PropertyInfo]) -> TypeInfo {
    TypeInfo {
        name,
        parent: None,
        is_abstract,
        interfaces: &[],
        bus: None,
        user_creatable: false,
        hotpluggable: false,
        description: "",
        properties,
    }
}

const fn interface(name: &'static str) -> TypeInfo {
    parent(name, "interface", &[])
}

const fn parent(name: &'static str, of: &'static str, properties: &'static [PropertyInfo]) -> TypeInfo {
    TypeInfo {
        parent: Some(of),
        ..root(name, true, properties)
    }
}

const fn plain(name: &'static str, of: &'static str) -> TypeInfo {
    TypeInfo {
        parent: Some(of),
        ..root(name, false, &[])
    }
}

const fn device(
    name: &'static str,
    of: &'static str,
    bus: Option<&'static str>,
    properties: &'static [PropertyInfo],
) -> TypeInfo {
    TypeInfo {
        bus,
        ..parent(name, of, properties)
    }
}
