//! `isa-i8259`: the two interrupt controllers of a PC, one cascaded behind input 2 of the other (Intel 8259A datasheet),
//! with the registers that say which inputs are level-triggered (ICH9 datasheet, section 13.5.4).
//!
//! One value holds both chips. Its ports are 0x20 and 0x21, 0xa0 and 0xa1, 0x4d0 and 0x4d1, in this order at offsets 0
//! to 5.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Device, DeviceState, IrqLine, PioDevice, restore_fields, saved_fields};

/// Version of the saved state.
const VERSION: u32 = 1;
/// The input of the first chip that the second one drives.
const CASCADE: u8 = 2;
/// What an input that went away before it was acknowledged counts as.
const SPURIOUS: u8 = 7;

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

/// Both chips.
pub struct Pics {
    output: Arc<dyn IrqLine>,
    state: State,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    chips: [Chip; 2],
}

/// One chip. Bit n of a mask is input n.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Chip {
    /// Levels of the inputs.
    lines: u8,
    /// Requests.
    irr: u8,
    /// Interrupts in service.
    isr: u8,
    /// Masked inputs.
    imr: u8,
    /// The input with the highest priority.
    first: u8,
    /// The vector of input 0.
    base: u8,
    /// Level-triggered inputs.
    elcr: u8,
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
    reads_isr: bool,
    /// The next read of any port acknowledges an interrupt.
    poll: bool,
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

impl Chip {
    fn set_line(&mut self, irq: u8, level: bool) {
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
    fn request(&self, is_first: bool) -> Option<u8> {
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
    fn take(&mut self, irq: u8) {
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

    fn command(&mut self, value: u8) {
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

    fn data(&mut self, value: u8) {
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

impl Device for Pics {
    fn type_name(&self) -> &'static str {
        "isa-i8259"
    }

    fn reset(&mut self) {
        for chip in &mut self.state.chips {
            *chip = Chip {
                lines: chip.lines,
                ..Chip::default()
            };
        }
        self.update();
    }

    fn state(&self) -> DeviceState {
        saved_fields(VERSION, &self.state)
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        let mut state: State = restore_fields("isa-i8259", (version, VERSION), fields)?;
        for chip in &mut state.chips {
            chip.first &= 7;
            chip.base &= 0xf8;
        }
        self.state = state;
        self.output.set(self.is_pending());
        Ok(())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::testing::{CountingLine, random_accesses};

    /// Initialised as a PC does, vectors from 0x20 and 0x28, nothing masked.
    fn pics() -> (Pics, Arc<CountingLine>) {
        let line = Arc::new(CountingLine::default());
        let mut pics = Pics::new(Arc::clone(&line) as _);
        for (offset, value) in [
            (0, 0x11),
            (1, 0x20),
            (1, 4),
            (1, 1),
            (2, 0x11),
            (3, 0x28),
            (3, 2),
            (3, 1),
        ] {
            pics.pio_write(offset, &[value]);
        }
        (pics, line)
    }

    fn read(pics: &mut Pics, offset: u16) -> u8 {
        let mut byte = [0];
        pics.pio_read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn an_edge_is_one_interrupt_until_its_end() {
        let (mut pics, line) = pics();
        pics.set_line(4, true);
        pics.set_line(4, false);
        assert!(line.is_high());
        assert_eq!(pics.acknowledge(), 0x24);
        assert!(!line.is_high());
        pics.set_line(4, true);
        assert!(!line.is_high(), "in service");
        pics.pio_write(0, &[0x20]);
        assert!(line.is_high());
        assert_eq!(pics.acknowledge(), 0x24);
        pics.pio_write(0, &[0x20]);
        assert!(!line.is_high(), "the level alone is no interrupt");
    }

    #[test]
    fn the_second_chip_comes_through_the_first() {
        let (mut pics, line) = pics();
        pics.set_line(9, true);
        pics.set_line(0, true);
        assert_eq!(pics.acknowledge(), 0x20);
        assert!(!line.is_high(), "the timer is more urgent");
        pics.pio_write(0, &[0x20]);
        assert_eq!(pics.acknowledge(), 0x29);
        pics.pio_write(0, &[0x0b]);
        pics.pio_write(2, &[0x0b]);
        assert_eq!((read(&mut pics, 0), read(&mut pics, 2)), (4, 2));
        pics.pio_write(2, &[0x20]);
        pics.pio_write(0, &[0x20]);
        assert!(!pics.is_pending());
    }

    #[test]
    fn a_level_stays_until_it_is_lowered() {
        let (mut pics, line) = pics();
        pics.pio_write(5, &[0xff]);
        assert_eq!(read(&mut pics, 5), 0xde);
        pics.set_line(9, true);
        assert_eq!(pics.acknowledge(), 0x29);
        pics.pio_write(2, &[0x20]);
        pics.pio_write(0, &[0x20]);
        assert!(line.is_high());
        pics.set_line(9, false);
        assert!(pics.state.chips[1].irr == 0);
        assert_eq!(pics.acknowledge(), 0x2f, "it went away too late");
    }

    #[test]
    fn masks_hide_and_nothing_acknowledged_is_spurious() {
        let (mut pics, line) = pics();
        pics.pio_write(1, &[0x10]);
        pics.set_line(4, true);
        assert!(!line.is_high());
        assert_eq!(read(&mut pics, 0), 0x10);
        assert_eq!(pics.acknowledge(), 0x27);
        pics.pio_write(1, &[0]);
        assert!(line.is_high());
    }

    #[test]
    fn a_poll_acknowledges() {
        let (mut pics, line) = pics();
        pics.set_line(3, true);
        pics.pio_write(0, &[0x0c]);
        assert_eq!(read(&mut pics, 0), 0x83);
        assert!(!line.is_high());
        pics.pio_write(0, &[0x0c]);
        assert_eq!(read(&mut pics, 0), 0);
    }

    #[test]
    fn rotation_makes_the_last_one_the_least_urgent() {
        let (mut pics, _) = pics();
        for irq in [0, 1] {
            pics.set_line(irq, true);
        }
        assert_eq!(pics.acknowledge(), 0x20);
        pics.set_line(0, false);
        pics.set_line(0, true);
        pics.pio_write(0, &[0xa0]);
        assert_eq!(pics.acknowledge(), 0x21);
    }

    #[test]
    fn a_saved_state_comes_back() {
        let (mut pics, _) = pics();
        pics.set_line(9, true);
        let DeviceState::Versioned { version, fields } = pics.state() else {
            panic!("not saved")
        };
        let line = Arc::new(CountingLine::default());
        let mut other = Pics::new(Arc::clone(&line) as _);
        other.restore(version, &fields).unwrap();
        assert!(line.is_high());
        assert_eq!(other.acknowledge(), 0x29);
        assert!(other.restore(version + 1, &fields).is_err());
        assert!(other.restore(version, &Value::Null).is_err());
    }

    proptest! {
        #[test]
        fn random_accesses_do_not_panic(accesses in random_accesses(6), lines: Vec<(u8, bool)>) {
            let (mut pics, line) = pics();
            let mut lines = lines.into_iter();
            for access in accesses {
                access.perform(&mut pics);
                if let Some((irq, level)) = lines.next() {
                    pics.set_line(irq, level);
                }
                prop_assert_eq!(line.is_high(), pics.is_pending());
                if pics.is_pending() && access.is_write() {
                    pics.acknowledge();
                }
            }
        }
    }
}
