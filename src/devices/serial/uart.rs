//! The 16550A, apart from any bus: registers, FIFOs and interrupts.
//!
//! Characters leave as soon as the line takes them. While it does not, one waits in the shift register and the rest behind
//! it, and the transmitter is not empty: a guest that looks before it writes loses nothing. The baud rate tells only how
//! long four characters would take, after which waiting characters interrupt however few they are.

use std::sync::Arc;

use super::registers::*;
use super::state::{FIFO_SIZE, State};
use crate::devices::{Clock, IrqLine};
use crate::vmstate::StateError;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What a port's characters go to.
pub trait Line: Send {
    /// Takes as many of `bytes` as there is room for, and says how many; it must not wait. Whoever was refused gets a call of
    /// [`Uart::line_ready`] when there is room.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// The port has room for input, or wants a call of [`Uart::expire`] earlier than before. Must not call the port.
    fn attend(&self);
}

/// Called when a character arrives.
pub type Wakeup = Box<dyn Fn() + Send>;

/// What a port is connected to.
pub struct Links {
    /// Its interrupt.
    pub irq: Arc<dyn IrqLine>,
    /// Where characters go.
    pub line: Box<dyn Line>,
    /// The guest's clock.
    pub clock: Arc<dyn Clock>,
    /// Wakes a sleeping machine, if the port may.
    pub wakeup: Option<Wakeup>,
}

/// A serial port.
pub struct Uart {
    links: Links,
    /// Characters of one bit a second and divisor 1.
    baudbase: u32,
    state: State,
}

impl Uart {
    /// A port after power-on. `baudbase` is its rate with divisor 1.
    #[must_use]
    pub fn new(links: Links, baudbase: u32) -> Self {
        Self {
            links,
            baudbase,
            state: State::default(),
        }
    }

    /// Returns to the state after power-on.
    pub fn reset(&mut self) {
        self.state = State::default();
        self.links.irq.set(false);
        self.links.line.attend();
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over a state.
    ///
    /// # Errors
    /// As [`State::check`].
    pub fn set_state(&mut self, state: State) -> Result<(), StateError> {
        state.check()?;
        self.state = state;
        self.update_interrupt();
        self.line_ready();
        self.links.line.attend();
        Ok(())
    }

    /// How many received characters there is room for. In loopback the port hears nothing from outside.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.state.mcr & MCR_LOOP != 0 {
            0
        } else if self.uses_fifos() {
            FIFO_SIZE - self.state.recv_fifo.len()
        } else {
            usize::from(self.state.lsr & LSR_DR == 0)
        }
    }

    /// Takes characters from the line. What there is no [`Self::room`] for is an overrun, which the guest sees.
    pub fn receive(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(wakeup) = &self.links.wakeup {
            wakeup();
        }
        if self.uses_fifos() {
            bytes.iter().for_each(|byte| self.push_received(*byte));
            self.state.lsr |= LSR_DR;
            self.start_timeout();
        } else {
            for byte in bytes {
                if self.state.lsr & LSR_DR != 0 {
                    self.state.lsr |= LSR_OE;
                }
                self.state.rbr = *byte;
                self.state.lsr |= LSR_DR;
            }
        }
        self.update_interrupt();
    }

    /// A break condition came.
    pub fn receive_break(&mut self) {
        self.state.rbr = 0;
        // The line was low for the time of a character, which arrives as well.
        self.push_received(0);
        self.state.lsr |= LSR_BI | LSR_DR;
        self.update_interrupt();
    }

    /// The line has room again.
    pub fn line_ready(&mut self) {
        if self.state.tsr_retry > 0 {
            self.transmit();
        }
    }

    /// When [`Self::expire`] is to be called, in nanoseconds of guest time.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.state.fifo_timeout_timer
    }

    /// Nanoseconds of guest time until then.
    #[must_use]
    pub fn time_left(&self) -> Option<u64> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_sub(self.links.clock.nanoseconds()))
    }

    /// Tells of characters that have waited for long enough, if the time has come.
    pub fn expire(&mut self) {
        if self.time_left() != Some(0) {
            return;
        }
        self.state.fifo_timeout_timer = None;
        if !self.state.recv_fifo.is_empty() {
            self.state.timeout_ipending = true;
            self.update_interrupt();
        }
    }

    /// The guest reads a register.
    pub fn read(&mut self, register: u16) -> u8 {
        let [divider_low, divider_high] = self.state.divider.to_le_bytes();
        match register {
            DATA if self.is_divisor_latched() => divider_low,
            DATA => self.read_data(),
            IER if self.is_divisor_latched() => divider_high,
            IER => self.state.ier,
            IIR_FCR => {
                let iir = self.state.iir;
                if iir & IIR_ID == IIR_THRI {
                    self.state.thr_ipending = false;
                    self.update_interrupt();
                }
                iir
            }
            LCR => self.state.lcr,
            MCR => self.state.mcr,
            LSR => {
                let lsr = self.state.lsr;
                if lsr & (LSR_BI | LSR_OE) != 0 {
                    self.state.lsr &= !(LSR_BI | LSR_OE);
                    self.update_interrupt();
                }
                lsr
            }
            MSR => self.read_modem_status(),
            SCR => self.state.scr,
            _ => 0xff,
        }
    }

    /// The guest writes a register.
    pub fn write(&mut self, register: u16, value: u8) {
        let [divider_low, divider_high] = self.state.divider.to_le_bytes();
        match register {
            DATA if self.is_divisor_latched() => self.state.divider = u16::from_le_bytes([value, divider_high]),
            DATA => self.write_data(value),
            IER if self.is_divisor_latched() => self.state.divider = u16::from_le_bytes([divider_low, value]),
            IER => self.enable_interrupts(value),
            IIR_FCR => self.control_fifos(value),
            LCR => self.state.lcr = value,
            MCR => {
                self.state.mcr = value & MCR_ALL;
                // Out of loopback there may be room.
                self.links.line.attend();
            }
            SCR => self.state.scr = value,
            // The status registers are for reading.
            _ => {}
        }
    }

    fn read_data(&mut self) -> u8 {
        let byte = if self.uses_fifos() {
            let byte = self.state.recv_fifo.pop_front().unwrap_or(0);
            if self.state.recv_fifo.is_empty() {
                self.state.lsr &= !(LSR_DR | LSR_BI);
            } else {
                self.start_timeout();
            }
            self.state.timeout_ipending = false;
            byte
        } else {
            self.state.lsr &= !(LSR_DR | LSR_BI);
            self.state.rbr
        };
        self.update_interrupt();
        if self.state.lsr & LSR_DR == 0 {
            self.links.line.attend();
        }
        byte
    }

    /// In loopback, the modem control outputs are the modem status inputs.
    fn read_modem_status(&mut self) -> u8 {
        let State { mcr, msr, .. } = self.state;
        if mcr & MCR_LOOP != 0 {
            return (mcr & 0x0c) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5;
        }
        if msr & MSR_DELTA != 0 {
            self.state.msr &= !MSR_DELTA;
            self.update_interrupt();
        }
        msr
    }

    fn write_data(&mut self, value: u8) {
        self.state.thr = value;
        if self.uses_fifos() {
            // A guest that does not look for room overwrites the oldest, as on the chip.
            if self.state.xmit_fifo.len() == FIFO_SIZE {
                self.state.xmit_fifo.pop_front();
            }
            self.state.xmit_fifo.push_back(value);
        }
        self.state.thr_ipending = false;
        self.state.lsr &= !(LSR_THRE | LSR_TEMT);
        self.update_interrupt();
        if self.state.tsr_retry == 0 {
            self.transmit();
        }
    }

    fn enable_interrupts(&mut self, value: u8) {
        let changed = (self.state.ier ^ value) & 0x0f;
        self.state.ier = value & 0x0f;
        if changed & IER_THRI != 0 {
            // Enabling the interrupt raises it even if it was seen already: Windows relies on that.
            self.state.thr_ipending = self.state.ier & IER_THRI != 0 && self.state.lsr & LSR_THRE != 0;
        }
        if changed != 0 {
            self.update_interrupt();
        }
    }

    fn control_fifos(&mut self, value: u8) {
        let mut value = value;
        if (self.state.fcr ^ value) & FCR_ENABLE != 0 {
            value |= FCR_CLEAR_RECEIVE | FCR_CLEAR_TRANSMIT;
        }
        if value & FCR_CLEAR_RECEIVE != 0 {
            self.state.lsr &= !(LSR_DR | LSR_BI);
            self.state.fifo_timeout_timer = None;
            self.state.timeout_ipending = false;
            self.state.recv_fifo.clear();
        }
        if value & FCR_CLEAR_TRANSMIT != 0 {
            self.state.lsr |= LSR_THRE;
            self.state.thr_ipending = true;
            self.state.xmit_fifo.clear();
        }
        self.state.fcr = value & FCR_KEPT;
        self.update_interrupt();
        self.links.line.attend();
    }

    /// Sends for as long as the line takes something, and notes that the transmitter is empty where it is.
    fn transmit(&mut self) {
        loop {
            if self.state.tsr_retry == 0 && !self.fill_shift_register() {
                self.state.lsr |= LSR_TEMT;
                return;
            }
            if self.state.mcr & MCR_LOOP != 0 {
                let byte = self.state.tsr;
                self.receive(&[byte]);
                self.links.line.attend();
            } else if self.links.line.send(&[self.state.tsr]) == 0 {
                self.state.tsr_retry = 1;
                return;
            }
            self.state.tsr_retry = 0;
        }
    }

    /// Takes the next character from the FIFO or the holding register, if there is one.
    fn fill_shift_register(&mut self) -> bool {
        if self.state.lsr & LSR_THRE != 0 {
            return false;
        }
        if self.uses_fifos() {
            let next = self.state.xmit_fifo.pop_front();
            self.state.tsr = next.unwrap_or(self.state.thr);
            if self.state.xmit_fifo.is_empty() {
                self.state.lsr |= LSR_THRE;
            }
        } else {
            self.state.tsr = self.state.thr;
            self.state.lsr |= LSR_THRE;
        }
        if self.state.lsr & LSR_THRE != 0 && !self.state.thr_ipending {
            self.state.thr_ipending = true;
            self.update_interrupt();
        }
        true
    }

    fn push_received(&mut self, byte: u8) {
        if self.state.recv_fifo.len() < FIFO_SIZE {
            self.state.recv_fifo.push_back(byte);
        } else {
            self.state.lsr |= LSR_OE;
        }
    }

    /// Characters interrupt once no other has come for the time of four.
    fn start_timeout(&mut self) {
        let deadline = self.links.clock.nanoseconds() + 4 * self.character_time();
        self.state.fifo_timeout_timer = Some(deadline);
    }

    /// How long a character takes on a real line, in nanoseconds.
    fn character_time(&self) -> u64 {
        let divider = u32::from(self.state.divider);
        if divider == 0 || divider > self.baudbase {
            return SECOND / 9600 * 10;
        }
        let has = |bit: u8| u64::from(self.state.lcr & bit != 0);
        let bits = 1 + 5 + u64::from(self.state.lcr & LCR_LENGTH) + has(LCR_PARITY) + 1 + has(LCR_STOP);
        SECOND / u64::from(self.baudbase / divider) * bits
    }

    /// Shows the most urgent of the enabled interrupts.
    fn update_interrupt(&mut self) {
        let State { ier, lsr, msr, .. } = self.state;
        let enabled = |bit: u8| ier & bit != 0;
        let pending = if enabled(IER_RLSI) && lsr & LSR_INTERRUPT != 0 {
            IIR_RLSI
        } else if enabled(IER_RDI) && self.state.timeout_ipending {
            IIR_CTI
        } else if enabled(IER_RDI) && lsr & LSR_DR != 0 && self.reaches_trigger_level() {
            IIR_RDI
        } else if enabled(IER_THRI) && self.state.thr_ipending {
            IIR_THRI
        } else if enabled(IER_MSI) && msr & MSR_DELTA != 0 {
            IIR_MSI
        } else {
            IIR_NONE
        };
        self.state.iir = pending | if self.uses_fifos() { IIR_FIFO } else { 0 };
        self.links.irq.set(pending != IIR_NONE);
    }

    fn reaches_trigger_level(&self) -> bool {
        let level = match self.state.fcr >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        };
        !self.uses_fifos() || self.state.recv_fifo.len() >= level
    }

    fn uses_fifos(&self) -> bool {
        self.state.fcr & FCR_ENABLE != 0
    }

    fn is_divisor_latched(&self) -> bool {
        self.state.lcr & LCR_DLAB != 0
    }
}
