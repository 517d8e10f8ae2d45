//! The accelerators as types.

use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::target::Target;

/// The base type and every accelerator that `target`'s emulator has.
pub fn types(target: Target) -> impl Iterator<Item = &'static TypeInfo> {
    TYPES
        .iter()
        .filter(move |info| info.name != "kvm-accel" || target.is_native())
}

static TYPES: [TypeInfo; 3] = [
    accelerator("accel", "object", true, "What runs a guest"),
    TypeInfo {
        properties: &[
            PropertyInfo::new(
                "kernel-irqchip",
                PropertyKind::Enum("on|off|split", &["on", "off", "split"]),
                Default::Str("on"),
                "Configure KVM in-kernel irqchip",
            ),
            PropertyInfo::new(
                "kvm-shadow-mem",
                PropertyKind::Int,
                Default::Int(-1),
                "KVM shadow MMU size",
            ),
            PropertyInfo::new(
                "dirty-ring-size",
                PropertyKind::Uint32,
                Default::Uint(0),
                "Size of KVM dirty page ring buffer, 0 for a bitmap",
            ),
        ],
        ..accelerator("kvm-accel", "accel", false, "The Linux kernel's virtual machines")
    },
    accelerator(
        "hostfile-accel",
        "accel",
        false,
        "A described host: answers questions, runs nothing",
    ),
];

const fn accelerator(
    name: &'static str,
    parent: &'static str,
    is_abstract: bool,
    description: &'static str,
) -> TypeInfo {
    TypeInfo {
        name,
        parent: Some(parent),
        is_abstract,
        interfaces: &[],
        bus: None,
        user_creatable: false,
        hotpluggable: false,
        description,
        properties: &[],
    }
}
