//! Devices as the tree of objects shows them: what they were made from, and what they are by now.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::boot_order::BOOT_INDEX;
use crate::devices::SharedDevice;
use crate::qapi::Error;
use crate::qom::tree::Simple;
use crate::qom::{Object, Registry, Values};

/// A living device. Its properties are asked of the device itself; it is locked for that, as while it answers the guest.
pub(super) struct DeviceObject {
    /// What it was made from.
    made: Simple,
    device: SharedDevice,
}

/// How a device came to be.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) id: Option<&'a str>,
    /// Path of the bus that it is on.
    pub(super) parent_bus: &'a str,
    pub(super) hotplugged: bool,
    /// Its place, if that is on a PCI bus: slot and function.
    pub(super) addr: Option<u8>,
}

impl DeviceObject {
    /// The device of a type, with what its properties were set to.
    pub(super) fn new(
        registry: &Registry,
        type_name: &str,
        values: &Values,
        origin: Origin<'_>,
        device: &SharedDevice,
    ) -> Self {
        Self {
            made: made(registry, type_name, values, origin),
            device: Arc::clone(device),
        }
    }
}

/// An object that shows what a device was made from.
pub(super) fn made(registry: &Registry, type_name: &str, values: &Values, origin: Origin<'_>) -> Simple {
    let (id, bus) = (origin.id, Some(origin.parent_bus));
    let made = Simple::device(registry, type_name, values, id, bus, origin.hotplugged);
    let is_in_the_order = |(name, _): &(String, String)| name == BOOT_INDEX;
    let made = match values.int(BOOT_INDEX) {
        None if made.properties().iter().any(is_in_the_order) => made.with(BOOT_INDEX, "int32", json!(-1)),
        _ => made,
    };
    match origin.addr {
        Some(addr) => made.with("addr", "str", json!(addr)),
        None => made,
    }
}

impl Object for DeviceObject {
    fn type_name(&self) -> &str {
        self.made.type_name()
    }

    fn properties(&self) -> Vec<(String, String)> {
        self.made.properties()
    }

    fn get(&self, property: &str) -> Result<Value, Error> {
        // There are only the properties that its type declares.
        let made = self.made.get(property)?;
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(device.property(property).unwrap_or(made))
    }

    fn set(&self, property: &str, value: &Value) -> Result<(), Error> {
        self.made.get(property)?;
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        match device.set_property(property, value) {
            Some(outcome) => outcome.map_err(Error::generic),
            None => self.made.set(property, value),
        }
    }
}
