//! `pvpanic`: a port by which a guest says that it panicked.
//!
//! Reading tells which events are understood, writing reports one.

use std::sync::{Arc, Mutex};

use super::class::{self, DeviceClass, Realize, RealizeError, Site};
use super::{AcpiDevice, Device, Notice, Notifier, PioDevice, SharedDevice, ports};
use crate::mem::Access;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::vmstate::{StateError, Visitor};

/// Where it is unless told otherwise.
pub const PORT: u16 = 0x505;
/// The guest panicked.
const PANICKED: u8 = 1 << 0;
/// The guest panicked and loads its crash kernel.
const CRASH_LOADED: u8 = 1 << 1;
/// The guest wants to be powered off.
const SHUTDOWN: u8 = 1 << 2;

/// `pvpanic`.
pub static TYPE: TypeInfo = TypeInfo {
    name: "pvpanic",
    parent: Some("isa-device"),
    is_abstract: false,
    interfaces: &[],
    bus: Some("ISA"),
    user_creatable: true,
    hotpluggable: false,
    description: "Tells the host that the guest panicked",
    properties: &[
        PropertyInfo::new("ioport", PropertyKind::Uint16, Default::Uint(PORT as u64), "Its port"),
        PropertyInfo::new(
            "events",
            PropertyKind::Uint8,
            Default::Uint(7),
            "Events that it understands",
        ),
    ],
};

/// The class.
pub static CLASS: DeviceClass = DeviceClass {
    info: &TYPE,
    realize: Realize::Isa(realize),
};

fn realize(values: &Values, site: &mut dyn Site) -> Result<SharedDevice, RealizeError> {
    let port = class::port(values, "ioport")?;
    let [events, ..] = values.uint("events").unwrap_or_default().to_le_bytes();
    let device: SharedDevice = Arc::new(Mutex::new(Pvpanic::new(port, events, site.notifier())));
    site.map_ports(port, &ports("pvpanic", 1, Access::BYTES, &device, 0))?;
    Ok(device)
}

/// The port.
pub struct Pvpanic {
    port: u16,
    events: u8,
    notifier: Notifier,
}

impl Pvpanic {
    /// The port of this number, which says it understands `events`. What the guest reports goes to `notifier`, also what it was not told of.
    #[must_use]
    pub fn new(port: u16, events: u8, notifier: Notifier) -> Self {
        Self {
            port,
            events: events & (PANICKED | CRASH_LOADED | SHUTDOWN),
            notifier,
        }
    }
}

impl Device for Pvpanic {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {}

    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }

    fn acpi(&self) -> Option<AcpiDevice> {
        Some(AcpiDevice::PanicPort(self.port))
    }
}

impl PioDevice for Pvpanic {
    fn pio_read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(first) = data.first_mut() {
            *first = self.events;
        }
    }

    fn pio_write(&mut self, _: u16, data: &[u8]) {
        let Some(event) = data.first() else {
            return;
        };
        // One write is one event; a panic outweighs what it comes with.
        if event & PANICKED != 0 {
            (self.notifier)(Notice::GuestPanicked);
        } else if event & CRASH_LOADED != 0 {
            (self.notifier)(Notice::GuestCrashLoaded);
        } else if event & SHUTDOWN != 0 {
            (self.notifier)(Notice::GuestPvShutdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_told_once_whether_or_not_the_guest_was_told_of_it() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let mut device = Pvpanic::new(
            PORT,
            PANICKED | SHUTDOWN,
            Arc::new(move |notice| sink.lock().unwrap().push(notice)),
        );
        let mut byte = [0];
        device.pio_read(0, &mut byte);
        assert_eq!(byte, [5]);
        for event in [PANICKED, CRASH_LOADED, SHUTDOWN, 0x80, PANICKED | SHUTDOWN] {
            device.pio_write(0, &[event]);
        }
        device.pio_write(0, &[]);
        let expected = [
            Notice::GuestPanicked,
            Notice::GuestCrashLoaded,
            Notice::GuestPvShutdown,
            Notice::GuestPanicked,
        ];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
