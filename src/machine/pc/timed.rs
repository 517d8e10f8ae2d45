//! Devices that have something to do at a certain time. The machine's loop calls them then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::devices::drain::Drain;
use crate::devices::pit::Pit;
use crate::devices::pm::Pm;
use crate::devices::{Device, PioDevice, ResetKind};
use crate::io::{self, GuestClock, Handle, Time};
use crate::vmstate::{StateError, Visitor};
use serde_json::Value;

/// A guest that asks for more is called late.
const SHORTEST_WAIT: Duration = Duration::from_micros(50);

/// A device that is to be called when its time has come.
pub(crate) trait Timer: Device + PioDevice {
    /// Nanoseconds from now until then; none while there is nothing to wait for.
    fn deadline(&self) -> Option<u64>;
    /// Does what is due.
    fn expire(&mut self);
    /// Whether a write to the port at `offset` may change the deadline.
    fn moves_deadline(offset: u16) -> bool;
    /// Whether its time stands still while the guest is paused.
    const STOPS_WITH_GUEST: bool;
}

/// A device with its timer.
pub(crate) struct Timed<D>(Arc<Inner<D>>);

struct Inner<D> {
    device: Mutex<D>,
    timer: io::Timer,
}

impl<D: Timer + 'static> Timed<D> {
    /// A device that is called back by `on`.
    pub(crate) fn new(device: D, on: &Handle, guest: &Arc<GuestClock>) -> Self {
        let time = match D::STOPS_WITH_GUEST {
            true => Time::Guest(Arc::clone(guest)),
            false => Time::Host,
        };
        Self(Arc::new_cyclic(|inner: &Weak<Inner<D>>| {
            let served = Weak::clone(inner);
            let expire = move || {
                if let Some(inner) = served.upgrade() {
                    inner.change(D::expire);
                }
            };
            Inner {
                device: Mutex::new(device),
                timer: on.timer(time, expire),
            }
        }))
    }

    /// Does something with the device that may move its deadline.
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(&mut D) -> R) -> R {
        self.0.change(work)
    }
}

impl<D> Inner<D> {
    fn lock(&self) -> MutexGuard<'_, D> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Timer> Inner<D> {
    fn change<R>(&self, change: impl FnOnce(&mut D) -> R) -> R {
        let mut device = self.lock();
        let result = change(&mut device);
        self.arm(&device);
        result
    }

    /// Sets the timer; the device is locked, so that the last word is the last one's.
    fn arm(&self, device: &D) {
        match device.deadline() {
            Some(wait) => self.timer.arm_in(Duration::from_nanos(wait).max(SHORTEST_WAIT)),
            None => self.timer.cancel(),
        }
    }
}

impl<D: Timer + 'static> Device for Timed<D> {
    fn type_name(&self) -> &'static str {
        self.0.lock().type_name()
    }

    fn reset(&mut self) {
        self.0.change(D::reset);
    }

    fn reset_hold(&mut self, kind: ResetKind) {
        self.0.change(|device| device.reset_hold(kind));
    }

    fn reset_exit(&mut self, kind: ResetKind) {
        self.0.change(|device| device.reset_exit(kind));
    }

    fn pause(&mut self) -> Option<Drain> {
        self.0.change(D::pause)
    }

    fn resume(&mut self) {
        self.0.change(D::resume);
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.0.lock().property(name)
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        self.0.change(|device| device.sections(visit))
    }

    fn migration_blocker(&self) -> Option<&'static str> {
        self.0.lock().migration_blocker()
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl<D: Timer + 'static> PioDevice for Timed<D> {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        self.0.lock().pio_read(offset, data);
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        let mut device = self.0.lock();
        let before = device.deadline().is_some();
        device.pio_write(offset, data);
        if D::moves_deadline(offset) && (before || device.deadline().is_some()) {
            self.0.arm(&device);
        }
    }
}

impl Timer for Pit {
    const STOPS_WITH_GUEST: bool = true;

    fn deadline(&self) -> Option<u64> {
        self.deadline()
    }

    fn expire(&mut self) {
        self.expire();
    }

    fn moves_deadline(offset: u16) -> bool {
        offset < Pit::LEN
    }
}

impl Timer for Pm {
    // Its timer counts guest time.
    const STOPS_WITH_GUEST: bool = true;

    fn deadline(&self) -> Option<u64> {
        self.deadline()
    }

    fn expire(&mut self) {
        self.expire();
    }

    fn moves_deadline(offset: u16) -> bool {
        Pm::moves_deadline(offset)
    }
}
