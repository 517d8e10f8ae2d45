//! Everything a 16550A remembers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::registers::{IIR_NONE, LSR_TEMT, LSR_THRE, MCR_OUT2, MSR_CONNECTED};

/// How many characters a FIFO holds.
pub const FIFO_SIZE: usize = 16;

/// A port's state under the names of QEMU's section `serial` (version 3) and its subsections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Divisor latch.
    pub divider: u16,
    /// Receiver buffer, while the FIFOs are off.
    pub rbr: u8,
    /// Interrupt enable register.
    pub ier: u8,
    /// Interrupt identification register.
    pub iir: u8,
    /// Line control register.
    pub lcr: u8,
    /// Modem control register.
    pub mcr: u8,
    /// Line status register.
    pub lsr: u8,
    /// Modem status register.
    pub msr: u8,
    /// Scratch register.
    pub scr: u8,
    /// FIFO control register.
    pub fcr: u8,
    /// The interrupt of an empty transmitter was not yet seen.
    pub thr_ipending: bool,
    /// How often the character in the shift register was refused; 0 if there is none.
    pub tsr_retry: u32,
    /// Transmitter holding register, while the FIFOs are off.
    pub thr: u8,
    /// Transmitter shift register.
    pub tsr: u8,
    /// Received characters.
    pub recv_fifo: VecDeque<u8>,
    /// Characters to be sent.
    pub xmit_fifo: VecDeque<u8>,
    /// When the receive time-out expires, in nanoseconds of guest time.
    pub fifo_timeout_timer: Option<u64>,
    /// The receive time-out has expired.
    pub timeout_ipending: bool,
}

impl Default for State {
    /// After power-on: 9600 baud, nothing received, ready to send.
    fn default() -> Self {
        Self {
            divider: 0x0c,
            rbr: 0,
            ier: 0,
            iir: IIR_NONE,
            lcr: 0,
            mcr: MCR_OUT2,
            lsr: LSR_TEMT | LSR_THRE,
            msr: MSR_CONNECTED,
            scr: 0,
            fcr: 0,
            thr_ipending: false,
            tsr_retry: 0,
            thr: 0,
            tsr: 0,
            recv_fifo: VecDeque::new(),
            xmit_fifo: VecDeque::new(),
            fifo_timeout_timer: None,
            timeout_ipending: false,
        }
    }
}

impl State {
    /// Checks what came from elsewhere.
    ///
    /// # Errors
    /// Says which field contradicts another one or is out of range.
    pub fn check(&self) -> Result<(), String> {
        let too_long = |fifo: &VecDeque<u8>| fifo.len() > FIFO_SIZE;
        if too_long(&self.recv_fifo) {
            return Err("field 'recv_fifo' is longer than the FIFO".to_owned());
        }
        if too_long(&self.xmit_fifo) {
            return Err("field 'xmit_fifo' is longer than the FIFO".to_owned());
        }
        match (self.tsr_retry, self.lsr & LSR_TEMT) {
            (0, 0) => {
                Err("fields 'tsr_retry' and 'lsr' contradict each other: a character waits for nothing".to_owned())
            }
            (1.., 1..) => Err("fields 'tsr_retry' and 'lsr' contradict each other: no character waits".to_owned()),
            _ => Ok(()),
        }
    }
}
