//! `device_add` and `device_del`: the devices there are all belong to the machine from its start.

use serde_json::{Map, Value};

use crate::machine::pluggable;
use crate::qapi::Error;
use crate::qom::Registry;
use crate::qom::tree::Tree;

/// Why a device cannot be plugged in.
///
/// # Errors
/// Always: names what is missing or wrong, or says that the device cannot be hotplugged.
pub(super) fn refuse_add(registry: &Registry, properties: &Map<String, Value>) -> Result<(), Error> {
    let driver = &pluggable(registry, properties)?.name;
    registry.values(driver, properties, [])?;
    Err(Error::generic(format!(
        "Device '{driver}' does not support hotplugging"
    )))
}

/// Why a device cannot be unplugged.
///
/// # Errors
/// Always: there is no such device, or it cannot be unplugged.
pub(super) fn refuse_del(tree: &Tree, registry: &Registry, id: &str) -> Result<(), Error> {
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
    Err(Error::generic(format!("Device '{id}' does not support unplugging")))
}
