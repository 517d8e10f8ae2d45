//! Interrupt controllers outside the kernel, for `kernel_irqchip=split`: what they are connected to.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::board::Board;
use super::layout::IO_APIC;
use super::lines::Inputs;
use crate::accel::kvm::x86_64 as kvm;
use crate::devices::ioapic::{IoApic, LocalApics, Message};
use crate::devices::pic::Pics;
use crate::devices::{self, IrqLine, SharedDevice};
use crate::mem::{Access, Mapping};
use crate::qapi::Error;

/// The timer's line, and the input of the I/O APIC it is on.
const TIMER: u8 = 0;
const TIMER_PIN: u8 = 2;

/// The PICs, whose output is wired to the boot vCPU, and the I/O APIC, which sends messages to all.
pub(crate) struct SplitChips {
    pics: Arc<Mutex<Pics>>,
    request: Arc<Request>,
    ioapic: Arc<Mutex<IoApic>>,
}

impl SplitChips {
    /// Makes the controllers of `vm` and puts them where the guest finds them.
    pub(crate) fn install(vm: &Arc<kvm::Vm>, board: &Board) -> Result<(Arc<Self>, Vec<Mapping>), Error> {
        let request = Arc::new(Request::default());
        let chips = Arc::new(Self {
            pics: Arc::new(Mutex::new(Pics::new(Arc::clone(&request) as _))),
            request,
            ioapic: Arc::new(Mutex::new(IoApic::new(Arc::new(Kernel(Arc::clone(vm)))))),
        });
        let pics = Arc::clone(&chips.pics) as SharedDevice;
        let ports = [
            ("pic", Pics::FIRST_PORT, 0),
            ("pic", Pics::SECOND_PORT, Pics::SECOND_OFFSET),
            ("elcr", Pics::TRIGGER_PORT, Pics::TRIGGER_OFFSET),
        ];
        let mut mappings = Vec::new();
        for (name, port, offset) in ports {
            let region = devices::ports(name, 2, Access::BYTES, &pics, offset);
            mappings.push(board.map.map_ports(port, &region)?);
        }
        let ioapic = Arc::clone(&chips.ioapic) as SharedDevice;
        let region = devices::registers("ioapic", IoApic::LEN, Access::UP_TO_FOUR, &ioapic);
        mappings.push(board.map.map_registers(IO_APIC, &region)?);
        // A board is made with its controllers, once.
        let _ = board.chips.set(Arc::clone(&chips));
        Ok((chips, mappings))
    }

    /// Says how to make the boot vCPU look for interrupts.
    pub(crate) fn connect(&self, kick: impl Fn() + Send + Sync + 'static) {
        let _ = self.request.kick.set(Box::new(kick));
    }

    /// The controllers as devices.
    pub(crate) fn devices(&self) -> [SharedDevice; 2] {
        [Arc::clone(&self.pics) as _, Arc::clone(&self.ioapic) as _]
    }

    /// Whether the PICs ask for an interrupt.
    pub(crate) fn has_interrupt(&self) -> bool {
        self.request.asked.load(Ordering::SeqCst)
    }

    /// Acknowledges the PICs' interrupt.
    pub(crate) fn take_interrupt(&self) -> u8 {
        lock(&self.pics).acknowledge()
    }

    /// A local APIC saw the end of the level-triggered interrupt `vector`.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        lock(&self.ioapic).end_of_interrupt(vector);
    }
}

impl Inputs for SplitChips {
    fn set(&self, gsi: u8, level: bool) {
        lock(&self.pics).set_line(gsi, level);
        let pin = if gsi == TIMER { TIMER_PIN } else { gsi };
        // Pin 2 is the timer's, so line 2 is nobody's.
        if gsi != TIMER_PIN {
            lock(&self.ioapic).set_line(pin, level);
        }
    }
}

/// The line from the PICs to the boot vCPU.
#[derive(Default)]
struct Request {
    asked: AtomicBool,
    kick: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl IrqLine for Request {
    fn set(&self, level: bool) {
        let before = self.asked.swap(level, Ordering::SeqCst);
        if let (true, false, Some(kick)) = (level, before, self.kick.get()) {
            kick();
        }
    }
}

/// The local APICs, which are in the kernel.
struct Kernel(Arc<kvm::Vm>);

impl LocalApics for Kernel {
    fn deliver(&self, message: Message) {
        if let Err(error) = self.0.signal_msi(msi(message)) {
            tracing::warn!(?message, %error, "KVM_SIGNAL_MSI");
        }
    }

    fn watch(&self, messages: &[(u8, Message)]) {
        let inputs: Vec<_> = messages.iter().map(|(pin, message)| (*pin, msi(*message))).collect();
        if let Err(error) = self.0.watch_interrupts(&inputs) {
            tracing::warn!(%error, "KVM_SET_GSI_ROUTING");
        }
    }
}

fn msi(Message { address, data }: Message) -> kvm::Msi {
    kvm::Msi { address, data }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
