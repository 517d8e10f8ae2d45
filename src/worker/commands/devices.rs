//! `device_add` and `device_del`: the devices there are all belong to the machine from its start.

use serde_json::{Map, Value};

use crate::machine::pluggable;
use crate::qapi::Error;
use crate::worker::core::Core;

/// Why a device cannot be plugged in.
///
/// # Errors
/// Always: names what is missing or wrong, or the bus that takes no devices while the guest runs.
pub(super) fn refuse_add(core: &Core, properties: &Map<String, Value>) -> Result<(), Error> {
    let registry = &core.registry;
    let driver = &pluggable(registry, properties)?.name;
    let wanted = registry.bus(driver).unwrap_or("System");
    let (bus, kind) = match properties.get("bus").and_then(Value::as_str) {
        Some(name) => {
            let kind = bus_kind(core, name).ok_or_else(|| Error::generic(format!("Bus '{name}' not found")))?;
            (name, kind)
        }
        None => BUSES
            .into_iter()
            .filter(|_| core.guest.is_some())
            .find(|(_, kind)| registry.is_a(kind, wanted))
            .ok_or_else(|| Error::generic(format!("No '{wanted}' bus found for device '{driver}'")))?,
    };
    if !registry.is_a(kind, wanted) {
        return Err(Error::generic(format!("Device '{driver}' can't go on {kind} bus")));
    }
    if BUSES.iter().any(|(name, _)| *name == bus) {
        return Err(no_hotplug(bus));
    }
    registry.values(driver, properties, [])?;
    Err(Error::generic("Parameter 'driver' expects a pluggable device type"))
}

/// Why a device cannot be unplugged.
///
/// # Errors
/// Always: there is no such device, or its bus lets none go.
pub(super) fn refuse_del(core: &Core, id: &str) -> Result<(), Error> {
    let (tree, registry) = (core.tree.borrow(), &core.registry);
    let not_found = || Error::device_not_found(format!("Device '{id}' not found"));
    let path = if id.starts_with('/') {
        id.to_owned()
    } else {
        format!("/machine/peripheral/{id}")
    };
    let object = tree.object(&path).map_err(|_| not_found())?;
    let type_name = object.type_name();
    if !registry.is_a(type_name, "device") {
        return Err(Error::generic(format!("{path} is not a hotpluggable device")));
    }
    let wanted = registry.bus(type_name).unwrap_or("System");
    if registry.is_a(type_name, "cpu") {
        let vcpus = core.guest.iter().flat_map(|guest| guest.vcpus());
        let is_first = vcpus.into_iter().any(|vcpu| vcpu.index == 0 && vcpu.qom_path == path);
        return Err(Error::generic(match is_first {
            true => "Boot CPU is unpluggable".to_owned(),
            false => format!("Device '{type_name}' does not support hotplugging"),
        }));
    }
    let bus = BUSES.into_iter().find(|(_, kind)| registry.is_a(kind, wanted));
    Err(no_hotplug(bus.map_or("main-system-bus", |(name, _)| name)))
}

/// The buses that a machine has by itself, none of which takes devices while the guest runs.
const BUSES: [(&str, &str); 3] = [("main-system-bus", "System"), ("isa.0", "ISA"), ("pcie.0", "PCIE")];

/// The QOM type of the bus of this name: one of the machine's own, or that behind a port.
fn bus_kind(core: &Core, name: &str) -> Option<&'static str> {
    let guest = core.guest.as_deref()?;
    let own = BUSES.into_iter().find(|(known, _)| *known == name);
    let is_port = |device: &crate::machine::info::DeviceInfo| {
        device.id.as_deref() == Some(name) && device.qom_type == "pcie-root-port"
    };
    match own {
        Some((_, kind)) => Some(kind),
        None => guest.devices().iter().any(is_port).then_some("PCIE"),
    }
}

fn no_hotplug(bus: &str) -> Error {
    Error::generic(format!("Bus '{bus}' does not support hotplugging"))
}
