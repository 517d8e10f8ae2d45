//! `device_add` and `device_del`.

use serde_json::{Map, Value};

use crate::machine::chardevs::{Chardevs, User};
use crate::machine::{pluggable, without_bus};
use crate::qapi::Error;
use crate::worker::core::Core;
use crate::worker::link::chardev_request;

/// Plugs a device in.
///
/// # Errors
/// Names what is missing or wrong, or the bus that takes no devices while the guest is there.
pub(super) async fn add(core: &Core, properties: &Map<String, Value>) -> Result<(), Error> {
    let Some(guest) = core.guest.as_deref() else {
        return Err(without_bus(&core.registry, properties).into());
    };
    check_idle(core, "device_add")?;
    let driver = pluggable(&core.registry, properties)?;
    let mut chardevs = Chardevs::default();
    let has_chardev = core.registry.property(&driver.name, "chardev").is_some();
    let user = User::of_device(properties).filter(|_| has_chardev);
    if let Some(user) = user {
        // Why it cannot be had is of interest only once all else is right.
        chardevs.add(user.chardev(), core.ask(chardev_request(user)).await);
        // Much may have happened meanwhile.
        check_idle(core, "device_add")?;
    }
    core.show(guest.plug(properties, chardevs)?)
}

/// Asks for a device to be let go.
///
/// # Errors
/// There is no such device, its bus lets none go, or the guest has been asked already.
pub(super) fn del(core: &Core, id: &str) -> Result<(), Error> {
    check_idle(core, "device_del")?;
    let path = device_path(core, id)?;
    let removed = core.guest()?.unplug(&path)?;
    core.forget(removed);
    Ok(())
}

/// A guest that moves stays as it is.
fn check_idle(core: &Core, command: &str) -> Result<(), Error> {
    match core.migration.is_active() {
        true => Err(Error::generic(format!("{command} not allowed while migrating"))),
        false => Ok(()),
    }
}

/// The path of the device with this id or path.
fn device_path(core: &Core, id: &str) -> Result<String, Error> {
    let (tree, registry) = (core.tree.borrow(), &core.registry);
    let not_found = || Error::device_not_found(format!("Device '{id}' not found"));
    let path = if id.starts_with('/') {
        tree.canonical_path(id).map_err(|_| not_found())?
    } else {
        format!("/machine/peripheral/{id}")
    };
    let object = tree.object(&path).map_err(|_| not_found())?;
    let type_name = object.type_name();
    if !registry.is_a(type_name, "device") {
        return Err(Error::generic(format!("{path} is not a device")));
    }
    if registry.is_a(type_name, "cpu") {
        let vcpus = core.guest.iter().flat_map(|guest| guest.vcpus());
        let is_first = vcpus.into_iter().any(|vcpu| vcpu.index == 0 && vcpu.qom_path == path);
        return Err(Error::generic(match is_first {
            true => "Boot CPU is unpluggable".to_owned(),
            false => format!("Device '{type_name}' does not support hotplugging"),
        }));
    }
    Ok(path)
}
