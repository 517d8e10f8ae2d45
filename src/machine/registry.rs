//! Every type there is on a target: what the rooms below declare, in one registry.

use serde_json::{Map, Value};

use super::types::{self, MachineType};
use crate::cpu;
use crate::qapi::{Error, QmpError};
use crate::qom::{PropertyError, Registry, Type};
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

/// A driver that cannot be had, in QEMU's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// None is named.
    #[error("Parameter 'driver' is missing")]
    Missing,
    /// There is none of this name.
    #[error("'{0}' is not a valid device model name")]
    Unknown(String),
    /// It is only the parent of others.
    #[error("Parameter 'driver' expects a non-abstract device type")]
    Abstract,
    /// Machines have it by themselves.
    #[error("Parameter 'driver' expects a pluggable device type")]
    NotPluggable,
    /// The machine has no bus of this name.
    #[error("Bus '{0}' not found")]
    NoBus(String),
    /// The machine has no bus of the kind.
    #[error("No '{wanted}' bus found for device '{driver}'")]
    NoBusOfKind {
        /// The kind.
        wanted: String,
        /// The driver.
        driver: String,
    },
}

impl QmpError for DriverError {}

/// The type of a device that somebody wants to plug in: `entry` has its `driver`.
///
/// # Errors
/// No driver is named, or it is none that users may make.
pub fn pluggable<'a>(registry: &'a Registry, entry: &Map<String, Value>) -> Result<&'a Type, DriverError> {
    let driver = entry.get("driver").and_then(Value::as_str);
    let driver = driver.ok_or(DriverError::Missing)?;
    let known = registry.get(driver).filter(|_| registry.is_a(driver, "device"));
    let known = known.ok_or_else(|| DriverError::Unknown(driver.to_owned()))?;
    if known.is_abstract {
        return Err(DriverError::Abstract);
    }
    if !known.user_creatable {
        return Err(DriverError::NotPluggable);
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
    Err(blame_device(entry, without_bus(registry, entry)))
}

/// Why a device has no place where there are no buses.
pub fn without_bus(registry: &Registry, entry: &Map<String, Value>) -> DriverError {
    let known = match pluggable(registry, entry) {
        Ok(known) => known,
        Err(error) => return error,
    };
    if let Some(bus) = entry.get("bus").and_then(Value::as_str) {
        return DriverError::NoBus(bus.to_owned());
    }
    let bus = registry.bus(&known.name).unwrap_or("System");
    DriverError::NoBusOfKind {
        wanted: bus.to_owned(),
        driver: known.name.to_string(),
    }
}

/// The error of a `-device` option, with the option in front: as JSON if it has values that are no text.
pub(super) fn blame_device(entry: &Map<String, Value>, error: impl Into<Error>) -> Error {
    let error = error.into();
    let texts = entry.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let words = texts.map(|pair| {
        let (key, value) = pair?;
        let value = value.replace(',', ",,");
        Some(if key == "driver" {
            value
        } else {
            format!("{key}={value}")
        })
    });
    let words: Option<Vec<String>> = words.collect();
    let option = words.map_or_else(|| Value::Object(entry.clone()).to_string(), |words| words.join(","));
    Error {
        class: error.class,
        desc: format!("-device {option}: {}", error.desc),
    }
}

/// Checks that a machine has the properties that `-machine` names.
///
/// # Errors
/// Names the first that it has not.
pub fn check_properties(
    registry: &Registry,
    machine: &MachineType,
    props: &[(String, String)],
) -> Result<(), PropertyError> {
    let type_name = machine.qom_type.name;
    let stranger = props
        .iter()
        .find(|(name, _)| registry.property(type_name, &name.replace('_', "-")).is_none());
    match stranger {
        Some((name, _)) => Err(PropertyError::NotFound {
            type_name: type_name.to_owned(),
            property: name.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(entry: &Value) -> String {
        let registry = registry(Target::X86_64, true);
        let entry = entry.as_object().unwrap().clone();
        refuse_devices(&registry, &[entry]).unwrap_err().desc
    }

    #[test]
    fn nothing_is_declared_twice_and_left_out() {
        for (target, cpu) in [(Target::X86_64, "host-x86_64-cpu"), (Target::S390x, "host-s390x-cpu")] {
            let registry = registry(target, true);
            for name in ["none-machine", "hostfile-accel", cpu] {
                assert!(registry.get(name).is_some(), "{target:?} lacks {name}");
            }
            assert_eq!(registry.get("kvm-accel").is_some(), target.is_native(), "{target:?}");
        }
    }

    #[test]
    fn without_a_machine_there_is_no_place_for_devices() {
        for (entry, desc) in [
            (
                json!({"driver": "no-such-device"}),
                "-device no-such-device: 'no-such-device' is not a valid device model name",
            ),
            (
                json!({"driver": "isa-serial", "chardev": "a,b"}),
                "-device isa-serial,chardev=a,,b: No 'ISA' bus found for device 'isa-serial'",
            ),
            (
                json!({"driver": "pcie-root-port", "port": 16}),
                "-device {\"driver\":\"pcie-root-port\",\"port\":16}: No 'PCI' bus found for device 'pcie-root-port'",
            ),
            (
                json!({"driver": "isa-serial", "bus": "foo"}),
                "-device isa-serial,bus=foo: Bus 'foo' not found",
            ),
        ] {
            assert_eq!(refusal(&entry), desc);
        }
        assert!(refuse_devices(&registry(Target::X86_64, true), &[]).is_ok());
    }
}
