//! QOM types of CPUs and their properties.

use super::tables::{MODEL_PROPERTIES, MODEL_TYPES};
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo};

/// The abstract type all models inherit from.
pub const CPU: &str = "s390x-cpu";
/// The type of the model `qemu`.
pub const QEMU: &str = "qemu-s390x-cpu";
/// The type of the model `max`.
pub const MAX: &str = "max-s390x-cpu";
/// The type of the model `host`; exists where an accelerator has a host model.
pub const HOST: &str = "host-s390x-cpu";

/// Properties of every CPU, beside those of `cpu` and `device` and the switches of its model.
pub static CPU_PROPERTIES: [PropertyInfo; 6] = [
    PropertyInfo::new(
        "core-id",
        PropertyKind::Uint32,
        Default::Uint(0),
        "number of the core, counted over the guest",
    ),
    PropertyInfo::new(
        "socket-id",
        PropertyKind::Int32,
        Default::Int(-1),
        "socket the core is in",
    ),
    PropertyInfo::new(
        "book-id",
        PropertyKind::Int32,
        Default::Int(-1),
        "book the socket is in",
    ),
    PropertyInfo::new(
        "drawer-id",
        PropertyKind::Int32,
        Default::Int(-1),
        "drawer the book is in",
    ),
    PropertyInfo::new(
        "entitlement",
        PropertyKind::Enum("S390CpuEntitlement", &["auto", "low", "medium", "high"]),
        Default::Str("auto"),
        "share of a physical CPU with vertical polarization",
    ),
    PropertyInfo::new(
        "dedicated",
        PropertyKind::Bool,
        Default::Bool(false),
        "a physical CPU serves this one alone",
    ),
];

/// Properties of every model that describe it and cannot be set.
pub(super) const READ_ONLY: [PropertyInfo; 4] = [
    PropertyInfo::read_only(
        "migration-safe",
        PropertyKind::Bool,
        "a guest keeps its CPU when it moves",
    ),
    PropertyInfo::read_only("static", PropertyKind::Bool, "the model never changes"),
    PropertyInfo::read_only(
        "description",
        PropertyKind::Other("string"),
        "what the model is made after",
    ),
    PropertyInfo::read_only(
        "crash-information",
        PropertyKind::Other("GuestPanicInformation"),
        "why the guest crashed",
    ),
];

/// Properties that `device` and `cpu` declare, as far as a model query accepts or refuses them by their own rules.
pub(super) static INHERITED: [PropertyInfo; 8] = [
    PropertyInfo::read_only("type", PropertyKind::Other("string"), ""),
    PropertyInfo::read_only("parent_bus", PropertyKind::Link("bus"), ""),
    PropertyInfo::read_only("hotplugged", PropertyKind::Bool, ""),
    PropertyInfo::read_only("hotpluggable", PropertyKind::Bool, ""),
    PropertyInfo::read_only("legacy-memory", PropertyKind::Str, ""),
    PropertyInfo::new("realized", PropertyKind::Bool, Default::None, ""),
    PropertyInfo::new("start-powered-off", PropertyKind::Bool, Default::Bool(false), ""),
    PropertyInfo::new("memory", PropertyKind::Link("memory-region"), Default::None, ""),
];

/// The abstract type.
pub static CPU_TYPE: TypeInfo = TypeInfo {
    name: CPU,
    parent: Some("cpu"),
    is_abstract: true,
    interfaces: &[],
    bus: None,
    user_creatable: false,
    hotpluggable: false,
    description: "S390 CPU",
    properties: &CPU_PROPERTIES,
};

/// The models `qemu`, `max` and `host`.
static SPECIAL_TYPES: [TypeInfo; 3] = [model_type(QEMU), model_type(MAX), model_type(HOST)];

/// Every type of CPU, `s390x-cpu` included; `host` only if an accelerator has a host model.
pub fn cpu_types(with_host: bool) -> impl Iterator<Item = &'static TypeInfo> {
    let models = SPECIAL_TYPES
        .iter()
        .chain(&MODEL_TYPES)
        .filter(move |model| with_host || model.name != HOST);
    std::iter::once(&CPU_TYPE).chain(models)
}

/// The type of one model.
pub(super) const fn model_type(name: &'static str) -> TypeInfo {
    TypeInfo {
        name,
        parent: Some(CPU),
        is_abstract: false,
        interfaces: &[],
        bus: None,
        user_creatable: true,
        hotpluggable: true,
        description: "S390 CPU model",
        properties: &MODEL_PROPERTIES,
    }
}
