//! Section `dma`: an 8237A; instance 0 moves bytes, instance 1 words.

use super::AbsentState;
use crate::vmstate::{Fields, Layout, StateError, VmState};

/// A controller. `SHIFT` is 0 for bytes, 1 for words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaState<const SHIFT: i32> {
    /// Command register.
    pub command: u8,
    /// Masked channels.
    pub mask: u8,
    /// Which byte of an address comes next.
    pub flip_flop: u8,
    /// Channels.
    pub channels: [DmaChannel; 4],
}

/// A channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaChannel {
    /// Address and count now.
    pub now: [i32; 2],
    /// Those it starts with.
    pub base: [u16; 2],
    /// Mode register.
    pub mode: u8,
    /// Bits 16 to 23 of addresses.
    pub page: u8,
    /// Bits 24 to 31.
    pub page_high: u8,
    /// A transfer is acknowledged.
    pub acknowledged: u8,
    /// A transfer has ended.
    pub ended: u8,
}

impl<const SHIFT: i32> VmState for DmaState<SHIFT> {
    fn layout(&self) -> Layout {
        Layout::new("dma", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("command", &mut self.command)?;
        fields.int("mask", &mut self.mask)?;
        fields.int("flip_flop", &mut self.flip_flop)?;
        let mut shift = SHIFT;
        fields.int("dshift", &mut shift)?;
        if shift != SHIFT {
            return Err(StateError::out_of_range(
                "dshift",
                u32::from_ne_bytes(shift.to_ne_bytes()),
            ));
        }
        fields.structures("regs", &mut self.channels)
    }
}

impl VmState for DmaChannel {
    fn layout(&self) -> Layout {
        Layout::new("dma_regs", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.ints("now", &mut self.now)?;
        fields.ints("base", &mut self.base)?;
        fields.int("mode", &mut self.mode)?;
        fields.int("page", &mut self.page)?;
        fields.int("pageh", &mut self.page_high)?;
        fields.int("dack", &mut self.acknowledged)?;
        fields.int("eop", &mut self.ended)
    }
}

impl<const SHIFT: i32> AbsentState for DmaState<SHIFT> {
    const TYPE: &'static str = "i8257";

    fn at_reset() -> Self {
        Self {
            command: 0,
            mask: 0xff,
            flip_flop: 0,
            channels: [DmaChannel::default(); 4],
        }
    }
}
