//! `isa-pit`: the three counters of a PC (Intel 8254 datasheet) with port 0x61, which gates and reads the third.
//!
//! Nothing is counted: a counter knows when it started and computes the rest. The interrupts of counter 0 come from
//! [`Pit::expire`], which the machine calls at [`Pit::deadline`]. Ticks that the guest could not take in time are lost,
//! as on a real board.

mod counter;
mod state;
mod types;

use std::sync::Arc;

pub use self::state::SpeakerState;
pub use self::types::{ISA_PIT, KVM_PIT, PIT_COMMON};

use self::counter::Counter;
use super::{Clock, Device, IrqLine, PioDevice};
use crate::vmstate::pc::PitState;
use crate::vmstate::{StateError, StateErrorKind, Stateful, Visitor, section};

/// Offsets of the ports.
const CONTROL: u16 = 3;
const SPEAKER: u16 = 4;
/// Port 0x61: the gate of counter 2, and the speaker's data.
const GATE: u8 = 1;
const SPEAKER_DATA: u8 = 2;
const SPEAKER_BITS: u8 = GATE | SPEAKER_DATA;
/// Port 0x61: memory is refreshed, which changes every 15 microseconds; the output of counter 2.
const REFRESH: u8 = 1 << 4;
const OUTPUT: u8 = 1 << 5;
const REFRESH_NANOSECONDS: u64 = 15_085;

/// The timer.
pub struct Pit {
    irq: Arc<dyn IrqLine>,
    clock: Arc<dyn Clock>,
    state: State,
}

#[derive(Clone, Debug)]
struct State {
    counters: [Counter; 3],
    /// The bits of port 0x61 that can be written.
    speaker: u8,
    /// When counter 0 next interrupts, in nanoseconds of the clock.
    next_interrupt: Option<u64>,
}

impl Pit {
    /// First port: three counters and the control word.
    pub const PORT: u16 = 0x40;
    /// Number of these ports.
    pub const LEN: u16 = 4;
    /// Port 0x61, which is at offset [`Pit::SPEAKER_OFFSET`].
    pub const SPEAKER_PORT: u16 = 0x61;
    /// See [`Pit::SPEAKER_PORT`].
    pub const SPEAKER_OFFSET: u16 = SPEAKER;

    /// A timer on interrupt line `irq`, which stands still while `clock` does.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, clock: Arc<dyn Clock>) -> Self {
        Self {
            irq,
            clock,
            state: State::at_reset(),
        }
    }

    /// How many nanoseconds from now [`Pit::expire`] is to be called; none while no interrupt is to come.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let at = self.state.next_interrupt?;
        Some(at.saturating_sub(self.clock.nanoseconds()))
    }

    /// Raises the interrupt that is due.
    pub fn expire(&mut self) {
        let now = self.clock.nanoseconds();
        if self.state.next_interrupt.is_none_or(|at| at > now) {
            return;
        }
        self.irq.set(false);
        self.irq.set(true);
        self.plan_interrupt(now);
    }

    fn plan_interrupt(&mut self, now: u64) {
        self.state.next_interrupt = self.state.counters[0].next_rise(now);
    }

    fn control(&mut self, value: u8, now: u64) {
        let index = usize::from(value >> 6);
        if let Some(counter) = self.state.counters.get_mut(index) {
            counter.control(value, now);
            if index == 0 && value & 0x30 != 0 {
                let high = counter.output(now);
                self.irq.set(high);
                self.plan_interrupt(now);
            }
            return;
        }
        for (index, counter) in self.state.counters.iter_mut().enumerate() {
            if value & 2 << index != 0 {
                counter.read_back(value, now);
            }
        }
    }

    fn read(&mut self, offset: u16) -> u8 {
        let now = self.clock.nanoseconds();
        if let Some(counter) = self.state.counters.get_mut(usize::from(offset)) {
            return counter.read(now);
        }
        if offset != SPEAKER {
            // The control word cannot be read back.
            return 0;
        }
        let refresh = if now / REFRESH_NANOSECONDS % 2 == 0 { 0 } else { REFRESH };
        let output = if self.state.counters[2].output(now) { OUTPUT } else { 0 };
        self.state.speaker | refresh | output
    }

    fn write(&mut self, offset: u16, value: u8) {
        let now = self.clock.nanoseconds();
        match offset {
            0..=2 => {
                let loaded = self.state.counters[usize::from(offset)].write(value, now);
                if loaded && offset == 0 {
                    let high = self.state.counters[0].output(now);
                    self.irq.set(high);
                    self.plan_interrupt(now);
                }
            }
            CONTROL => self.control(value, now),
            SPEAKER => {
                self.state.speaker = value & SPEAKER_BITS;
                self.state.counters[2].set_gate(value & GATE != 0, now);
            }
            _ => {}
        }
    }
}

impl State {
    fn at_reset() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            speaker: 0,
            next_interrupt: None,
        }
    }
}

impl PioDevice for Pit {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(first) = data.first_mut() {
            *first = self.read(offset);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if let Some(first) = data.first() {
            self.write(offset, *first);
        }
    }
}

impl Stateful<PitState> for Pit {
    fn state(&self) -> PitState {
        let now = self.clock.nanoseconds();
        let mut channels = [0, 1, 2].map(|index: usize| self.state.counters[index].saved(now));
        channels[0].next_transition_time = self.state.counters[0].next_transition(now);
        PitState {
            irq_disabled: false,
            channels,
        }
    }

    fn set_state(&mut self, state: PitState) -> Result<(), StateError> {
        if state.irq_disabled {
            let reason = "the HPET stands in for counter 0, and there is none".to_owned();
            return Err(StateError::new(StateErrorKind::Refused(reason)).within("channels[0].irq_disabled"));
        }
        let now = self.clock.nanoseconds();
        self.state.counters = state.channels.map(|channel| Counter::restored(&channel, now));
        self.state.speaker = self.state.speaker & !GATE | u8::from(state.channels[2].gate);
        self.irq.set(self.state.counters[0].output(now));
        self.plan_interrupt(now);
        Ok(())
    }
}

impl Stateful<SpeakerState> for Pit {
    fn state(&self) -> SpeakerState {
        SpeakerState {
            data_on: self.state.speaker & SPEAKER_DATA != 0,
            dummy_refresh_clock: 0,
        }
    }

    fn set_state(&mut self, state: SpeakerState) -> Result<(), StateError> {
        self.state.speaker = self.state.speaker & GATE | if state.data_on { SPEAKER_DATA } else { 0 };
        Ok(())
    }
}

impl Device for Pit {
    fn type_name(&self) -> &'static str {
        "isa-pit"
    }

    fn reset(&mut self) {
        self.state = State::at_reset();
        self.irq.set(false);
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<PitState>(self))?;
        visit(&mut section::<SpeakerState>(self))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
