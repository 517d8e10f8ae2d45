//! Section `mc146818rtc`.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// The clock. Its times are nanoseconds of the clock that `-rtc clock=` names, which for `host` counts from 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcState {
    /// Memory, with the registers; those of the time were up to date when this was saved.
    pub cmos_data: [u8; 128],
    /// The register that the data port shows.
    pub cmos_index: u8,
    /// When the periodic interrupt comes, if one is wanted.
    pub periodic_timer: Option<u64>,
    /// The same, also while none is wanted.
    pub next_periodic_time: i64,
    /// Ticks that the guest could not take.
    pub irq_coalesced: u32,
    /// Time between periodic interrupts, of 32768 a second.
    pub period: u32,
    /// The guest's time at `last_update`, in seconds since 1970.
    pub base_rtc: u64,
    /// When the guest's time was last set.
    pub last_update: u64,
    /// Nanoseconds that were left of a second then.
    pub offset: i64,
    /// When the next second, or where nobody looks the alarm, is to be seen to.
    pub update_timer: Option<u64>,
    /// When the alarm comes.
    pub next_alarm_time: u64,
    /// Ticks that are to be made up for.
    pub reinject_on_ack_count: u16,
}

impl Default for RtcState {
    fn default() -> Self {
        Self {
            cmos_data: [0; 128],
            cmos_index: 0,
            periodic_timer: None,
            next_periodic_time: 0,
            irq_coalesced: 0,
            period: 0,
            base_rtc: 0,
            last_update: 0,
            offset: 0,
            update_timer: None,
            next_alarm_time: 0,
            reinject_on_ack_count: 0,
        }
    }
}

impl VmState for RtcState {
    fn layout(&self) -> Layout {
        Layout::new("mc146818rtc", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.buffer("cmos_data", &mut self.cmos_data)?;
        fields.int("cmos_index", &mut self.cmos_index)?;
        fields.unused("unused[0]", 28)?;
        fields.timer("periodic_timer", &mut self.periodic_timer)?;
        fields.int("next_periodic_time", &mut self.next_periodic_time)?;
        fields.unused("unused[1]", 24)?;
        fields.int("irq_coalesced", &mut self.irq_coalesced)?;
        fields.int("period", &mut self.period)?;
        fields.int("base_rtc", &mut self.base_rtc)?;
        fields.int("last_update", &mut self.last_update)?;
        fields.int("offset", &mut self.offset)?;
        fields.timer("update_timer", &mut self.update_timer)?;
        fields.int("next_alarm_time", &mut self.next_alarm_time)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let count = &mut self.reinject_on_ack_count;
        let layout = Layout::new("mc146818rtc/irq_reinject_on_ack_count", 1);
        subsections.section(layout, *count != 0, |fields| {
            fields.int("irq_reinject_on_ack_count", count)
        })
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if self.cmos_index > 127 {
            return Err(StateError::out_of_range("cmos_index", self.cmos_index));
        }
        Ok(())
    }
}
