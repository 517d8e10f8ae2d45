//! Section `vmmouse`: the mouse behind VMware's port.

use super::AbsentState;
use crate::vmstate::{Fields, Layout, StateError, VmState};

/// Words that wait for the guest at most.
const QUEUE: usize = 1024;
/// Status: nothing has switched it on.
const DISABLED: u16 = 0xffff;

/// The mouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmMouseState {
    /// Words for the guest.
    pub queue: [u32; QUEUE],
    /// How many there are.
    pub count: u16,
    /// What it says of itself.
    pub status: u16,
    /// It tells where it is, not how it moved.
    pub absolute: bool,
}

impl VmState for VmMouseState {
    fn layout(&self) -> Layout {
        Layout::new("vmmouse", 0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.equal("queue_size", QUEUE as u32, "int32 equal")?;
        fields.ints("queue", &mut self.queue)?;
        fields.int("nb_queue", &mut self.count)?;
        fields.int("status", &mut self.status)?;
        fields.flag::<u8>("absolute", &mut self.absolute)
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if usize::from(self.count) > QUEUE {
            return Err(StateError::out_of_range("nb_queue", self.count));
        }
        Ok(())
    }
}

impl AbsentState for VmMouseState {
    const TYPE: &'static str = "vmmouse";

    fn at_reset() -> Self {
        Self {
            queue: [0; QUEUE],
            count: 0,
            status: DISABLED,
            absolute: false,
        }
    }
}
