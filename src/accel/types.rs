//! The accelerators as types.

use crate::qom::TypeInfo;
use crate::target::Target;

/// The base type and every accelerator that `target`'s emulator has.
pub fn types(target: Target) -> impl Iterator<Item = &'static TypeInfo> {
    TYPES
        .iter()
        .filter(move |info| info.name != "kvm-accel" || target.is_native())
}

static TYPES: [TypeInfo; 3] = [
    accelerator("accel", "object", true, "What runs a guest"),
    accelerator("kvm-accel", "accel", false, "The Linux kernel's virtual machines"),
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
