//! The tree of objects of a guest: machine, CPUs and devices.

use std::sync::Arc;

use serde_json::json;

use crate::machine::guest::Guest;
use crate::machine::info::DeviceInfo;
use crate::machine::types::MachineType;
use crate::qom::Registry;
use crate::qom::tree::{Simple, Tree};

/// A tree with the machine and everything plugged into it.
///
/// # Errors
/// Two objects claim the same place.
pub(super) fn build(
    registry: &Registry,
    machine: &MachineType,
    guest: Option<&dyn Guest>,
) -> Result<Tree, crate::qapi::Error> {
    let mut tree = Tree::new();
    tree.set_machine(Arc::new(Simple::new(machine.qom_type.name).with(
        "type",
        "string",
        json!(machine.qom_type.name),
    )));
    let Some(guest) = guest else {
        return Ok(tree);
    };
    for vcpu in guest.vcpus() {
        let name = vcpu
            .qom_path
            .strip_prefix("/machine/unattached/")
            .unwrap_or(&vcpu.qom_path);
        tree.insert("/machine/unattached", name, guest.cpu_object(vcpu.index))?;
    }
    for device in guest.devices() {
        add_device(&mut tree, registry, &device)?;
    }
    Ok(tree)
}

fn add_device(tree: &mut Tree, registry: &Registry, device: &DeviceInfo) -> Result<(), crate::qapi::Error> {
    let Some((parent, name)) = device.path.rsplit_once('/') else {
        return Ok(());
    };
    let values = registry.values(device.qom_type, &device.properties, [])?;
    let node = Simple::device(registry, device.qom_type, &values, device.id.as_deref(), None, false);
    tree.insert(parent, name, Arc::new(node))?;
    Ok(())
}
