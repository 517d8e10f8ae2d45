//! A registry with two devices, for the tests of this room.

use super::registry::Registry;
use super::types::{Default, PropertyInfo, PropertyKind, TypeInfo};

const SERIAL: [PropertyInfo; 5] = [
    PropertyInfo::new("index", PropertyKind::Uint32, Default::Uint(0xffff_ffff), "which port"),
    PropertyInfo::new("iobase", PropertyKind::Uint32, Default::Uint(0xffff_ffff), ""),
    PropertyInfo::new("wakeup", PropertyKind::Bool, Default::Bool(false), ""),
    PropertyInfo::new(
        "chardev",
        PropertyKind::Chardev,
        Default::None,
        "ID of a chardev to use as a backend",
    ),
    PropertyInfo::new(
        "irq-mode",
        PropertyKind::Enum("IrqMode", &["edge", "level"]),
        Default::Str("edge"),
        "",
    ),
];

static TYPES: [TypeInfo; 2] = [
    TypeInfo {
        name: "test-serial",
        parent: Some("isa-device"),
        is_abstract: false,
        interfaces: &[],
        bus: None,
        user_creatable: true,
        hotpluggable: false,
        description: "",
        properties: &SERIAL,
    },
    TypeInfo {
        name: "test-port",
        parent: Some("pci-device"),
        is_abstract: false,
        interfaces: &["pci-express-device"],
        bus: None,
        user_creatable: true,
        hotpluggable: true,
        description: "A port",
        properties: &[],
    },
];

/// What every binary has, and two devices.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add(&TYPES).expect("the names are new");
    registry
}
