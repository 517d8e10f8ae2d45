//! What a virtio device and its transport share while both work, each on threads of its own.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::status;
use crate::mem::{AddressSpace, GuestRam};
use crate::report;

/// How a device interrupts its driver. Never waits long; may be called on any thread.
pub trait Interrupt: Send + Sync {
    /// Something was given back in this queue.
    fn queue(&self, queue: u16);
    /// The device's configuration, or its state, changed.
    fn config(&self);
}

/// The state of a device that is read everywhere: its status, whether the machine lets it work, how to interrupt.
pub struct Link {
    /// What messages call the device.
    name: &'static str,
    memory: Arc<AddressSpace>,
    status: AtomicU8,
    /// Reasons why it must not touch guest memory now.
    held: AtomicU8,
    generation: AtomicU32,
    failures: AtomicU32,
    interrupt: OnceLock<Arc<dyn Interrupt>>,
}

/// Held: the guest does not run.
const PAUSED: u8 = 1;
/// Held: the transport lets the device start no transfers.
const DISABLED: u8 = 1 << 1;
/// A driver that breaks its device again and again does not fill the log.
const FAILURES_TOLD: u32 = 32;

impl Link {
    /// The link of a device that messages call `name`, to a guest that does not run yet.
    #[must_use]
    pub fn new(name: &'static str, memory: &Arc<AddressSpace>) -> Arc<Self> {
        Arc::new(Self {
            name,
            memory: Arc::clone(memory),
            status: AtomicU8::new(0),
            held: AtomicU8::new(PAUSED),
            generation: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            interrupt: OnceLock::new(),
        })
    }

    /// Says how to interrupt, once.
    pub fn set_interrupt(&self, interrupt: Arc<dyn Interrupt>) {
        let is_first = self.interrupt.set(interrupt).is_ok();
        debug_assert!(is_first, "a device has one transport");
    }

    /// The guest's RAM now.
    #[must_use]
    pub fn ram(&self) -> Arc<GuestRam> {
        self.memory.ram()
    }

    /// The device status.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    /// Whether buffers may be taken and given back.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let wanted = status::DRIVER_OK | status::NEEDS_RESET;
        self.status() & wanted == status::DRIVER_OK && self.held.load(Ordering::Acquire) == 0
    }

    /// Whether the driver broke the device.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// Whether the transport lets the device start no transfers.
    pub(super) fn is_disabled(&self) -> bool {
        self.held.load(Ordering::Acquire) & DISABLED != 0
    }

    /// Number that changes whenever the configuration does.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// The driver did what no device can go on after: it is told, the log says why, and all rests until a reset.
    pub fn fail(&self, why: impl fmt::Display) {
        let before = self.status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        if before & status::NEEDS_RESET != 0 {
            return;
        }
        match self.failures.fetch_add(1, Ordering::Relaxed) {
            FAILURES_TOLD.. => {}
            number => {
                report::error(format!("{}: {why}", self.name));
                if number + 1 == FAILURES_TOLD {
                    report::error(format!("{}: further faults of its driver are not reported", self.name));
                }
            }
        }
        self.interrupt_config();
    }

    /// The device's configuration is another one now.
    pub fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if self.status() & status::DRIVER_OK != 0 {
            self.interrupt_config();
        }
    }

    /// Tells the driver that a queue has something for it.
    pub(super) fn interrupt_queue(&self, queue: u16) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt.queue(queue);
        }
    }

    fn interrupt_config(&self) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt.config();
        }
    }

    pub(super) fn clear_status(&self) {
        self.status.store(0, Ordering::Release);
    }

    /// What the driver wrote. That the device needs a reset stays.
    pub(super) fn set_status(&self, status: u8) {
        let kept = |now: u8| Some(status | now & status::NEEDS_RESET);
        let _ = self.status.fetch_update(Ordering::AcqRel, Ordering::Acquire, kept);
    }

    pub(super) fn hold_paused(&self, paused: bool) {
        self.hold(PAUSED, paused);
    }

    pub(super) fn hold_disabled(&self, disabled: bool) {
        self.hold(DISABLED, disabled);
    }

    fn hold(&self, reason: u8, on: bool) {
        match on {
            true => self.held.fetch_or(reason, Ordering::AcqRel),
            false => self.held.fetch_and(!reason, Ordering::AcqRel),
        };
    }
}
