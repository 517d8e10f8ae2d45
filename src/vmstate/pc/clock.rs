//! Sections `timer` and `kvmclock`: the clocks that a guest's time comes from.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// The virtual clock, which stands still while the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerState {
    /// The counter behind the TSC of an emulated processor; of no use to an accelerator.
    pub cpu_ticks_offset: i64,
    /// The clock when the guest was stopped, in nanoseconds since the machine was made.
    pub cpu_clock_offset: i64,
}

impl VmState for TimerState {
    fn layout(&self) -> Layout {
        Layout::new("timer", 2).since(1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("cpu_ticks_offset", &mut self.cpu_ticks_offset)?;
        fields.unused("unused", 8)?;
        if fields.version() >= 2 {
            fields.int("cpu_clock_offset", &mut self.cpu_clock_offset)?;
        }
        Ok(())
    }
}

/// KVM's clock for guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvmClockState {
    /// Nanoseconds, from KVM_GET_CLOCK when the guest was stopped.
    pub clock: u64,
    /// `clock` is the guest's own clock, and not one that runs beside it.
    pub is_reliable: bool,
}

impl VmState for KvmClockState {
    fn layout(&self) -> Layout {
        Layout::new("kvmclock", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("clock", &mut self.clock)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let reliable = &mut self.is_reliable;
        subsections.section(Layout::new("kvmclock/clock_is_reliable", 1), true, |fields| {
            fields.int("clock_is_reliable", reliable)
        })
    }
}
