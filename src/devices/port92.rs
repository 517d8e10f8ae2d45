//! System control port A at 0x92: a fast reset, and the A20 gate, which does nothing any more.

use super::{Device, Notice, Notifier, PioDevice, built_in};
use crate::qom::TypeInfo;
use crate::vmstate::{Fields, Layout, StateError, Stateful, Visitor, VmState, section};

/// A change from 0 to 1 resets the machine.
const FAST_RESET: u8 = 1;

/// The QOM type.
pub static TYPE: TypeInfo = built_in("port92", "isa-device", "System control port", &[]);

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

/// Section `port92`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port92State {
    /// What was written last.
    pub outport: u8,
}

impl VmState for Port92State {
    fn layout(&self) -> Layout {
        Layout::new("port92", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("outport", &mut self.outport)
    }
}

impl Stateful<Port92State> for Port92 {
    fn state(&self) -> Port92State {
        Port92State { outport: self.value }
    }

    fn set_state(&mut self, state: Port92State) -> Result<(), StateError> {
        self.value = state.outport;
        Ok(())
    }
}

impl Device for Port92 {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.value = 0;
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<Port92State>(self))
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
    use crate::devices::testing::{move_state, saved};
    use crate::vmstate::recorded::{check_round_trips, sections};

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

    #[test]
    fn its_section_is_qemus() {
        check_round_trips("port92", |_| Port92State::default());
        let mut one = Port92::new(Arc::new(|_| {}));
        let [section] = sections("q35-10.2-bare", "port92").try_into().unwrap();
        assert_eq!(saved(&mut one)[0].1, section.bytes());
        one.pio_write(0, &[2]);
        move_state(&mut one, &mut Port92::new(Arc::new(|_| {})));
    }
}
