//! Devices that have something to do at a certain time, each with a thread that does it. The thread is there from when
//! the guest first asks for such a thing: most guests never do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::devices::drain::Drain;
use crate::devices::pit::Pit;
use crate::devices::pm::Pm;
use crate::devices::{Device, PioDevice, ResetKind};
use crate::vmstate::{StateError, Visitor};
use nix::sys::signal::SigSet;
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

/// A device with its thread.
pub(crate) struct Timed<D> {
    shared: Arc<Shared<D>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<D> {
    state: Mutex<State<D>>,
    changed: Condvar,
}

struct State<D> {
    device: D,
    guest_runs: bool,
    ending: bool,
}

impl<D: Timer + 'static> Timed<D> {
    /// A device in a guest that is paused.
    pub(crate) fn new(device: D) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    device,
                    guest_runs: false,
                    ending: false,
                }),
                changed: Condvar::new(),
            }),
            thread: None,
        }
    }

    /// Does something with the device that may move its deadline.
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(&mut D) -> R) -> R {
        self.change(|state| work(&mut state.device))
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut State<D>) -> R) -> R {
        let mut state = self.shared.lock();
        let result = change(&mut state);
        let waits = state.device.deadline().is_some();
        drop(state);
        self.deadline_moved(waits);
        result
    }

    /// Wakes the thread, which is started when there is something to wait for.
    fn deadline_moved(&mut self, waits: bool) {
        if waits && self.thread.is_none() {
            let served = Arc::clone(&self.shared);
            match Builder::new().spawn(move || served.serve()) {
                Ok(thread) => self.thread = Some(thread),
                // The next change tries again.
                Err(error) => tracing::error!(%error, "no thread for a clock, whose interrupts do not come"),
            }
        }
        self.shared.changed.notify_all();
    }
}

impl<D> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Timer> Shared<D> {
    fn serve(&self) {
        if let Err(error) = SigSet::all().thread_set_mask() {
            tracing::warn!(%error, "signals stay unblocked on the clock thread");
        }
        let mut state = self.lock();
        while !state.ending {
            let stands_still = D::STOPS_WITH_GUEST && !state.guest_runs;
            if !stands_still {
                state.device.expire();
            }
            let deadline = state.device.deadline().filter(|_| !stands_still);
            state = match deadline {
                Some(wait) => {
                    let wait = Duration::from_nanos(wait).max(SHORTEST_WAIT);
                    let result = self.changed.wait_timeout(state, wait);
                    result.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl<D> Drop for Timed<D> {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("a clock thread panicked");
            }
        }
    }
}

impl<D: Timer + 'static> Device for Timed<D> {
    fn type_name(&self) -> &'static str {
        self.shared.lock().device.type_name()
    }

    fn reset(&mut self) {
        self.change(|state| state.device.reset());
    }

    fn reset_hold(&mut self, kind: ResetKind) {
        self.change(|state| state.device.reset_hold(kind));
    }

    fn reset_exit(&mut self, kind: ResetKind) {
        self.change(|state| state.device.reset_exit(kind));
    }

    fn pause(&mut self) -> Option<Drain> {
        self.change(|state| {
            state.guest_runs = false;
            state.device.pause()
        })
    }

    fn resume(&mut self) {
        self.change(|state| {
            state.guest_runs = true;
            state.device.resume();
        });
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.shared.lock().device.property(name)
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        self.change(|state| state.device.sections(visit))
    }

    fn migration_blocker(&self) -> Option<&'static str> {
        self.shared.lock().device.migration_blocker()
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl<D: Timer + 'static> PioDevice for Timed<D> {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        self.shared.lock().device.pio_read(offset, data);
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        let mut state = self.shared.lock();
        let before = state.device.deadline().is_some();
        state.device.pio_write(offset, data);
        let after = state.device.deadline().is_some();
        drop(state);
        if D::moves_deadline(offset) && (before || after) {
            self.deadline_moved(after);
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
