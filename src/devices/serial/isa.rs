//! The port on an ISA bus: eight I/O ports, and its place in the machine's saved state.

use serde_json::Value;

use super::TYPE;
use super::state::State;
use super::uart::{Links, Uart};
use crate::devices::{Device, DeviceState, PioDevice};

/// Version of the saved state, that of QEMU's section.
const VERSION: u32 = 3;

/// A serial port on an ISA bus.
pub struct IsaSerial {
    uart: Uart,
}

impl IsaSerial {
    /// A port after power-on. `baudbase` is its rate with divisor 1.
    #[must_use]
    pub fn new(links: Links, baudbase: u32) -> Self {
        Self {
            uart: Uart::new(links, baudbase),
        }
    }

    /// The chip.
    pub fn uart(&mut self) -> &mut Uart {
        &mut self.uart
    }
}

impl Device for IsaSerial {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.uart.reset();
    }

    fn state(&self) -> DeviceState {
        match serde_json::to_value(self.uart.state()) {
            Ok(fields) => DeviceState::Versioned {
                version: VERSION,
                fields,
            },
            Err(_) => DeviceState::NonMigratable("its state cannot be written down"),
        }
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("version {version} of isa-serial is not known"));
        }
        let state: State = serde::Deserialize::deserialize(fields).map_err(|error| format!("isa-serial: {error}"))?;
        self.uart
            .set_state(state)
            .map_err(|reason| format!("isa-serial: {reason}"))
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
