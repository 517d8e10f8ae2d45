//! How a virtio device on PCI interrupts: by MSI-X when its driver has switched that on, else by pin, with the ISR register
//! saying why (virtio 1.2, 4.1.4.5 and 4.1.5).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::devices::IrqLine;
use crate::devices::virtio::Interrupt;
use crate::irq::MsiVector;

/// No vector: the event interrupts nobody.
pub(super) const NO_VECTOR: u16 = 0xffff;
/// ISR: a queue.
const ISR_QUEUE: u8 = 1;
/// ISR: the configuration.
const ISR_CONFIG: u8 = 1 << 1;

/// The interrupts of a function. Any thread may interrupt.
pub(super) struct Interrupts {
    vectors: Vec<Arc<dyn MsiVector>>,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    msix: AtomicBool,
    bus_master: AtomicBool,
    pin: Mutex<PinState>,
}

struct PinState {
    line: Arc<dyn IrqLine>,
    isr: u8,
    disabled: bool,
}

impl PinState {
    fn drive(&self) {
        self.line.set(self.isr != 0 && !self.disabled);
    }
}

impl Interrupts {
    /// Interrupts of a function with these MSI-X vectors, and with a pin that leads to `line`.
    pub(super) fn new(vectors: Vec<Arc<dyn MsiVector>>, queues: u16, line: Arc<dyn IrqLine>) -> Arc<Self> {
        Arc::new(Self {
            vectors,
            config: AtomicU16::new(NO_VECTOR),
            queues: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            msix: AtomicBool::new(false),
            bus_master: AtomicBool::new(false),
            pin: Mutex::new(PinState {
                line,
                isr: 0,
                disabled: false,
            }),
        })
    }

    /// The ISR register; reading it lets go of the pin.
    pub(super) fn take_isr(&self) -> u8 {
        let mut pin = self.pin();
        let isr = std::mem::take(&mut pin.isr);
        pin.drive();
        isr
    }

    /// The ISR register, without letting go of the pin.
    pub(super) fn isr(&self) -> u8 {
        self.pin().isr
    }

    /// Becomes what the ISR register of another such function said.
    pub(super) fn restore_isr(&self, isr: u8) {
        let mut pin = self.pin();
        pin.isr = if self.msix.load(Ordering::Acquire) { 0 } else { isr };
        pin.drive();
    }

    /// Whether the function asks for an interrupt by pin.
    pub(super) fn asks_by_pin(&self) -> bool {
        self.pin().isr != 0 && !self.msix.load(Ordering::Acquire)
    }

    /// What configuration space says of how to interrupt.
    pub(super) fn set_modes(&self, msix: bool, bus_master: bool, pin_disabled: bool) {
        self.msix.store(msix, Ordering::Release);
        self.bus_master.store(bus_master, Ordering::Release);
        let mut pin = self.pin();
        pin.disabled = pin_disabled;
        if msix {
            pin.isr = 0;
        }
        pin.drive();
    }

    /// The vector of configuration changes.
    pub(super) fn config_vector(&self) -> u16 {
        self.config.load(Ordering::Acquire)
    }

    /// Chooses the vector of configuration changes. One that cannot be had is none.
    pub(super) fn set_config_vector(&self, vector: u16) {
        self.config.store(self.usable(vector), Ordering::Release);
    }

    /// The vector of a queue.
    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        let vector = self.queues.get(usize::from(queue));
        vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
    }

    /// Chooses the vector of a queue. One that cannot be had is none.
    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(of_queue) = self.queues.get(usize::from(queue)) {
            of_queue.store(self.usable(vector), Ordering::Release);
        }
    }

    /// Forgets what the driver chose, and what it was not told yet.
    pub(super) fn reset(&self) {
        self.config.store(NO_VECTOR, Ordering::Release);
        for queue in &self.queues {
            queue.store(NO_VECTOR, Ordering::Release);
        }
        for vector in self.vectors.iter().filter(|vector| vector.is_pending()) {
            // What is pending has a descriptor, and what is read from it is not sent any more.
            let _ = vector.event().map(|event| event.read());
        }
        self.take_isr();
    }

    /// The vector, with its descriptor, so that it is not lost while it is masked; none if there is none to be had.
    fn usable(&self, vector: u16) -> u16 {
        let event = self.vectors.get(usize::from(vector)).map(|vector| vector.event());
        match event {
            Some(Ok(_)) => vector,
            Some(Err(error)) => {
                no_descriptor(vector, &error);
                NO_VECTOR
            }
            None => NO_VECTOR,
        }
    }

    fn raise(&self, vector: u16, reason: u8) {
        if !self.msix.load(Ordering::Acquire) {
            let mut pin = self.pin();
            pin.isr |= reason;
            return pin.drive();
        }
        let vector = self.vectors.get(usize::from(vector));
        if let Some(vector) = vector.filter(|_| self.bus_master.load(Ordering::Acquire)) {
            vector.fire();
        }
    }

    fn pin(&self) -> MutexGuard<'_, PinState> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interrupt for Interrupts {
    fn queue(&self, queue: u16) {
        self.raise(self.queue_vector(queue), ISR_QUEUE);
    }

    fn config(&self) {
        self.raise(self.config_vector(), ISR_CONFIG);
    }
}

fn no_descriptor(vector: u16, error: &io::Error) {
    tracing::warn!(vector, %error, "a vector cannot be had");
}
