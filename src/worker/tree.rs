//! The tree of objects of a guest: machine, CPUs and devices.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::machine::config::MachineConfig;
use crate::machine::guest::{Guest, GuestObject};
use crate::machine::types::MachineType;
use crate::qom::Registry;
use crate::qom::tree::{Simple, Tree, TreeError};
use crate::target::Target;

/// A tree with the machine and everything plugged into it.
///
/// # Errors
/// Two objects claim the same place.
pub(super) fn build(
    registry: &Registry,
    machine: &MachineType,
    config: &MachineConfig,
    guest: Option<&dyn Guest>,
) -> Result<Tree, crate::qapi::Error> {
    let mut tree = Tree::new();
    tree.set_machine(Arc::new(machine_object(registry, machine, config)?));
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
    for shown in guest.objects() {
        show(&mut tree, shown)?;
    }
    Ok(tree)
}

/// The machine with the values of its properties.
fn machine_object(
    registry: &Registry,
    machine: &MachineType,
    config: &MachineConfig,
) -> Result<Simple, crate::qapi::Error> {
    let kind = machine.qom_type.name;
    let given = config.machine_props.iter();
    // The command line allows underscores wherever a name has hyphens, and has names with dots for parts of others.
    let given = given.map(|(name, value)| (name.replace('_', "-"), json!(value)));
    let mut given: Map<String, Value> = given.filter(|(name, _)| !name.contains('.')).collect();
    if let Some(id) = machine.default_ram_id.filter(|_| config.numa.is_empty()) {
        given.entry("memory-backend").or_insert(json!(id));
    }
    let path = |path: Option<&Path>| json!(path.map(Path::to_string_lossy).unwrap_or_default());
    let kernel = config.kernel.clone().unwrap_or_default();
    let (smp, memory, boot) = (&config.smp, &config.memory, &config.boot);
    let values = registry.values(kind, &given, [])?;
    let mut levels = json!({
        "cpus": smp.cpus,
        "maxcpus": smp.max_cpus,
        "sockets": smp.sockets,
        "dies": smp.dies,
        "clusters": smp.clusters,
        "modules": smp.modules,
        "cores": smp.cores,
        "threads": smp.threads,
    });
    if machine.target == Some(Target::S390x) {
        levels = json!({
            "cpus": smp.cpus,
            "maxcpus": smp.max_cpus,
            "drawers": smp.drawers,
            "books": smp.books,
            "sockets": smp.sockets,
            "cores": smp.cores,
            "threads": smp.threads,
        });
    }
    Ok(Simple::from_values(registry, kind, &values)
        .with("type", "string", json!(kind))
        .with("smp", "SMPConfiguration", levels)
        .with(
            "memory",
            "MemorySizeConfiguration",
            json!({"size": memory.size, "max-size": memory.max_size, "slots": memory.slots}),
        )
        .with(
            "boot",
            "BootConfiguration",
            json!({"order": boot.order.as_deref().unwrap_or("cad"), "strict": boot.strict}),
        )
        .with("firmware", "string", path(config.bios.as_deref()))
        .with("kernel", "string", json!(kernel.kernel.to_string_lossy()))
        .with("initrd", "string", path(kernel.initrd.as_deref()))
        .with("append", "string", json!(kernel.append)))
}

/// Puts an object into its place.
///
/// # Errors
/// There is no such place, or it is taken.
pub(super) fn show(tree: &mut Tree, shown: GuestObject) -> Result<(), TreeError> {
    let (parent, name) = shown.path.rsplit_once('/').unwrap_or(("", &shown.path));
    tree.insert(parent, name, shown.object).map(drop)
}
