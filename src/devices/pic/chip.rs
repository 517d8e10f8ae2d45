//! One 8259A.

use super::CASCADE;
use crate::accel::controllers::PicInfo;
use crate::vmstate::StateError;
use crate::vmstate::pc::PicState;

/// First initialisation word: this is one; a fourth one follows; there is one chip only; inputs are level-triggered.
const ICW1: u8 = 0x10;
const ICW1_FOURTH: u8 = 0x01;
const ICW1_SINGLE: u8 = 0x02;
const ICW1_LEVEL: u8 = 0x08;
/// Fourth initialisation word: interrupts end by themselves; fully nested in spite of the cascade.
const ICW4_AUTO_END: u8 = 0x02;
const ICW4_SPECIAL_NESTED: u8 = 0x10;
/// Third operation word: this is one.
const OCW3: u8 = 0x08;

/// One chip. Bit n of a mask is input n.
#[derive(Clone, Debug, Default)]
pub(super) struct Chip {
    /// Levels of the inputs.
    pub(super) lines: u8,
    /// Requests.
    pub(super) irr: u8,
    /// Interrupts in service.
    pub(super) isr: u8,
    /// Masked inputs.
    pub(super) imr: u8,
    /// The input with the highest priority.
    pub(super) first: u8,
    /// The vector of input 0.
    pub(super) base: u8,
    /// Level-triggered inputs.
    pub(super) elcr: u8,
    /// All inputs are level-triggered, whatever `elcr` says.
    all_level: bool,
    /// The initialisation word that comes next, 2 to 4; 0 when all have come.
    next_word: u8,
    needs_fourth: bool,
    single: bool,
    auto_end: bool,
    /// Interrupts that end by themselves rotate the priorities.
    rotates: bool,
    special_nested: bool,
    special_mask: bool,
    /// Reads of the command port give interrupts in service, not requests.
    pub(super) reads_isr: bool,
    /// The next read of any port acknowledges an interrupt.
    pub(super) poll: bool,
}

impl Chip {
    /// The registers as they are now.
    pub(super) fn info(&self) -> PicInfo {
        PicInfo {
            irr: self.irr,
            imr: self.imr,
            isr: self.isr,
            first: self.first,
            base: self.base,
            reads_isr: self.reads_isr,
            elcr: self.elcr,
            special_nested: self.special_nested,
        }
    }

    /// Its registers, for saving.
    pub(super) fn saved(&self) -> PicState {
        PicState {
            last_irr: self.lines,
            irr: self.irr,
            imr: self.imr,
            isr: self.isr,
            priority_add: self.first,
            irq_base: self.base,
            read_reg_select: self.reads_isr,
            poll: self.poll,
            special_mask: self.special_mask,
            // Here words are counted from 1.
            init_state: self.next_word.saturating_sub(1),
            auto_eoi: self.auto_end,
            rotate_on_auto_eoi: self.rotates,
            special_fully_nested_mode: self.special_nested,
            init4: self.needs_fourth,
            single_mode: self.single,
            elcr: self.elcr,
            ltim: self.all_level,
        }
    }

    /// A chip with these registers.
    ///
    /// # Errors
    /// They are not those of a chip.
    pub(super) fn restored(state: &PicState) -> Result<Self, StateError> {
        if state.irq_base & 7 != 0 {
            return Err(StateError::out_of_range("irq_base", state.irq_base));
        }
        Ok(Self {
            lines: state.last_irr,
            irr: state.irr,
            isr: state.isr,
            imr: state.imr,
            first: state.priority_add,
            base: state.irq_base,
            elcr: state.elcr,
            all_level: state.ltim,
            next_word: match state.init_state {
                0 => 0,
                state => state + 1,
            },
            needs_fourth: state.init4,
            single: state.single_mode,
            auto_end: state.auto_eoi,
            rotates: state.rotate_on_auto_eoi,
            special_nested: state.special_fully_nested_mode,
            special_mask: state.special_mask,
            reads_isr: state.read_reg_select,
            poll: state.poll,
        })
    }

    /// Back to the state after power-on, with the inputs at the levels they have.
    pub(super) fn reset(&mut self) {
        *self = Self {
            lines: self.lines,
            ..Self::default()
        };
    }

    /// Drives an input, 0 to 7.
    pub(super) fn set_line(&mut self, irq: u8, level: bool) {
        let bit = 1 << irq;
        let rises = level && self.lines & bit == 0;
        self.lines = if level { self.lines | bit } else { self.lines & !bit };
        if self.is_level(bit) {
            self.irr = self.irr & !bit | self.lines & bit;
        } else if rises {
            self.irr |= bit;
        }
    }

    fn is_level(&self, bit: u8) -> bool {
        self.all_level || self.elcr & bit != 0
    }

    /// The request with the highest priority, if it is above that of everything in service.
    pub(super) fn request(&self, is_first: bool) -> Option<u8> {
        let irq = self.highest(self.irr & !self.imr)?;
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.special_nested && is_first {
            // The second chip may have something more urgent than what it has in service already.
            in_service &= !(1 << CASCADE);
        }
        match self.highest(in_service) {
            Some(current) if self.rank(irq) >= self.rank(current) => None,
            _ => Some(irq),
        }
    }

    fn rank(&self, irq: u8) -> u8 {
        irq.wrapping_sub(self.first) & 7
    }

    fn highest(&self, mask: u8) -> Option<u8> {
        (0..8)
            .filter(|irq| mask & 1 << irq != 0)
            .min_by_key(|irq| self.rank(*irq))
    }

    /// The request goes into service.
    pub(super) fn take(&mut self, irq: u8) {
        let bit = 1 << irq;
        if !self.is_level(bit) {
            self.irr &= !bit;
        }
        if !self.auto_end {
            self.isr |= bit;
        } else if self.rotates {
            self.first = (irq + 1) & 7;
        }
    }

    /// A write to the command port.
    pub(super) fn command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialize(value);
        } else if value & OCW3 != 0 {
            self.poll = value & 4 != 0;
            if value & 2 != 0 {
                self.reads_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.end_of_interrupt(value >> 5, value & 7);
        }
    }

    /// The second operation word.
    fn end_of_interrupt(&mut self, command: u8, irq: u8) {
        match command {
            0 | 4 => self.rotates = command == 4,
            1 | 5 => {
                // What the special mask hides ends by name only.
                let hidden = if self.special_mask { self.imr } else { 0 };
                let Some(current) = self.highest(self.isr & !hidden) else {
                    return;
                };
                self.isr &= !(1 << current);
                if command == 5 {
                    self.first = (current + 1) & 7;
                }
            }
            3 => self.isr &= !(1 << irq),
            6 => self.first = (irq + 1) & 7,
            7 => {
                self.isr &= !(1 << irq);
                self.first = (irq + 1) & 7;
            }
            _ => {}
        }
    }

    /// The first initialisation word.
    fn initialize(&mut self, value: u8) {
        *self = Self {
            lines: self.lines,
            elcr: self.elcr,
            base: self.base,
            all_level: value & ICW1_LEVEL != 0,
            single: value & ICW1_SINGLE != 0,
            needs_fourth: value & ICW1_FOURTH != 0,
            next_word: 2,
            ..Self::default()
        };
        // Edges from before are forgotten; levels are still there.
        self.irr = if self.all_level {
            self.lines
        } else {
            self.lines & self.elcr
        };
    }

    /// A write to the data port.
    pub(super) fn data(&mut self, value: u8) {
        let after_third = if self.needs_fourth { 4 } else { 0 };
        match self.next_word {
            2 => {
                self.base = value & 0xf8;
                self.next_word = if self.single { after_third } else { 3 };
            }
            3 => self.next_word = after_third,
            4 => {
                self.auto_end = value & ICW4_AUTO_END != 0;
                self.special_nested = value & ICW4_SPECIAL_NESTED != 0;
                self.next_word = 0;
            }
            _ => self.imr = value,
        }
    }
}
