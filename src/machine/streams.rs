//! Moves bytes between character devices in the guest and their back ends, which are stream sockets.
//!
//! One thread serves all of a machine's streams. A vCPU that writes never waits for the peer: what the socket does not
//! take at once is queued, and what does not fit into the queue is lost, as on a serial line without flow control.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
        signal::SigSet,
    },
};

/// Most bytes that wait for a slow peer.
const QUEUE_LIMIT: usize = 256 << 10;
/// Most bytes taken from a peer at once.
const READ_LIMIT: usize = 4096;
/// The key of the wake-up descriptor.
const WAKE: u64 = u64::MAX;

/// A device that takes bytes from the host. Called on the stream thread; may lock the device.
pub trait Input: Send {
    /// Bytes the device can take now.
    fn room(&mut self) -> usize;
    /// Takes bytes, at most as many as there is room for.
    fn receive(&mut self, bytes: &[u8]);
    /// The peer has closed the stream.
    fn closed(&mut self) {}
}

/// The guest's side of all streams, before the thread starts.
pub struct StreamsBuilder {
    shared: Arc<Shared>,
    inputs: Vec<Option<Box<dyn Input>>>,
}

/// The running thread. Ends when dropped.
pub struct Streams {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where a device writes to one stream. Writing never waits and never fails.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
}

struct Shared {
    wake: EventFd,
    streams: Mutex<Vec<Arc<Stream>>>,
    ending: Mutex<bool>,
}

struct Stream {
    socket: UnixStream,
    state: Mutex<StreamState>,
}

#[derive(Default)]
struct StreamState {
    queue: VecDeque<u8>,
    lost: u64,
    closed: bool,
}

impl StreamsBuilder {
    /// No streams yet.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            shared: Arc::new(Shared {
                wake,
                streams: Mutex::new(Vec::new()),
                ending: Mutex::new(false),
            }),
            inputs: Vec::new(),
        })
    }

    /// Adds a stream. Its number is for [`StreamsBuilder::set_input`].
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn add(&mut self, socket: UnixStream) -> io::Result<(usize, Outlet)> {
        socket.set_nonblocking(true)?;
        let stream = Arc::new(Stream {
            socket,
            state: Mutex::new(StreamState::default()),
        });
        let mut streams = lock(&self.shared.streams);
        streams.push(Arc::clone(&stream));
        self.inputs.push(None);
        let outlet = Outlet {
            shared: Arc::clone(&self.shared),
            stream,
        };
        Ok((streams.len() - 1, outlet))
    }

    /// Says which device takes what comes in on stream `number`.
    pub fn set_input(&mut self, number: usize, input: Box<dyn Input>) {
        if let Some(slot) = self.inputs.get_mut(number) {
            *slot = Some(input);
        }
    }

    /// Starts the thread, unless there are no streams.
    ///
    /// # Errors
    /// When the host refuses a thread or a descriptor.
    pub fn start(self, debug_threads: bool) -> io::Result<Streams> {
        let Self { shared, inputs } = self;
        let mut streams = Streams {
            shared: Arc::clone(&shared),
            thread: None,
        };
        if inputs.is_empty() {
            return Ok(streams);
        }
        let mut builder = Builder::new();
        if debug_threads {
            builder = builder.name("IO chardev".into());
        }
        let mut service = Service::new(shared, inputs)?;
        streams.thread = Some(builder.spawn(move || service.run())?);
        Ok(streams)
    }
}

impl Streams {
    /// Looks again which devices have room, after one of them made some.
    pub fn wake(&self) {
        self.shared.wake();
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        *lock(&self.shared.ending) = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the stream thread panicked");
            }
        }
    }
}

impl Outlet {
    /// Sends bytes, or queues them while the peer is slow.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = lock(&self.stream.state);
        if state.closed {
            return;
        }
        let mut rest = bytes;
        if state.queue.is_empty() {
            let sent = (&self.stream.socket).write(bytes).unwrap_or_default();
            rest = &bytes[sent..];
        }
        if rest.is_empty() {
            return;
        }
        let fits = rest.len().min(QUEUE_LIMIT - state.queue.len());
        state.queue.extend(&rest[..fits]);
        let lost = u64::try_from(rest.len() - fits).unwrap_or(u64::MAX);
        if lost != 0 && state.lost == 0 {
            tracing::warn!("a character device's peer is too slow; bytes are lost");
        }
        state.lost = state.lost.saturating_add(lost);
        drop(state);
        self.shared.wake();
    }

    /// Looks again whether the stream's device has room.
    pub fn made_room(&self) {
        self.shared.wake();
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn wake(&self) {
        // The only error is that the counter is full, and then the thread wakes anyway.
        let _ = self.wake.write(1);
    }
}

/// What lives on the thread.
struct Service {
    shared: Arc<Shared>,
    epoll: Epoll,
    ports: Vec<Port>,
}

struct Port {
    key: u64,
    stream: Arc<Stream>,
    input: Option<Box<dyn Input>>,
    /// What epoll waits for; none once the socket has been taken out.
    armed: Option<EpollFlags>,
}

impl Service {
    fn new(shared: Arc<Shared>, inputs: Vec<Option<Box<dyn Input>>>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let mut ports = Vec::new();
        for ((stream, input), key) in lock(&shared.streams).iter().zip(inputs).zip(0..) {
            epoll.add(stream.socket.as_fd(), EpollEvent::new(EpollFlags::empty(), key))?;
            ports.push(Port {
                key,
                stream: Arc::clone(stream),
                input,
                armed: Some(EpollFlags::empty()),
            });
        }
        Ok(Self { shared, epoll, ports })
    }

    fn run(&mut self) {
        if let Err(error) = SigSet::all().thread_set_mask() {
            tracing::warn!(%error, "signals stay unblocked on the stream thread");
        }
        let mut events = [EpollEvent::empty(); 16];
        while !*lock(&self.shared.ending) {
            self.ports.iter_mut().for_each(|port| port.arm(&self.epoll));
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return tracing::error!(%error, "epoll_wait"),
            };
            for event in &events[..count] {
                if event.data() == WAKE {
                    let _ = self.shared.wake.read();
                    continue;
                }
                let port = usize::try_from(event.data())
                    .ok()
                    .and_then(|key| self.ports.get_mut(key));
                if let Some(port) = port {
                    port.serve(event.events());
                }
            }
        }
    }
}

impl Port {
    /// Waits for what makes sense now: bytes while the device has room, room at the peer while bytes are queued.
    fn arm(&mut self, epoll: &Epoll) {
        let Some(armed) = self.armed else { return };
        let (closed, queued) = {
            let state = lock(&self.stream.state);
            (state.closed, !state.queue.is_empty())
        };
        if closed {
            // A closed socket would report its end for ever.
            let _ = epoll.delete(self.stream.socket.as_fd());
            self.armed = None;
            return;
        }
        let mut wanted = EpollFlags::empty();
        wanted.set(
            EpollFlags::EPOLLIN,
            self.input.as_mut().is_some_and(|input| input.room() > 0),
        );
        wanted.set(EpollFlags::EPOLLOUT, queued);
        if wanted == armed {
            return;
        }
        let mut event = EpollEvent::new(wanted, self.key);
        match epoll.modify(self.stream.socket.as_fd(), &mut event) {
            Ok(()) => self.armed = Some(wanted),
            Err(error) => tracing::warn!(%error, "epoll_ctl"),
        }
    }

    fn serve(&mut self, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.flush();
        }
        if events.contains(EpollFlags::EPOLLIN) {
            self.take_in();
        } else if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.close();
        }
    }

    fn take_in(&mut self) {
        let Some(input) = &mut self.input else { return };
        let mut bytes = [0; READ_LIMIT];
        let limit = input.room().min(READ_LIMIT);
        match (&self.stream.socket).read(&mut bytes[..limit]) {
            Ok(0) if limit > 0 => self.close(),
            Ok(count) => input.receive(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::debug!(%error, "a character device's peer");
                self.close();
            }
        }
    }

    fn flush(&mut self) {
        let mut state = lock(&self.stream.state);
        let (front, _) = state.queue.as_slices();
        match (&self.stream.socket).write(front) {
            Ok(sent) => drop(state.queue.drain(..sent)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                drop(state);
                self.close();
            }
        }
    }

    fn close(&mut self) {
        {
            let mut state = lock(&self.stream.state);
            state.closed = true;
            state.queue = VecDeque::new();
        }
        if let Some(input) = &mut self.input {
            input.closed();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Takes `room` bytes and no more.
    struct Sink {
        taken: Arc<Mutex<Vec<u8>>>,
        room: Arc<Mutex<usize>>,
    }

    impl Input for Sink {
        fn room(&mut self) -> usize {
            *self.room.lock().unwrap()
        }
        fn receive(&mut self, bytes: &[u8]) {
            *self.room.lock().unwrap() -= bytes.len();
            self.taken.lock().unwrap().extend(bytes);
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        for _ in 0..2000 {
            if what() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("timed out");
    }

    #[test]
    fn bytes_come_in_only_while_there_is_room() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let (taken, room) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(3)));
        let mut builder = StreamsBuilder::new().unwrap();
        let (number, outlet) = builder.add(ours).unwrap();
        builder.set_input(
            number,
            Box::new(Sink {
                taken: Arc::clone(&taken),
                room: Arc::clone(&room),
            }),
        );
        let _streams = builder.start(false).unwrap();
        peer.write_all(b"hello").unwrap();
        wait_for(|| taken.lock().unwrap().len() == 3);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(*taken.lock().unwrap(), b"hel");
        *room.lock().unwrap() = 10;
        outlet.made_room();
        wait_for(|| *taken.lock().unwrap() == b"hello");
    }

    #[test]
    fn a_slow_peer_gets_everything_up_to_the_limit_and_blocks_nobody() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let mut builder = StreamsBuilder::new().unwrap();
        let (_, outlet) = builder.add(ours).unwrap();
        let streams = builder.start(false).unwrap();
        let line = [b'x'; 1000];
        for _ in 0..2000 {
            outlet.send(&line);
        }
        let mut got = vec![0; QUEUE_LIMIT];
        peer.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == b'x'));
        drop(streams);
    }

    #[test]
    fn a_peer_that_goes_away_is_no_error() {
        let (ours, peer) = UnixStream::pair().unwrap();
        let mut builder = StreamsBuilder::new().unwrap();
        let (_, outlet) = builder.add(ours).unwrap();
        let _streams = builder.start(false).unwrap();
        drop(peer);
        wait_for(|| lock(&outlet.stream.state).closed);
        outlet.send(b"lost");
    }
}
