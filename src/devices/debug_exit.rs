//! `isa-debug-exit`: a port by which a test guest ends the emulator with an exit status.

use std::sync::{Arc, Mutex};

use super::class::{self, DeviceClass, Realize, RealizeError, Site};
use super::{Device, Notice, Notifier, PioDevice, SharedDevice, ports};
use crate::mem::Access;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::vmstate::{StateError, Visitor};

/// `isa-debug-exit`.
pub static TYPE: TypeInfo = TypeInfo {
    name: "isa-debug-exit",
    parent: Some("isa-device"),
    is_abstract: false,
    interfaces: &[],
    bus: Some("ISA"),
    user_creatable: true,
    hotpluggable: false,
    description: "Ends the emulator when written to",
    properties: &[
        PropertyInfo::new("iobase", PropertyKind::Uint32, Default::Uint(0x501), "First port"),
        PropertyInfo::new("iosize", PropertyKind::Uint32, Default::Uint(2), "How many ports"),
    ],
};

/// The class.
pub static CLASS: DeviceClass = DeviceClass {
    info: &TYPE,
    realize: Realize::Isa(realize),
};

fn realize(values: &Values, site: &mut dyn Site) -> Result<SharedDevice, RealizeError> {
    let device: SharedDevice = Arc::new(Mutex::new(DebugExit::new(site.notifier())));
    let len = class::port(values, "iosize")?;
    let region = ports("isa-debug-exit", len, Access::UP_TO_FOUR, &device, 0);
    site.map_ports(class::port(values, "iobase")?, &region)?;
    Ok(device)
}

/// The port.
pub struct DebugExit {
    notifier: Notifier,
}

impl DebugExit {
    /// A port that reports to `notifier`.
    #[must_use]
    pub fn new(notifier: Notifier) -> Self {
        Self { notifier }
    }
}

impl Device for DebugExit {
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
}

impl PioDevice for DebugExit {
    fn pio_read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&mut self, _: u16, data: &[u8]) {
        // An odd status can be told from a normal end.
        if let Some(value) = data.first() {
            (self.notifier)(Notice::DebugExit(value << 1 | 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_odd_and_made_of_the_low_bits() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let mut device = DebugExit::new(Arc::new(move |notice| sink.lock().unwrap().push(notice)));
        device.pio_write(0, &[0]);
        device.pio_write(0, &[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(*seen.lock().unwrap(), [Notice::DebugExit(1), Notice::DebugExit(0xff)]);
    }
}
