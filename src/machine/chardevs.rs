//! The lines of a guest's devices, until the devices are made.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use serde_json::{Map, Value};

use super::registry::blame_device;
use crate::qapi::{Error, ErrorClass};

/// For each character device by id, the guest's ends of its lines: several where it is multiplexed.
#[derive(Debug, Default)]
pub struct Chardevs(HashMap<String, VecDeque<OwnedFd>>);

impl Chardevs {
    /// Adds a line of character device `id`, for the next device that takes one.
    pub fn add(&mut self, id: &str, line: OwnedFd) {
        self.0.entry(id.to_owned()).or_default().push_back(line);
    }

    /// Takes the oldest line of character device `id`.
    pub fn take(&mut self, id: &str) -> Option<OwnedFd> {
        self.0.get_mut(id)?.pop_front()
    }
}

/// Why the device of a `-device` entry cannot have character device `id`.
#[must_use]
pub fn device_refusal(entry: &Map<String, Value>, id: &str, error: &Error) -> Error {
    let driver = entry.get("driver").and_then(Value::as_str).unwrap_or_default();
    blame_device(entry, &refusal(driver, id, error))
}

/// The same without the option in front.
pub(super) fn refusal(driver: &str, id: &str, error: &Error) -> Error {
    // The port of an ISA card is a device of its own, whose property this is.
    let owner = if driver == "isa-serial" { "serial" } else { driver };
    Error::generic(match error.class {
        ErrorClass::DeviceNotFound => format!("Property '{owner}.chardev' can't find value '{id}'"),
        _ => format!("Property '{owner}.chardev' can't take value '{id}': {}", error.desc),
    })
}
