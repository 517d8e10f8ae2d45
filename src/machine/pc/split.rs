//! Interrupt controllers outside the kernel, for `kernel_irqchip=split`: what they are connected to.

use std::io;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::board::Board;
use super::layout::IO_APIC;
use super::lines::{TIMER, TIMER_PIN};
use crate::accel::controllers::InterruptControllers;
use crate::devices::ioapic::{IoApic, LocalApics};
use crate::devices::pic::Pics;
use crate::devices::{self, SharedDevice};
use crate::irq::{Inputs, IrqLine, Msi, Resample, Router};
use crate::mem::{Access, MapError, Mapping};

/// The PICs, whose output is wired to the boot vCPU, and the I/O APIC, which sends messages to all.
pub(crate) struct SplitChips {
    pics: Arc<Mutex<Pics>>,
    request: Arc<Request>,
    ioapic: Arc<Mutex<IoApic>>,
    apics: Arc<LocalApicsOf>,
}

impl SplitChips {
    /// Makes the controllers, whose messages `router` delivers, and puts them where the guest finds them.
    pub(crate) fn install(router: &Arc<Router>, board: &Board) -> Result<(Arc<Self>, Vec<Mapping>), MapError> {
        let request = Arc::new(Request::default());
        let apics = Arc::new(LocalApicsOf {
            router: Arc::clone(router),
            resamplers: Mutex::default(),
        });
        let chips = Arc::new(Self {
            pics: Arc::new(Mutex::new(Pics::new(Arc::clone(&request) as _))),
            request,
            ioapic: Arc::new(Mutex::new(IoApic::new(Arc::clone(&apics) as _))),
            apics,
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

    /// The registers of the controllers as they are now.
    pub(crate) fn info(&self) -> InterruptControllers {
        InterruptControllers {
            ioapic: lock(&self.ioapic).info(),
            pics: lock(&self.pics).info(),
        }
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
        if let Some(pin) = pin(gsi) {
            lock(&self.ioapic).set_line(pin, level);
        }
    }

    fn resample(&self, gsi: u8) -> io::Result<Option<Resample>> {
        let Some(pin) = pin(gsi) else { return Ok(None) };
        let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let mut resamplers = lock(&self.apics.resamplers);
        resamplers.retain(|(_, event)| event.strong_count() != 0);
        resamplers.push((pin, Arc::downgrade(&event)));
        Ok(Some(Resample::new(event.try_clone()?, event)))
    }
}

/// The input of the I/O APIC that a line is on; none for the line that is nobody's.
fn pin(gsi: u8) -> Option<u8> {
    match gsi {
        TIMER => Some(TIMER_PIN),
        TIMER_PIN => None,
        other => Some(other),
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

/// The local APICs, which the accelerator has.
struct LocalApicsOf {
    router: Arc<Router>,
    /// Who wants to know when the interrupt of an input has been handled.
    resamplers: Mutex<Vec<(u8, Weak<EventFd>)>>,
}

impl LocalApics for LocalApicsOf {
    fn deliver(&self, message: Msi) {
        self.router.send(message);
    }

    fn watch(&self, messages: &[(u8, Msi)]) {
        if let Err(error) = self.router.set_inputs(messages) {
            tracing::warn!(%error, "interrupts whose end is to be told");
        }
    }

    fn handled(&self, pin: u8) {
        let resamplers = lock(&self.resamplers);
        let of_pin = resamplers.iter().filter(|(of, _)| *of == pin);
        for event in of_pin.filter_map(|(_, event)| event.upgrade()) {
            // Fails only when it is full, and then it is readable.
            let _ = event.write(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
