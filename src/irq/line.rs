//! Interrupt lines.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use vmm_sys_util::eventfd::EventFd;

/// A device's end of an interrupt line. Setting a level twice has no effect.
pub trait IrqLine: Send + Sync {
    /// Drives the line high (`true`) or low.
    fn set(&self, level: bool);
    /// Something that becomes readable each time the guest has handled the line's interrupt, so that a device that is
    /// outside may drive the line again; none where nobody tells.
    ///
    /// # Errors
    /// The host has no descriptor left, or the accelerator refuses.
    fn resample(&self) -> io::Result<Option<Resample>> {
        Ok(None)
    }
}

/// Tells of handled interrupts until it is dropped.
pub struct Resample {
    event: EventFd,
    /// Whoever writes to it.
    _keep: Box<dyn Send + Sync>,
}

impl Resample {
    /// `event` is written to for as long as `keep` lives.
    #[must_use]
    pub fn new(event: EventFd, keep: impl Send + Sync + 'static) -> Self {
        Self {
            event,
            _keep: Box::new(keep),
        }
    }

    /// What becomes readable.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

/// What is at the other end of the lines.
pub trait Inputs: Send + Sync {
    /// Drives line `gsi`. Called when its level changes.
    fn set(&self, gsi: u8, level: bool);
    /// See [`IrqLine::resample`].
    ///
    /// # Errors
    /// The host has no descriptor left, or the accelerator refuses.
    fn resample(&self, gsi: u8) -> io::Result<Option<Resample>>;
}

/// There is no line of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no interrupt {gsi}")]
pub struct NoSuchLine {
    /// The number.
    pub gsi: u8,
}

/// All interrupt lines of a machine, by number. Clones are the same lines.
#[derive(Clone)]
pub struct Lines {
    wires: Vec<Arc<Wire>>,
}

/// A line, which several devices may drive.
struct Wire {
    inputs: Arc<dyn Inputs>,
    gsi: u8,
    /// Drivers that hold it high.
    high: Mutex<u32>,
}

impl Lines {
    /// `count` lines into `inputs`.
    #[must_use]
    pub fn new(count: u8, inputs: &Arc<dyn Inputs>) -> Self {
        let wire = |gsi| {
            Arc::new(Wire {
                inputs: Arc::clone(inputs),
                gsi,
                high: Mutex::new(0),
            })
        };
        Self {
            wires: (0..count).map(wire).collect(),
        }
    }

    /// A new driver of a line. The line is high while any of its drivers is; one that is dropped lets go.
    ///
    /// # Errors
    /// There is no such line.
    pub fn driver(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, NoSuchLine> {
        let wire = self.wires.get(usize::from(gsi)).ok_or(NoSuchLine { gsi })?;
        Ok(Arc::new(Driver {
            wire: Arc::clone(wire),
            high: AtomicBool::new(false),
        }))
    }
}

struct Driver {
    wire: Arc<Wire>,
    high: AtomicBool,
}

impl IrqLine for Driver {
    fn set(&self, level: bool) {
        let mut count = self.wire.high.lock().unwrap_or_else(PoisonError::into_inner);
        if self.high.swap(level, Ordering::Relaxed) == level {
            return;
        }
        *count = if level { *count + 1 } else { count.saturating_sub(1) };
        let changed = *count == u32::from(level);
        if changed {
            self.wire.inputs.set(self.wire.gsi, level);
        }
    }

    fn resample(&self) -> io::Result<Option<Resample>> {
        self.wire.inputs.resample(self.wire.gsi)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.set(false);
    }
}
