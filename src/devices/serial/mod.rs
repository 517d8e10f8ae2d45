//! `isa-serial`: a 16550A serial port (National Semiconductor PC16550D).

#[cfg(target_arch = "x86_64")]
mod chip;

#[cfg(target_arch = "x86_64")]
pub use chip::{Drained, IsaSerial, Output};

use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo};

/// Ports it occupies.
pub const PORTS: u16 = 8;
/// First port and interrupt of the four classic serial ports.
pub const PLACES: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// `isa-serial`.
pub static TYPE: TypeInfo = TypeInfo {
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
    ],
};
