//! Options that make objects by type and properties.

use super::groups;
use crate::cmdline::objects;
use crate::cmdline::option::{OptionInfo, Section};

/// `-blockdev`, `-device`, `-object`, `-global`.
pub(super) static OPTIONS: &[OptionInfo] = &[
    OptionInfo::keyval(
        "blockdev",
        "[driver=]driver,node-name=name[,option=value][,...] | {json}",
        Section::Block,
        "make a node that disks are made of, as blockdev-add does",
        &groups::BLOCKDEV,
        objects::apply_blockdev,
    )
    .or_json(),
    OptionInfo::properties(
        "device",
        "[driver=]type[,prop=value][,...] | {json}",
        Section::Generic,
        "plug in a device; -device help lists the types, -device type,help their properties",
        &groups::DEVICE,
        objects::apply_device,
    ),
    OptionInfo::properties(
        "object",
        "[qom-type=]type,id=id[,prop=value][,...] | {json}",
        Section::Generic,
        "make an object; -object help lists the types, -object type,help their properties",
        &groups::OBJECT,
        objects::apply_object,
    )
    .with_lists()
    .in_probe(),
    OptionInfo::global(
        "global",
        "driver.property=value",
        Section::Generic,
        "set a property of every object of a type",
        &groups::GLOBAL,
        objects::apply_global,
        objects::apply_global_opts,
    ),
];
