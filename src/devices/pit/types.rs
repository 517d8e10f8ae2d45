//! The timer's QOM types. In the kernel it is `kvm-pit`.

use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo};

/// What all such timers inherit from.
pub static PIT_COMMON: TypeInfo = TypeInfo {
    name: "pit-common",
    parent: Some("isa-device"),
    is_abstract: true,
    interfaces: &[],
    bus: None,
    user_creatable: false,
    hotpluggable: false,
    description: "",
    properties: &[],
};

/// The timer in the kernel; `-global` sets its property.
pub static KVM_PIT: TypeInfo = TypeInfo {
    name: "kvm-pit",
    parent: Some("pit-common"),
    is_abstract: false,
    description: "KVM's interval timer",
    properties: &[PropertyInfo::new(
        "lost_tick_policy",
        PropertyKind::Enum("LostTickPolicy", &["discard", "delay", "slew"]),
        Default::Str("delay"),
        "What happens to ticks that the guest could not take in time",
    )],
    ..PIT_COMMON
};

/// The timer outside the kernel.
pub static ISA_PIT: TypeInfo = TypeInfo {
    name: "isa-pit",
    parent: Some("pit-common"),
    is_abstract: false,
    description: "Interval timer",
    ..PIT_COMMON
};
