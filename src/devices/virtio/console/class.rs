//! `virtio-serial-pci` and its kin: their properties, and how they are made.

use std::sync::Arc;

use super::{PortBus, Serial};
use crate::devices::class::{DeviceClass, Realize, RealizeError, Site};
use crate::devices::pci::{PciPlace, SharedFunction};
use crate::devices::virtio::Kind;
use crate::devices::virtio::transport::pci::{self, Interfaces};
use crate::devices::virtio::types::device_types;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};

/// Most ports: each takes two queues of 1024, and so does what is said of them.
const MAX_PORTS: u64 = 511;

const fn kind(class: [u8; 3]) -> Kind {
    Kind {
        name: "virtio-serial",
        id: 3,
        transitional_id: Some(0x1003),
        class,
    }
}

/// The kind.
static KIND: Kind = kind([0x07, 0x80, 0x00]);
/// The kind as machines of long ago had it, which some guests look for.
static DISPLAY_KIND: Kind = kind([0x03, 0x80, 0x00]);
static OTHER_KIND: Kind = kind([0x00, 0xff, 0x00]);

const MAX_PORTS_PROPERTY: PropertyInfo = PropertyInfo::new("max_ports", PropertyKind::Uint32, Default::Uint(31), "");

device_types!(
    "virtio-serial",
    SERIAL_DEVICE: &[MAX_PORTS_PROPERTY],
    SERIAL_PCI_BASE: &[
        pci::IOEVENTFD,
        PropertyInfo::new("vectors", PropertyKind::Uint32, Default::Uint(2), ""),
        PropertyInfo::new("class", PropertyKind::Uint32, Default::Uint(0), ""),
        MAX_PORTS_PROPERTY,
        PropertyInfo::read_only("virtio-backend", PropertyKind::Other("child<virtio-serial-device>"), ""),
    ],
    realize
);

/// A number of ports that there cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// None at all.
    #[error("Maximum number of serial ports not specified")]
    NoPorts,
    /// More than there are queues for.
    #[error("maximum ports supported: {MAX_PORTS}")]
    TooMany,
}

fn realize(
    info: &'static TypeInfo,
    interfaces: Interfaces,
    (values, place, site): (&Values, PciPlace, &mut dyn Site),
) -> Result<SharedFunction, RealizeError> {
    let max_ports = match values.uint("max_ports").unwrap_or_default() {
        0 => return Err(RealizeError::of(SerialError::NoPorts)),
        count if count > MAX_PORTS => return Err(RealizeError::of(SerialError::TooMany)),
        count => u16::try_from(count).unwrap_or(u16::MAX),
    };
    let kind = match values.uint("class") {
        Some(0x0380) => &DISPLAY_KIND,
        Some(0x00ff) => &OTHER_KIND,
        _ => &KIND,
    };
    let bus = PortBus::new(max_ports.into(), site.notifier());
    let device = Arc::new(Serial::new(kind, bus, site.event_loop()));
    pci::realize(
        (info, &SERIAL_DEVICE),
        interfaces,
        max_ports + 1,
        (values, place, site),
        device,
    )
}
