//! The port on an ISA bus: eight I/O ports, and its place in the machine's saved state.

use serde_json::{Value, json};

use super::TYPE;
use super::state::State;
use super::uart::{Links, Uart};
use crate::devices::{AcpiDevice, Device, PioDevice};
use crate::vmstate::{StateError, Stateful, Visitor, section};

/// Where a port is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of a machine's serial ports it is, from 0.
    pub index: usize,
    /// Its first port.
    pub start: u16,
    /// Its interrupt.
    pub irq: u8,
}

/// A serial port on an ISA bus.
pub struct IsaSerial {
    uart: Uart,
    place: Place,
}

impl IsaSerial {
    /// A port after power-on. `baudbase` is its rate with divisor 1.
    #[must_use]
    pub fn new(links: Links, baudbase: u32, place: Place) -> Self {
        Self {
            uart: Uart::new(links, baudbase),
            place,
        }
    }

    /// The chip.
    pub fn uart(&mut self) -> &mut Uart {
        &mut self.uart
    }
}

impl Stateful<State> for IsaSerial {
    fn state(&self) -> State {
        self.uart.state().clone()
    }

    fn set_state(&mut self, state: State) -> Result<(), StateError> {
        self.uart.set_state(state)
    }
}

impl Device for IsaSerial {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.uart.reset();
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<State>(self))
    }

    fn property(&self, name: &str) -> Option<Value> {
        Some(match name {
            "index" => json!(self.place.index),
            "iobase" => json!(self.place.start),
            "irq" => json!(self.place.irq),
            _ => return None,
        })
    }

    fn acpi(&self) -> Option<AcpiDevice> {
        Some(AcpiDevice::SerialPort(self.place.start, self.place.irq))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

/// A wide access is one to each of the registers it covers, as the bus makes of it.
impl PioDevice for IsaSerial {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        for (byte, register) in data.iter_mut().zip(offset..) {
            *byte = self.uart.read(register);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        for (byte, register) in data.iter().zip(offset..) {
            self.uart.write(register, *byte);
        }
    }
}
