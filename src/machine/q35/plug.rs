//! Building the devices that `-device` names, and those the machine has of its own.

use std::{
    collections::HashMap,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

use serde_json::{Map, Value};

use super::{board::Board, resources::Resources};
use crate::{
    devices::{Device, debugcon},
    machine::{
        bus::SharedDevice,
        config::MachineConfig,
        info::DeviceInfo,
        streams::{Outlet, Streams, StreamsBuilder},
    },
    qapi::Error,
    qom::{Registry, TypeInfo, Values},
};

/// The types of devices that this machine can be given.
pub(crate) static DEVICE_TYPES: [&TypeInfo; 1] = [&debugcon::TYPE];

/// The types the machine's `-device` and `-object` entries are checked against.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    if let Err(error) = registry.add(DEVICE_TYPES) {
        tracing::error!(%error, "device types");
    }
    registry
}

/// The devices of a machine.
pub(crate) struct Devices {
    all: Vec<SharedDevice>,
    pub(crate) infos: Vec<DeviceInfo>,
    // Ends the thread that serves the devices' streams.
    _streams: Streams,
}

impl Devices {
    /// Builds all of them.
    pub(crate) fn new(
        config: &MachineConfig,
        registry: &Registry,
        resources: Resources,
        board: &Board,
    ) -> Result<Self, Error> {
        let mut assembly = Assembly {
            config,
            registry,
            board,
            streams: StreamsBuilder::new().map_err(|error| Error::generic(format!("eventfd: {error}")))?,
            chardevs: resources.chardevs,
            all: Vec::new(),
            infos: Vec::new(),
        };
        for entry in &config.devices {
            assembly.plug(entry)?;
        }
        let streams = assembly.streams.start(config.debug_threads);
        Ok(Self {
            all: assembly.all,
            infos: assembly.infos,
            _streams: streams.map_err(|error| Error::generic(format!("stream thread: {error}")))?,
        })
    }

    /// Returns all devices to the state after power-on, in the order they were made.
    pub(crate) fn reset(&self) {
        for device in &self.all {
            device.lock().unwrap_or_else(std::sync::PoisonError::into_inner).reset();
        }
    }
}

/// Devices in the making.
struct Assembly<'a> {
    config: &'a MachineConfig,
    registry: &'a Registry,
    board: &'a Board,
    streams: StreamsBuilder,
    chardevs: HashMap<String, UnixStream>,
    all: Vec<SharedDevice>,
    infos: Vec<DeviceInfo>,
}

impl Assembly<'_> {
    /// Makes the device of one `-device` entry.
    fn plug(&mut self, entry: &Map<String, Value>) -> Result<(), Error> {
        let driver = entry.get("driver").and_then(Value::as_str);
        let driver = driver.ok_or_else(|| Error::generic("Parameter 'driver' is missing"))?;
        let known = DEVICE_TYPES
            .into_iter()
            .find(|known| known.name == driver && known.user_creatable);
        let known = known.ok_or_else(|| Error::generic(format!("'{driver}' is not a valid device model name")))?;
        let globals = self.config.globals.iter();
        let globals = globals.map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()));
        let values = self.registry.values(driver, entry, globals)?;
        match driver {
            "isa-debugcon" => self.plug_debugcon(&values)?,
            other => return Err(Error::generic(format!("'{other}' is not a valid device model name"))),
        }
        self.note(known, entry, &values);
        Ok(())
    }

    fn plug_debugcon(&mut self, values: &Values) -> Result<(), Error> {
        let (_, outlet) = self.chardev("isa-debugcon", values)?;
        let readback = values
            .uint("readback")
            .and_then(|value| u8::try_from(value).ok())
            .unwrap_or(0xe9);
        let device = self.keep(debugcon::Debugcon::new(Box::new(outlet), readback));
        self.map_ports(port(values, "iobase")?, 1, &device)
    }

    /// The stream of the character device that a device must name.
    fn chardev(&mut self, driver: &str, values: &Values) -> Result<(usize, Outlet), Error> {
        let id = values.text("chardev");
        let id = id.ok_or_else(|| Error::generic(format!("Can't create {driver} device, empty char device")))?;
        let stream = self.chardevs.remove(id);
        let stream =
            stream.ok_or_else(|| Error::generic(format!("Property '{driver}.chardev' can't find value '{id}'")))?;
        self.streams
            .add(stream)
            .map_err(|error| Error::generic(format!("chardev '{id}': {error}")))
    }

    fn map_ports(&self, start: u16, len: u16, device: &SharedDevice) -> Result<(), Error> {
        let result = self.board.space.map_ports(start, len, device, 0);
        result.map_err(|error| Error::generic(error.to_string()))
    }

    fn keep(&mut self, device: impl Device + 'static) -> SharedDevice {
        let device: SharedDevice = Arc::new(Mutex::new(device));
        self.all.push(Arc::clone(&device));
        device
    }

    fn note(&mut self, known: &'static TypeInfo, entry: &Map<String, Value>, values: &Values) {
        let id = entry.get("id").and_then(Value::as_str).map(str::to_owned);
        let anonymous = self.infos.iter().filter(|info| info.id.is_none()).count();
        let path = match &id {
            Some(id) => format!("/machine/peripheral/{id}"),
            None => format!("/machine/peripheral-anon/device[{anonymous}]"),
        };
        self.infos.push(DeviceInfo {
            id,
            qom_type: known.name,
            path,
            properties: values
                .iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
        });
    }
}

fn port(values: &Values, name: &str) -> Result<u16, Error> {
    let number = values.uint(name).unwrap_or_default();
    u16::try_from(number).map_err(|_| Error::generic(format!("Parameter '{name}': there is no port 0x{number:x}")))
}
