//! The lines of a guest's devices, until the devices are made.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use serde_json::{Map, Value};

use super::config::{Entry, MachineConfig};
use super::registry::blame_device;
use crate::qapi::{Error, ErrorClass};

/// For each character device by id, the guest's ends of its lines: several where it is multiplexed.
#[derive(Debug, Default)]
pub struct Chardevs(HashMap<String, VecDeque<Result<OwnedFd, Error>>>);

impl Chardevs {
    /// Adds a line of character device `id`, for the next device that takes one; or why there is none.
    pub fn add(&mut self, id: &str, line: Result<OwnedFd, Error>) {
        self.0.entry(id.to_owned()).or_default().push_back(line);
    }

    /// Takes the oldest line of character device `id`.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&mut self, id: &str) -> Result<OwnedFd, Error> {
        let line = self.0.get_mut(id).and_then(VecDeque::pop_front);
        line.unwrap_or_else(|| Err(Error::device_not_found(format!("chardev \"{id}\" not found"))))
    }
}

/// A device of the command line that uses a character device.
#[derive(Clone, Copy, Debug)]
pub enum User<'a> {
    /// The port of a `-serial`.
    Serial(&'a str),
    /// The device of a `-device`.
    Device(&'a Map<String, Value>, &'a str),
    /// The console of `-debugcon`.
    Debugcon(&'a Entry, &'a str),
}

impl<'a> User<'a> {
    /// All of them, in the order in which they are made.
    pub fn all(config: &'a MachineConfig) -> impl Iterator<Item = Self> {
        let serials = config.serials.iter().filter(|serial| *serial != "none");
        let serials = serials.map(|id| Self::Serial(id));
        let devices = config.devices.iter();
        let devices = devices.filter_map(Self::of_device);
        let console = config.debugcon.iter();
        let console = console.filter_map(|entry| Some(Self::Debugcon(entry, chardev_of(&entry.parameters)?)));
        serials.chain(devices).chain(console)
    }

    /// The device of an entry of `-device`, if it has a character device.
    #[must_use]
    pub fn of_device(device: &'a Map<String, Value>) -> Option<Self> {
        Some(Self::Device(device, chardev_of(device)?))
    }

    /// The id of the character device.
    #[must_use]
    pub fn chardev(self) -> &'a str {
        match self {
            Self::Serial(id) | Self::Device(_, id) | Self::Debugcon(_, id) => id,
        }
    }

    /// Whether its guest opens it before it uses it: until then the character device is closed at its end.
    #[must_use]
    pub fn is_port(self) -> bool {
        match self {
            Self::Device(device, _) => driver_of(device) == "virtserialport",
            Self::Serial(_) | Self::Debugcon(..) => false,
        }
    }

    /// Why it cannot have its character device, with its option in front.
    #[must_use]
    pub fn refusal(self, error: &Error) -> Error {
        match self {
            Self::Serial(id) => Error::new(error.class, format!("-serial chardev:{id}: {}", error.desc)),
            Self::Device(device, id) => device_refusal(device, id, error),
            Self::Debugcon(entry, id) => entry.blame(refusal("isa-debugcon", id, error)),
        }
    }
}

fn chardev_of(device: &Map<String, Value>) -> Option<&str> {
    device.get("chardev")?.as_str()
}

fn driver_of(entry: &Map<String, Value>) -> &str {
    entry.get("driver").and_then(Value::as_str).unwrap_or_default()
}

/// Why the device of a `-device` entry cannot have character device `id`.
fn device_refusal(entry: &Map<String, Value>, id: &str, error: &Error) -> Error {
    blame_device(entry, refusal(driver_of(entry), id, error))
}

/// The same without the option in front.
pub(super) fn refusal(driver: &str, id: &str, error: &Error) -> Error {
    match error.class {
        ErrorClass::DeviceNotFound => Error::generic(missing(driver, id)),
        _ => {
            let owner = owner(driver);
            Error::generic(format!(
                "Property '{owner}.chardev' can't take value '{id}': {}",
                error.desc
            ))
        }
    }
}

/// What is said where there is no character device `id`.
pub(super) fn missing(driver: &str, id: &str) -> String {
    format!("Property '{}.chardev' can't find value '{id}'", owner(driver))
}

/// Whose property this is: the port of an ISA card is a device of its own.
fn owner(driver: &str) -> &str {
    if driver == "isa-serial" { "serial" } else { driver }
}
