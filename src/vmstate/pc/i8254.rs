//! Section `i8254`: the three counters of the timer.

use crate::vmstate::{Fields, Layout, StateError, VmState};

/// How a channel is read or written: the values of `count_latched`, `read_state` and `write_state`.
const RW_STATES: std::ops::RangeInclusive<u8> = 0..=4;

/// The timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PitState {
    /// Channel 0 raises no interrupts, since the HPET stands in for it.
    pub irq_disabled: bool,
    /// The channels.
    pub channels: [PitChannelState; 3],
}

/// One channel (Intel 8254 datasheet). Times are nanoseconds of the virtual clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PitChannelState {
    /// What it counts down from, 1 to 65536.
    pub count: i32,
    /// The count that a latch command kept.
    pub latched_count: u16,
    /// How the next byte of the kept count is read, as in `read_state`; 0 if none is kept.
    pub count_latched: u8,
    /// A status is kept.
    pub status_latched: bool,
    /// The status that a read-back command kept.
    pub status: u8,
    /// How the next byte is read: 1 low, 2 high, 3 low of both, 4 high of both; 0 before any control word.
    pub read_state: u8,
    /// How the next byte is written.
    pub write_state: u8,
    /// The low byte of a count whose high byte is still to come.
    pub write_latch: u8,
    /// Which bytes of a count are read and written: 1 low, 2 high, 3 low then high.
    pub rw_mode: u8,
    /// 0 to 5.
    pub mode: u8,
    /// Counts in decimal digits.
    pub bcd: bool,
    /// The gate is open.
    pub gate: bool,
    /// When it started to count.
    pub count_load_time: i64,
    /// When its output changes next, else -1.
    pub next_transition_time: i64,
}

impl VmState for PitState {
    fn layout(&self) -> Layout {
        Layout::new("i8254", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        if fields.version() >= 3 {
            fields.flag::<u32>("channels[0].irq_disabled", &mut self.irq_disabled)?;
        }
        fields.structures("channels", &mut self.channels)?;
        fields.int(
            "channels[0].next_transition_time",
            &mut self.channels[0].next_transition_time,
        )
    }
}

impl VmState for PitChannelState {
    fn layout(&self) -> Layout {
        Layout::new("pit channel", 2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("count", &mut self.count)?;
        fields.int("latched_count", &mut self.latched_count)?;
        fields.int("count_latched", &mut self.count_latched)?;
        fields.flag::<u8>("status_latched", &mut self.status_latched)?;
        fields.int("status", &mut self.status)?;
        fields.int("read_state", &mut self.read_state)?;
        fields.int("write_state", &mut self.write_state)?;
        fields.int("write_latch", &mut self.write_latch)?;
        fields.int("rw_mode", &mut self.rw_mode)?;
        fields.int("mode", &mut self.mode)?;
        fields.flag::<u8>("bcd", &mut self.bcd)?;
        fields.flag::<u8>("gate", &mut self.gate)?;
        fields.int("count_load_time", &mut self.count_load_time)?;
        fields.int("next_transition_time", &mut self.next_transition_time)
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if !(0..=0x1_0000).contains(&self.count) {
            return Err(StateError::out_of_range(
                "count",
                u32::from_ne_bytes(self.count.to_ne_bytes()),
            ));
        }
        if self.mode > 5 {
            return Err(StateError::out_of_range("mode", self.mode));
        }
        if self.rw_mode > 3 {
            return Err(StateError::out_of_range("rw_mode", self.rw_mode));
        }
        for (name, state) in [
            ("count_latched", self.count_latched),
            ("read_state", self.read_state),
            ("write_state", self.write_state),
        ] {
            if !RW_STATES.contains(&state) {
                return Err(StateError::out_of_range(name, state));
            }
        }
        Ok(())
    }
}
