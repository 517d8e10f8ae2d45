//! `isa-serial`: a 16550A serial port (National Semiconductor PC16550D).

mod isa;
mod registers;
mod state;
#[cfg(test)]
mod tests;
mod uart;

pub use isa::IsaSerial;
pub use state::{FIFO_SIZE, State};
pub use uart::{Line, Links, Uart, Wakeup};

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
