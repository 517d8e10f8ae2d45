//! Everything a 16550A remembers.

use std::collections::VecDeque;

use super::registers::{IER_THRI, IIR_ID, IIR_NONE, IIR_THRI, LSR_TEMT, LSR_THRE, MCR_OUT2, MSR_CONNECTED};
use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, Subsections, VmState};

/// How many characters a FIFO holds.
pub const FIFO_SIZE: usize = 16;

/// A port's state: QEMU's section `serial`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn check(&self) -> Result<(), StateError> {
        for (name, fifo) in [("recv_fifo", &self.recv_fifo), ("xmit_fifo", &self.xmit_fifo)] {
            if fifo.len() > FIFO_SIZE {
                return Err(StateError::out_of_range(name, fifo.len() as u64));
            }
        }
        let waits = self.tsr_retry > 0;
        let is_empty = self.lsr & LSR_TEMT != 0;
        if waits == is_empty {
            let reason = format!(
                "{} refusals of a character, but the transmitter is {}",
                self.tsr_retry,
                if is_empty { "empty" } else { "not empty" }
            );
            return Err(StateError::new(StateErrorKind::Refused(reason)).within("tsr_retry"));
        }
        Ok(())
    }

    fn identifies_empty_transmitter(&self) -> bool {
        self.iir & IIR_ID == IIR_THRI
    }
}

impl VmState for State {
    fn layout(&self) -> Layout {
        Layout::new("serial", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut chip = Chip {
            state: self,
            tells_thr: false,
        };
        fields.structure("state", &mut chip)
    }
}

/// The chip, which is a struct of its own in the section.
struct Chip<'a> {
    state: &'a mut State,
    /// A subsection told of `thr_ipending`.
    tells_thr: bool,
}

impl VmState for Chip<'_> {
    fn layout(&self) -> Layout {
        Layout::new("serial", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        if fields.reading() {
            // What a subsection would tell is as after a reset where none comes.
            *self.state = State::default();
        }
        let state = &mut *self.state;
        fields.int("divider", &mut state.divider)?;
        for (name, register) in [
            ("rbr", &mut state.rbr),
            ("ier", &mut state.ier),
            ("iir", &mut state.iir),
            ("lcr", &mut state.lcr),
            ("mcr", &mut state.mcr),
            ("lsr", &mut state.lsr),
            ("msr", &mut state.msr),
            ("scr", &mut state.scr),
        ] {
            fields.int(name, register)?;
        }
        if fields.version() >= 3 {
            fields.int("fcr_vmstate", &mut state.fcr)?;
        }
        Ok(())
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let (state, tells_thr) = (&mut *self.state, &mut self.tells_thr);
        let of = |name| Layout::new(name, 1);
        let expected = state.identifies_empty_transmitter();
        let unexpected = state.ier & IER_THRI != 0 && state.thr_ipending != expected;
        all.section(of("serial/thr_ipending"), unexpected, |fields| {
            *tells_thr = true;
            fields.flag::<i32>("thr_ipending", &mut state.thr_ipending)
        })?;
        all.section(of("serial/tsr"), state.tsr_retry != 0, |fields| {
            fields.int("tsr_retry", &mut state.tsr_retry)?;
            fields.int("thr", &mut state.thr)?;
            fields.int("tsr", &mut state.tsr)
        })?;
        let needed = !state.recv_fifo.is_empty();
        all.section(of("serial/recv_fifo"), needed, |fields| {
            fields.structure("recv_fifo", &mut Fifo(&mut state.recv_fifo))
        })?;
        let needed = !state.xmit_fifo.is_empty();
        all.section(of("serial/xmit_fifo"), needed, |fields| {
            fields.structure("xmit_fifo", &mut Fifo(&mut state.xmit_fifo))
        })?;
        let timer = &mut state.fifo_timeout_timer;
        all.section(of("serial/fifo_timeout_timer"), timer.is_some(), |fields| {
            fields.timer("fifo_timeout_timer", timer)
        })?;
        let pending = &mut state.timeout_ipending;
        all.section(of("serial/timeout_ipending"), *pending, |fields| {
            fields.flag::<i32>("timeout_ipending", pending)
        })?;
        // The lines of a modem at the other end are nothing that a back end here has.
        all.section(of("serial/poll"), false, |fields| {
            fields.int("poll_msl", &mut 0_i32)?;
            fields.timer("modem_status_poll", &mut None)
        })
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if !self.tells_thr {
            self.state.thr_ipending = self.state.identifies_empty_transmitter();
        }
        self.state.check()
    }
}

/// QEMU's `Fifo8`: a ring of bytes.
struct Fifo<'a>(&'a mut VecDeque<u8>);

impl VmState for Fifo<'_> {
    fn layout(&self) -> Layout {
        Layout::new("Fifo8", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut ring = [0; FIFO_SIZE];
        for (place, byte) in ring.iter_mut().zip(self.0.iter()) {
            *place = *byte;
        }
        // `State::check` bounds it.
        let (mut head, mut count) = (0_u32, self.0.len() as u32);
        fields.buffer("data", &mut ring)?;
        fields.int("head", &mut head)?;
        fields.int("num", &mut count)?;
        for (name, value, limit) in [("head", head, FIFO_SIZE - 1), ("num", count, FIFO_SIZE)] {
            if value as usize > limit {
                return Err(StateError::out_of_range(name, value));
            }
        }
        let bytes = ring.iter().cycle().skip(head as usize).take(count as usize);
        *self.0 = bytes.copied().collect();
        Ok(())
    }
}
