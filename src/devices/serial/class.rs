//! What `isa-serial` has for properties, and how a port is made from them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{IsaSerial, Line, Links, PORTS, Place, Wakeup};
use crate::devices::characters::{Input, Sink};
use crate::devices::class::{self, DeviceClass, Realize, RealizeError, Site};
use crate::devices::{Notice, SharedDevice, ports};
use crate::mem::Access;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};

/// First port and interrupt of the four classic serial ports.
const PLACES: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// Interrupts of the ISA bus.
const ISA_IRQS: u8 = 16;
/// A number that was not given.
const UNSET: u64 = 0xffff_ffff;

/// `isa-serial`.
pub(super) static TYPE: TypeInfo = TypeInfo {
    name: "isa-serial",
    parent: Some("isa-device"),
    is_abstract: false,
    interfaces: &[],
    bus: Some("ISA"),
    user_creatable: true,
    hotpluggable: false,
    description: "Serial port (16550A)",
    properties: &[
        PropertyInfo::new(
            "baudbase",
            PropertyKind::Uint32,
            Default::Uint(115_200),
            "Its rate with divisor 1, in baud",
        ),
        PropertyInfo::new(
            "chardev",
            PropertyKind::Chardev,
            Default::None,
            "Character device that it is connected to",
        ),
        PropertyInfo::new(
            "index",
            PropertyKind::Uint32,
            Default::Uint(0xffff_ffff),
            "Which of the four ports it is",
        ),
        PropertyInfo::new("iobase", PropertyKind::Uint32, Default::Uint(0xffff_ffff), "First port"),
        PropertyInfo::new("irq", PropertyKind::Uint32, Default::Uint(0xffff_ffff), "Interrupt"),
        PropertyInfo::new(
            "wakeup",
            PropertyKind::Bool,
            Default::Bool(false),
            "Whether a character wakes a sleeping machine",
        ),
    ],
};

/// The class.
pub static CLASS: DeviceClass = DeviceClass {
    info: &TYPE,
    realize: Realize::Isa(realize),
};

/// A port that a machine cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// There is no such one of the four.
    #[error("Max. supported number of ISA serial ports is {}.", PLACES.len())]
    TooMany,
    /// The ISA bus has no such interrupt.
    #[error("Maximum value for \"irq\" is: {}", ISA_IRQS - 1)]
    Interrupt,
}

fn realize(values: &Values, site: &mut dyn Site) -> Result<SharedDevice, RealizeError> {
    let place = place(values, site.count(TYPE.name))?;
    let characters = site.characters(values.text("chardev"))?;
    let wakeup = values.boolean("wakeup").then(|| {
        let notifier = site.notifier();
        Box::new(move || notifier(Notice::WakeupRequest)) as Wakeup
    });
    let links = Links {
        irq: site.line(place.irq)?,
        line: Box::new(SerialLine(characters.sink)),
        clock: site.clock(),
        wakeup,
    };
    let [a, b, c, d, ..] = values.uint("baudbase").unwrap_or_default().to_le_bytes();
    let chip = IsaSerial::new(links, u32::from_le_bytes([a, b, c, d]), place);
    let chip = Arc::new(Mutex::new(chip));
    let device = Arc::clone(&chip) as SharedDevice;
    site.map_ports(place.start, &ports("serial", PORTS, Access::BYTES, &device, 0))?;
    site.set_input(characters.connection, Box::new(SerialInput(chip)));
    Ok(device)
}

/// Where the port is, when there are `others` already.
fn place(values: &Values, others: usize) -> Result<Place, RealizeError> {
    let given = |name| values.uint(name).filter(|value| *value != UNSET);
    let index = match given("index") {
        Some(index) => usize::try_from(index).unwrap_or(usize::MAX),
        None => others,
    };
    let (start, irq) = *PLACES
        .get(index)
        .ok_or_else(|| RealizeError::of(SerialError::TooMany))?;
    let start = match given("iobase") {
        Some(_) => class::port(values, "iobase")?,
        None => start,
    };
    let irq = given("irq").map_or(Ok(irq), u8::try_from).ok();
    let irq = irq.filter(|irq| *irq < ISA_IRQS);
    Ok(Place {
        index,
        start,
        irq: irq.ok_or_else(|| RealizeError::of(SerialError::Interrupt))?,
    })
}

/// Where a port's characters go.
struct SerialLine(Box<dyn Sink>);

impl Line for SerialLine {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.send(bytes)
    }

    fn attend(&self) {
        self.0.attend();
    }
}

/// Feeds a port.
struct SerialInput(Arc<Mutex<IsaSerial>>);

impl SerialInput {
    fn port(&self) -> MutexGuard<'_, IsaSerial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Input for SerialInput {
    fn room(&mut self) -> usize {
        self.port().uart().room()
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.port().uart().receive(bytes);
    }

    fn broke(&mut self) {
        self.port().uart().receive_break();
    }

    fn ready(&mut self) {
        self.port().uart().line_ready();
    }

    fn time_left(&mut self) -> Option<Duration> {
        self.port().uart().time_left().map(Duration::from_nanos)
    }

    fn expire(&mut self) {
        self.port().uart().expire();
    }
}
