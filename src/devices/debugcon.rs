//! The debug console: a port that takes bytes and passes them on (`isa-debugcon`).

use std::sync::{Arc, Mutex};

use super::class::{self, DeviceClass, Realize, RealizeError, Site};
use super::{Device, PioDevice, SharedDevice, ports};
use crate::mem::Access;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::vmstate::{StateError, Visitor};

/// The QOM type.
pub static TYPE: TypeInfo = TypeInfo {
    name: "isa-debugcon",
    parent: Some("isa-device"),
    is_abstract: false,
    interfaces: &[],
    bus: Some("ISA"),
    user_creatable: true,
    hotpluggable: false,
    description: "A port whose bytes go to a character device",
    properties: &[
        PropertyInfo::new(
            "chardev",
            PropertyKind::Chardev,
            Default::None,
            "ID of a chardev to use as a backend",
        ),
        PropertyInfo::new("iobase", PropertyKind::Uint32, Default::Uint(0xe9), ""),
        PropertyInfo::new("readback", PropertyKind::Uint32, Default::Uint(0xe9), ""),
    ],
};

/// The class.
pub static CLASS: DeviceClass = DeviceClass {
    info: &TYPE,
    realize: Realize::Isa(realize),
};

/// It was given no character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Can't create debugcon device, empty char device")]
pub struct NotConnected;

fn realize(values: &Values, site: &mut dyn Site) -> Result<SharedDevice, RealizeError> {
    let characters = site.characters(values.text("chardev"))?;
    if !characters.is_connected {
        return Err(RealizeError::of(NotConnected));
    }
    let [readback, ..] = values.uint("readback").unwrap_or_default().to_le_bytes();
    let console = Debugcon::new(Box::new(move |bytes| characters.sink.send_all(bytes)), readback);
    let device: SharedDevice = Arc::new(Mutex::new(console));
    let region = ports("isa-debugcon", 1, Access::BYTES, &device, 0);
    site.map_ports(class::port(values, "iobase")?, &region)?;
    Ok(device)
}

/// The device.
pub struct Debugcon {
    out: Output,
    readback: u8,
}

/// Where characters go. It takes all of them, and waits where it must.
pub type Output = Box<dyn FnMut(&[u8]) + Send>;

impl Debugcon {
    /// Its bytes go to `out`; reads answer `readback`, by which guests find it.
    #[must_use]
    pub fn new(out: Output, readback: u8) -> Self {
        Self { out, readback }
    }
}

impl PioDevice for Debugcon {
    fn pio_read(&mut self, _offset: u16, data: &mut [u8]) {
        // It has one port: the rest of a wide access goes to nobody.
        data.fill(0xff);
        data[..1].fill(self.readback);
    }

    fn pio_write(&mut self, _offset: u16, data: &[u8]) {
        (self.out)(&data[..data.len().min(1)]);
    }
}

impl Device for Debugcon {
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
