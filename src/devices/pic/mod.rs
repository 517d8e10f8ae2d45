//! `isa-i8259`: the two interrupt controllers of a PC, one cascaded behind input 2 of the other (Intel 8259A datasheet),
//! with the registers that say which inputs are level-triggered (ICH9 datasheet, section 13.5.4).
//!
//! One value holds both chips. Its ports are 0x20 and 0x21, 0xa0 and 0xa1, 0x4d0 and 0x4d1, in this order at offsets 0
//! to 5.

mod chip;

use std::sync::Arc;

use self::chip::Chip;
use super::{Device, IrqLine, PioDevice, built_in};
use crate::accel::controllers::PicInfo;
use crate::qom::TypeInfo;
use crate::vmstate::pc::PicState;
use crate::vmstate::{StateError, Stateful, Visitor, section};

/// The input of the first chip that the second one drives.
const CASCADE: u8 = 2;
/// What an input that went away before it was acknowledged counts as.
const SPURIOUS: u8 = 7;

/// The chips outside the kernel.
pub static ISA_PIC: TypeInfo = built_in("isa-i8259", "isa-device", "Interrupt controllers", &[]);
/// KVM's.
pub static KVM_PIC: TypeInfo = built_in("kvm-i8259", "isa-device", "KVM's interrupt controllers", &[]);

/// Both chips.
pub struct Pics {
    output: Arc<dyn IrqLine>,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    chips: [Chip; 2],
}

impl Pics {
    /// Commands and data of the first chip.
    pub const FIRST_PORT: u16 = 0x20;
    /// Commands and data of the second chip, which start at offset [`Pics::SECOND_OFFSET`].
    pub const SECOND_PORT: u16 = 0xa0;
    /// See [`Pics::SECOND_PORT`].
    pub const SECOND_OFFSET: u16 = 2;
    /// Trigger modes, which start at offset [`Pics::TRIGGER_OFFSET`].
    pub const TRIGGER_PORT: u16 = 0x4d0;
    /// See [`Pics::TRIGGER_PORT`].
    pub const TRIGGER_OFFSET: u16 = 4;

    /// Inputs that may be level-triggered, for each chip: not those of timer, keyboard, cascade, clock and coprocessor.
    const MAY_BE_LEVEL: [u8; 2] = [0xf8, 0xde];

    /// Controllers whose interrupt request goes to `output`.
    #[must_use]
    pub fn new(output: Arc<dyn IrqLine>) -> Self {
        Self {
            output,
            state: State::default(),
        }
    }

    /// The registers of the first chip and of the second as they are now.
    #[must_use]
    pub fn info(&self) -> [PicInfo; 2] {
        [&self.state.chips[0], &self.state.chips[1]].map(Chip::info)
    }

    /// Drives input 0 to 15. Input 2 is the cascade and cannot be driven; inputs from 16 on do not exist.
    pub fn set_line(&mut self, irq: u8, level: bool) {
        if irq == CASCADE {
            return;
        }
        let Some(chip) = self.state.chips.get_mut(usize::from(irq >> 3)) else {
            return;
        };
        chip.set_line(irq & 7, level);
        self.update();
    }

    /// Whether an interrupt waits for the processor.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.state.chips[0].request(true).is_some()
    }

    /// The processor takes an interrupt: its vector.
    pub fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.state.chips;
        let irq = first.request(true);
        if let Some(irq) = irq {
            first.take(irq);
        }
        let vector = if irq == Some(CASCADE) {
            let irq = second.request(false);
            if let Some(irq) = irq {
                second.take(irq);
            }
            second.base | irq.unwrap_or(SPURIOUS)
        } else {
            first.base | irq.unwrap_or(SPURIOUS)
        };
        self.update();
        vector
    }

    /// Passes the second chip's request on to the first, and the first one's to the processor.
    fn update(&mut self) {
        let cascade = self.state.chips[1].request(false).is_some();
        self.state.chips[0].set_line(CASCADE, cascade);
        self.output.set(self.is_pending());
    }

    fn read(&mut self, offset: u16) -> u8 {
        let chip = &mut self.state.chips[usize::from(offset >> 1) & 1];
        match offset {
            0..=3 if chip.poll => {
                let first = offset < 2;
                chip.poll = false;
                let irq = chip.request(first);
                if let Some(irq) = irq {
                    chip.take(irq);
                }
                self.update();
                irq.map_or(0, |irq| 0x80 | irq)
            }
            0 | 2 if chip.reads_isr => chip.isr,
            0 | 2 => chip.irr,
            1 | 3 => chip.imr,
            4 => self.state.chips[0].elcr,
            5 => self.state.chips[1].elcr,
            _ => 0xff,
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        match offset {
            0 | 2 => self.state.chips[usize::from(offset >> 1)].command(value),
            1 | 3 => self.state.chips[usize::from(offset >> 1)].data(value),
            4 | 5 => {
                let index = usize::from(offset - 4);
                self.state.chips[index].elcr = value & Self::MAY_BE_LEVEL[index];
            }
            _ => return,
        }
        self.update();
    }
}

impl PioDevice for Pics {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        for (place, byte) in (offset..).zip(data) {
            *byte = self.read(place);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        for (place, byte) in (offset..).zip(data) {
            self.write(place, *byte);
        }
    }
}

/// One of the two chips.
struct ChipOf<'a>(&'a mut Pics, usize);

impl Stateful<PicState> for ChipOf<'_> {
    fn state(&self) -> PicState {
        self.0.state.chips[self.1].saved()
    }

    fn set_state(&mut self, state: PicState) -> Result<(), StateError> {
        self.0.state.chips[self.1] = Chip::restored(&state)?;
        self.0.output.set(self.0.is_pending());
        Ok(())
    }
}

impl Device for Pics {
    fn type_name(&self) -> &'static str {
        ISA_PIC.name
    }

    fn reset(&mut self) {
        for chip in &mut self.state.chips {
            chip.reset();
        }
        self.update();
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<PicState>(&mut ChipOf(self, 0)))?;
        visit(&mut section::<PicState>(&mut ChipOf(self, 1)))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
