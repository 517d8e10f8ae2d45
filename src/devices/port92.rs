//! System control port A at 0x92: a fast reset, and the A20 gate, which does nothing any more.

use serde_json::{Value, json};

use super::{Device, DeviceState, Notice, Notifier, PioDevice};

/// A change from 0 to 1 resets the machine.
const FAST_RESET: u8 = 1;
/// Version of the saved state.
const VERSION: u32 = 1;

/// The port.
pub struct Port92 {
    value: u8,
    notifier: Notifier,
}

impl Port92 {
    /// The port's number.
    pub const PORT: u16 = 0x92;

    /// A port that asks for resets through `notifier`.
    #[must_use]
    pub fn new(notifier: Notifier) -> Self {
        Self { value: 0, notifier }
    }
}

impl PioDevice for Port92 {
    fn pio_read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(self.value);
    }

    fn pio_write(&mut self, _offset: u16, data: &[u8]) {
        let Some(value) = data.first() else { return };
        let rises = value & !self.value & FAST_RESET != 0;
        self.value = *value;
        if rises {
            (self.notifier)(Notice::ResetRequest);
        }
    }
}

impl Device for Port92 {
    fn type_name(&self) -> &'static str {
        "port92"
    }

    fn reset(&mut self) {
        self.value = 0;
    }

    fn state(&self) -> DeviceState {
        DeviceState::Versioned {
            version: VERSION,
            fields: json!({ "outport": self.value }),
        }
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("port92 state version {version} is not {VERSION}"));
        }
        let value = fields
            .get("outport")
            .and_then(Value::as_u64)
            .and_then(|value| u8::try_from(value).ok());
        self.value = value.ok_or("field 'outport' is missing or out of range")?;
        Ok(())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn only_a_rising_bit_resets() {
        let resets = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&resets);
        let mut port = Port92::new(Arc::new(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
        }));
        for value in [2, 3, 3, 2, 1] {
            port.pio_write(0, &[value]);
        }
        assert_eq!(resets.load(Ordering::Relaxed), 2);
    }
}
