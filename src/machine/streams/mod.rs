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
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
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

/// The lines of a machine, before they are served.
#[derive(Default)]
pub struct StreamsBuilder {
    shared: Arc<Shared>,
    members: Vec<Member>,
}

/// Lines that are served, until the value goes: then once the back ends have taken what was sent.
pub struct Streams {
    shared: Arc<Shared>,
    streams: Vec<Arc<Stream>>,
    service: Option<Arc<Mutex<Service>>>,
}

/// A device on the loop: with a line, something that takes characters, or both.
struct Member {
    stream: Option<Arc<Stream>>,
    input: Option<Box<dyn Input>>,
}

#[derive(Default)]
struct Shared {
    /// Expires when the lines are to be looked at.
    look: OnceLock<Timer>,
    /// Somebody wants them to be looked at now, whatever the timer says.
    called: AtomicBool,
    mode: Mutex<Mode>,
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

impl StreamsBuilder {
    /// Adds a device that writes to `line`, if it has one. Its number is for [`StreamsBuilder::set_input`].
    pub fn add(&mut self, line: Option<OwnedFd>) -> (usize, Option<Outlet>) {
        let stream = line.map(|line| Arc::new(Stream::new(line)));
        let outlet = stream
            .as_ref()
            .map(|stream| Outlet::new(Arc::clone(stream), self.attention()));
        self.members.push(Member { stream, input: None });
        (self.members.len() - 1, outlet)
    }

    /// Says which device takes what comes in at number `number`.
    pub fn set_input(&mut self, number: usize, input: Box<dyn Input>) {
        if let Some(member) = self.members.get_mut(number) {
            member.input = Some(input);
        }
    }

    /// For devices that want to be looked at.
    #[must_use]
    pub fn attention(&self) -> Attention {
        Attention(Arc::clone(&self.shared))
    }

    /// Has the lines served by `on`. The guest does not run yet.
    ///
    /// # Errors
    /// When the host refuses a thread or a descriptor.
    pub fn start(self, on: &Handle) -> io::Result<Streams> {
        let Self { shared, members } = self;
        let streams = members.iter().filter_map(|member| member.stream.clone()).collect();
        let service = match members.is_empty() {
            true => None,
            false => Some(Service::start(&shared, members, on)?),
        };
        Ok(Streams {
            shared,
            streams,
            service,
        })
    }
}

impl Streams {
    /// The guest runs from now on: devices without flow control keep their vCPUs waiting.
    pub fn resume(&self) {
        self.streams.iter().for_each(|stream| stream.set_patient(true));
        self.shared
            .change(|mode| (mode.guest_runs, mode.has_run) = (true, true));
    }

    /// The guest is about to be paused: no vCPU waits for a back end any more.
    pub fn release(&self) {
        self.streams.iter().for_each(|stream| stream.set_patient(false));
        self.shared.change(|mode| mode.guest_runs = false);
    }

    /// Sends what was gathered, as far as the back ends take it.
    pub fn flush(&self) {
        self.streams.iter().for_each(|stream| drop(stream.flush()));
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.release();
        if let Some(service) = self.service.take() {
            lock(&service).say_the_rest();
        }
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
