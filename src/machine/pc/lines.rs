//! Interrupt lines of the machine.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::accel::kvm::x86_64 as kvm;
use crate::devices::IrqLine;
use crate::devices::pci::MsiSink;
use crate::qapi::Error;

/// What is at the other end of the lines.
pub(crate) trait Inputs: Send + Sync {
    /// Drives line `gsi`. Called when its level changes.
    fn set(&self, gsi: u8, level: bool);
}

/// Interrupt controllers in the kernel.
impl Inputs for kvm::Vm {
    fn set(&self, gsi: u8, level: bool) {
        if let Err(error) = self.set_irq_line(gsi.into(), level) {
            tracing::warn!(gsi, level, %error, "KVM_IRQ_LINE");
        }
    }
}

/// All interrupt lines, by global interrupt number.
pub(crate) struct Lines {
    wires: Vec<Arc<Wire>>,
    messages: Arc<Messages>,
}

impl Lines {
    /// The 24 inputs of the I/O APIC, of which the PICs share the first 16.
    pub(crate) fn new(vm: &Arc<kvm::Vm>, inputs: &Arc<dyn Inputs>) -> Self {
        let wire = |gsi| {
            Arc::new(Wire {
                inputs: Arc::clone(inputs),
                gsi,
                high: Mutex::new(0),
            })
        };
        Self {
            wires: (0..24).map(wire).collect(),
            messages: Arc::new(Messages { vm: Arc::clone(vm) }),
        }
    }

    /// Where PCI functions send their message-signalled interrupts.
    pub(crate) fn messages(&self) -> Arc<dyn MsiSink> {
        Arc::clone(&self.messages) as _
    }

    /// A new driver of a wire. A wire is high while any of its drivers is.
    pub(crate) fn driver(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, Error> {
        let wire = self.wires.get(usize::from(gsi));
        let wire = wire.ok_or_else(|| Error::generic(format!("there is no interrupt {gsi}")))?;
        Ok(Arc::new(Driver {
            wire: Arc::clone(wire),
            high: AtomicBool::new(false),
        }))
    }
}

/// Hands messages on to the kernel.
struct Messages {
    vm: Arc<kvm::Vm>,
}

impl MsiSink for Messages {
    fn send(&self, address: u64, data: u32) {
        if let Err(error) = self.vm.signal_msi(kvm::Msi { address, data }) {
            tracing::warn!(address, data, %error, "KVM_SIGNAL_MSI");
        }
    }
}

/// A physical line, which several devices may drive.
struct Wire {
    inputs: Arc<dyn Inputs>,
    gsi: u8,
    /// Drivers that hold it high.
    high: Mutex<u32>,
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
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.set(false);
    }
}
