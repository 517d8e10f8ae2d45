//! `virtserialport` and `virtconsole`: ports that are plugged into a device.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{PortBus, PortConfig, PortError};
use crate::devices::class::{DeviceClass, PortPlace, Realize, RealizeError, Site};
use crate::devices::{Device, SharedDevice};
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::vmstate::{StateError, Visitor};

/// A number that nobody gave.
const UNSET: u64 = 0xffff_ffff;

const PORT: TypeInfo = TypeInfo {
    name: "virtio-serial-port",
    parent: Some("device"),
    is_abstract: true,
    interfaces: &[],
    bus: Some("virtio-serial-bus"),
    user_creatable: false,
    hotpluggable: false,
    description: "",
    properties: &[
        PropertyInfo::new("nr", PropertyKind::Uint32, Default::Uint(UNSET), ""),
        PropertyInfo::new("name", PropertyKind::Str, Default::None, ""),
    ],
};

static BASE: TypeInfo = PORT;
static BUS: TypeInfo = TypeInfo {
    name: "virtio-serial-bus",
    parent: Some("bus"),
    is_abstract: false,
    bus: None,
    properties: &[],
    ..PORT
};
static SERIAL_PORT: TypeInfo = TypeInfo {
    name: "virtserialport",
    parent: Some("virtio-serial-port"),
    is_abstract: false,
    user_creatable: true,
    hotpluggable: true,
    properties: &[PropertyInfo::new(
        "chardev",
        PropertyKind::Str,
        Default::None,
        "ID of a chardev to use as a backend",
    )],
    ..PORT
};
static CONSOLE: TypeInfo = TypeInfo {
    name: "virtconsole",
    parent: Some("virtserialport"),
    is_abstract: false,
    user_creatable: true,
    hotpluggable: true,
    properties: &[],
    ..PORT
};

/// What ports inherit from, and the bus that they are plugged into.
pub static PORT_TYPES: [&TypeInfo; 2] = [&BASE, &BUS];

/// `virtserialport` and `virtconsole`.
pub static PORT_CLASSES: [DeviceClass; 2] = [
    DeviceClass {
        info: &SERIAL_PORT,
        realize: Realize::Port(|values, place, site| realize(&SERIAL_PORT, false, (values, place, site))),
    },
    DeviceClass {
        info: &CONSOLE,
        realize: Realize::Port(|values, place, site| realize(&CONSOLE, true, (values, place, site))),
    },
];

/// A port as a device of the machine.
struct PortDevice {
    info: &'static TypeInfo,
    bus: Arc<PortBus>,
    number: u32,
}

fn realize(
    info: &'static TypeInfo,
    is_console: bool,
    (values, place, site): (&Values, PortPlace<'_>, &mut dyn Site),
) -> Result<SharedDevice, RealizeError> {
    let characters = site.characters(values.text("chardev"))?;
    let wanted = values.uint("nr").filter(|number| *number != UNSET);
    let wanted = wanted.and_then(|number| u32::try_from(number).ok());
    let name = values.text("name").map(str::to_owned);
    // As in QEMU, a number that is taken is told before a name that is.
    let number = place.bus.number(wanted, is_console);
    if let Some(name) = name.as_ref().filter(|name| (place.has_name)(name)) {
        if !matches!(number, Err(PortError::Number(_))) {
            return Err(RealizeError::of(PortError::Name(name.clone())));
        }
    }
    let number = number.map_err(RealizeError::of)?;
    let config = PortConfig {
        name,
        is_console,
        id: place.id.map(str::to_owned),
    };
    place.bus.plug(number, config, characters.sink, characters.is_connected);
    site.set_input(characters.connection, place.bus.input(number));
    Ok(Arc::new(Mutex::new(PortDevice {
        info,
        bus: Arc::clone(place.bus),
        number,
    })))
}

impl Device for PortDevice {
    fn type_name(&self) -> &'static str {
        self.info.name
    }

    // The device that the port belongs to closes it at a reset.
    fn reset(&mut self) {}

    fn unrealize(&mut self) {
        self.bus.unplug(self.number);
    }

    fn property(&self, name: &str) -> Option<Value> {
        (name == "nr").then(|| json!(self.number))
    }

    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }
}
