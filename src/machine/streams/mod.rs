//! Moves characters between devices of the guest and their back ends, to which each has a line.
//!
//! One thread serves all of a machine's lines. Nothing is lost on the way: what a back end does not take waits in a short
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::devices::characters::{Input, Sink};
pub use outlet::Outlet;
use outlet::Stream;
use service::Service;

/// Most characters that wait for a back end.
const QUEUE_LIMIT: usize = 8 << 10;
/// How long characters are gathered before they are sent.
const HOLD: Duration = Duration::from_millis(1);
/// How long the last characters may take to get to the back end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The lines of a machine, before the thread starts.
pub struct StreamsBuilder {
    shared: Arc<Shared>,
    members: Vec<Member>,
}

/// The running thread. Ends when dropped, once the back ends have taken what was sent.
pub struct Streams {
    shared: Arc<Shared>,
    streams: Vec<Arc<Stream>>,
    thread: Option<JoinHandle<()>>,
}

/// A device on the thread: with a line, something that takes characters, or both.
struct Member {
    stream: Option<Arc<Stream>>,
    input: Option<Box<dyn Input>>,
}

struct Shared {
    wake: EventFd,
    mode: Mutex<Mode>,
}

#[derive(Clone, Copy, Default)]
struct Mode {
    guest_runs: bool,
    /// It has run before: until then its devices have not been reset, which would lose what they got.
    has_run: bool,
    ending: bool,
}

/// Makes the thread look again at a device: it has room, or something to do earlier than it said.
#[derive(Clone)]
pub struct Attention(Arc<Shared>);

impl StreamsBuilder {
    /// No lines yet.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Shared {
            wake,
            mode: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            members: Vec::new(),
        })
    }

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

    /// Starts the thread, unless there is nothing to serve. The guest does not run yet.
    ///
    /// # Errors
    /// When the host refuses a thread or a descriptor.
    pub fn start(self, debug_threads: bool) -> io::Result<Streams> {
        let Self { shared, members } = self;
        let mut streams = Streams {
            shared: Arc::clone(&shared),
            streams: members.iter().filter_map(|member| member.stream.clone()).collect(),
            thread: None,
        };
        if members.is_empty() {
            return Ok(streams);
        }
        let mut builder = Builder::new();
        if debug_threads {
            builder = builder.name("IO chardev".into());
        }
        let mut service = Service::new(shared, members)?;
        streams.thread = Some(builder.spawn(move || service.run())?);
        Ok(streams)
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
        self.shared.change(|mode| mode.ending = true);
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the thread of character devices panicked");
            }
        }
    }
}

impl Attention {
    /// Makes the thread look.
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
        // The only error is that the counter is full, and then the thread wakes anyway.
        let _ = self.wake.write(1);
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
