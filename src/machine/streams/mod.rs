//! Moves characters between devices of the guest and their back ends, to which each has a line.
//!
//! The machine's loop serves all of its lines. Nothing is lost on the way: what a back end does not take waits in a short
//! queue, and when that is full, the device is told that no more is taken. A device that can show its guest that it is busy
//! does so; one that cannot keeps its vCPU waiting, though never longer than until the guest is paused.
//!
//! A character that comes alone is sent at once. Those that follow within [`HOLD`] leave together.

mod outlet;
mod service;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::devices::characters::{Input, Sink};
use crate::io::{Handle, Timer};
pub use outlet::Outlet;
use outlet::Stream;
use service::Service;

/// Most characters that wait for a back end.
const QUEUE_LIMIT: usize = 8 << 10;
/// How long characters are gathered before they are sent.
const HOLD: Duration = Duration::from_millis(1);
/// How long the last characters may take to get to the back end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The lines of a machine, served by a loop, until the value goes: then once the back ends have taken what was sent.
pub struct Streams {
    on: Handle,
    shared: Arc<Shared>,
    service: Mutex<Option<Arc<Mutex<Service>>>>,
    next: AtomicUsize,
}

/// A device's place among those that are served. It is not served any more when the value goes, and its line ends.
pub struct Connection {
    number: usize,
    shared: Arc<Shared>,
    service: Weak<Mutex<Service>>,
}

#[derive(Default)]
struct Shared {
    /// Expires when the lines are to be looked at.
    look: OnceLock<Timer>,
    /// Somebody wants them to be looked at now, whatever the timer says.
    called: AtomicBool,
    mode: Mutex<Mode>,
    /// The lines by number. They can be told not to keep vCPUs waiting while the service is busy.
    streams: Mutex<BTreeMap<usize, Arc<Stream>>>,
}

#[derive(Clone, Copy, Default)]
struct Mode {
    guest_runs: bool,
    /// It has run before: until then its devices have not been reset, which would lose what they got.
    has_run: bool,
}

/// Makes the loop look again at a device: it has room, or something to do earlier than it said.
#[derive(Clone)]
pub struct Attention(Arc<Shared>);

impl Streams {
    /// No lines yet; `on` is going to serve them. The guest does not run yet.
    #[must_use]
    pub fn new(on: &Handle) -> Self {
        Self {
            on: on.clone(),
            shared: Arc::default(),
            service: Mutex::default(),
            next: AtomicUsize::new(0),
        }
    }

    /// Adds a device that writes to `line`, if it has one.
    ///
    /// # Errors
    /// The host refuses a thread or a descriptor.
    pub fn add(&self, line: Option<OwnedFd>) -> io::Result<(Connection, Option<Outlet>)> {
        let service = Arc::clone(lock(&self.service).get_or_insert_with(|| Service::start(&self.shared, &self.on)));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = line.map(|line| Arc::new(Stream::new(line)));
        Service::add(&service, number, stream.clone(), &self.on)?;
        if let Some(stream) = &stream {
            lock(&self.shared.streams).insert(number, Arc::clone(stream));
            stream.set_patient(self.shared.mode().guest_runs);
        }
        let connection = Connection {
            number,
            shared: Arc::clone(&self.shared),
            service: Arc::downgrade(&service),
        };
        Ok((connection, stream.map(|stream| Outlet::new(stream, self.attention()))))
    }

    /// For devices that want to be looked at.
    #[must_use]
    pub fn attention(&self) -> Attention {
        Attention(Arc::clone(&self.shared))
    }

    /// The guest runs from now on: devices without flow control keep their vCPUs waiting.
    pub fn resume(&self) {
        self.each(|stream| stream.set_patient(true));
        self.shared
            .change(|mode| (mode.guest_runs, mode.has_run) = (true, true));
    }

    /// The guest is about to be paused: no vCPU waits for a back end any more.
    pub fn release(&self) {
        self.each(|stream| stream.set_patient(false));
        self.shared.change(|mode| mode.guest_runs = false);
    }

    /// Sends what was gathered, as far as the back ends take it.
    pub fn flush(&self) {
        self.each(|stream| drop(stream.flush()));
    }

    fn each(&self, act: impl Fn(&Stream)) {
        lock(&self.shared.streams).values().for_each(|stream| act(stream));
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.release();
        if let Some(service) = lock(&self.service).take() {
            lock(&service).say_the_rest();
        }
    }
}

impl Connection {
    /// Says which device takes what comes in.
    pub fn set_input(&self, input: Box<dyn Input>) {
        if let Some(service) = self.service.upgrade() {
            lock(&service).set_input(self.number, input);
            self.shared.wake();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let stream = lock(&self.shared.streams).remove(&self.number);
        if let Some(stream) = stream {
            // What the back end does not take now is lost with the device.
            drop(stream.flush());
            stream.end();
        }
        let served = self.service.upgrade();
        // What the device leaves behind goes with no lock held.
        let port = served.and_then(|service| lock(&service).remove(self.number));
        drop(port);
    }
}

impl Attention {
    /// Makes the loop look.
    pub fn call(&self) {
        self.0.wake();
    }
}

/// Connected to nothing: what is sent is gone, and the device is looked at all the same.
impl Sink for Attention {
    fn send(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn send_all(&self, _bytes: &[u8]) {}

    fn attend(&self) {
        self.call();
    }
}

impl Shared {
    fn wake(&self) {
        self.called.store(true, Ordering::SeqCst);
        // Before the lines are served, nobody looks; they are looked at first then.
        if let Some(look) = self.look.get() {
            look.arm_in(Duration::ZERO);
        }
    }

    /// Has the lines looked at after `wait`, or at once if somebody called meanwhile.
    fn look_in(&self, wait: Option<Duration>) {
        let Some(look) = self.look.get() else { return };
        match wait {
            Some(wait) => look.arm_in(wait),
            None => look.cancel(),
        }
        if self.called.load(Ordering::SeqCst) {
            look.arm_in(Duration::ZERO);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Mode)) {
        change(&mut lock(&self.mode));
        self.wake();
    }

    fn mode(&self) -> Mode {
        *lock(&self.mode)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
