//! Every type there is on a target: what the rooms below declare, in one registry.

use serde_json::{Map, Value};

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

/// The type of a device that somebody wants to plug in: `entry` has its `driver`.
///
/// # Errors
/// No driver is named, or it is none that users may make.
pub fn pluggable<'a>(registry: &'a Registry, entry: &Map<String, Value>) -> Result<&'a Type, Error> {
    let driver = entry.get("driver").and_then(Value::as_str);
    let driver = driver.ok_or_else(|| Error::generic("Parameter 'driver' is missing"))?;
    let known = registry.get(driver).filter(|_| registry.is_a(driver, "device"));
    let known = known.ok_or_else(|| Error::generic(format!("'{driver}' is not a valid device model name")))?;
    if known.is_abstract {
        return Err(Error::generic("Parameter 'driver' expects a non-abstract device type"));
    }
    if !known.user_creatable {
        return Err(Error::generic("Parameter 'driver' expects a pluggable device type"));
    }
    Ok(known)
}

/// Refuses all devices of a command line without a machine: there is nothing to plug them into.
///
/// # Errors
/// Names the first device, and what is wrong with it.
pub fn refuse_devices(registry: &Registry, devices: &[Map<String, Value>]) -> Result<(), Error> {
    let Some(entry) = devices.first() else {
        return Ok(());
    };
    let known = pluggable(registry, entry)?;
    registry.values(&known.name, entry, [])?;
    let bus = known.bus.unwrap_or("System");
    Err(Error::generic(format!(
        "-device {driver}: No '{bus}' bus found for device '{driver}'",
        driver = known.name
    )))
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
