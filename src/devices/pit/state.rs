//! What the timer is like in saved state.

use crate::vmstate::{Fields, Layout, StateError, VmState};

/// Section `pcspk`: port 0x61, as far as it is the speaker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeakerState {
    /// The speaker follows counter 2.
    pub data_on: bool,
    /// The bit that changes with each refresh of memory. It is computed from the time.
    pub dummy_refresh_clock: u8,
}

impl VmState for SpeakerState {
    fn layout(&self) -> Layout {
        Layout::new("pcspk", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.flag::<u8>("data_on", &mut self.data_on)?;
        fields.int("dummy_refresh_clock", &mut self.dummy_refresh_clock)
    }
}
