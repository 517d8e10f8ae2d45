//! Every type there is on a target: what the rooms below declare, in one registry.

use super::types::{self, MachineType};
use crate::cpu;
use crate::qapi::Error;
use crate::qom::{Registry, Type};
use crate::target::Target;

/// The types of `target`'s emulator. `with_host_cpu` tells whether there is an accelerator that has a `host` CPU model.
#[must_use]
pub fn registry(target: Target, with_host_cpu: bool) -> Registry {
    let mut registry = Registry::new();
    let machines = types::qom_types(target).map(Type::from);
    let cpus: Vec<Type> = match target {
        Target::X86_64 => cpu::x86::types(with_host_cpu),
        Target::S390x => cpu::s390x::types::cpu_types(with_host_cpu).map(Type::from).collect(),
    };
    let devices = crate::devices::types(target).map(Type::from);
    let accelerators = crate::accel::types(target).map(Type::from);
    if let Err(duplicate) = registry.add(machines.chain(cpus).chain(devices).chain(accelerators)) {
        // A name declared twice is a mistake in a table, which a test finds; the second declaration does not count.
        tracing::error!("{duplicate}");
    }
    registry
}

/// Checks that a machine has the properties that `-machine` names.
///
/// # Errors
/// Names the first that it has not.
pub fn check_properties(registry: &Registry, machine: &MachineType, props: &[(String, String)]) -> Result<(), Error> {
    let type_name = machine.qom_type.name;
    let stranger = props
        .iter()
        .find(|(name, _)| registry.property(type_name, &name.replace('_', "-")).is_none());
    match stranger {
        Some((name, _)) => Err(Error::generic(format!("Property '{type_name}.{name}' not found"))),
        None => Ok(()),
    }
}
