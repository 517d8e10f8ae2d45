//! How the lines are served, on the machine's loop.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, Weak, atomic::Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outlet::Stream;
use super::{LAST_WORDS, Mode, Shared, lock};
use crate::chardev::line::{self, Packet};
use crate::devices::characters::Input;
use crate::io::{Handle, Ready, Time, Watch};

/// The lines that are served.
pub(super) struct Service {
    shared: Arc<Shared>,
    ports: BTreeMap<usize, Port>,
}

/// A device on the loop: with a line, something that takes characters, or both.
pub(super) struct Port {
    stream: Option<Watched>,
    input: Option<Box<dyn Input>>,
    /// Characters the device had no room for yet.
    pending: VecDeque<u8>,
}

/// A line and what is waited for there.
struct Watched {
    stream: Arc<Stream>,
    /// None once the line is closed, which would report its end for ever.
    watch: Option<Watch>,
    /// The back end did not take everything.
    blocked: bool,
}

impl Service {
    /// Serves lines on `on`, of which there are none yet.
    pub(super) fn start(shared: &Arc<Shared>, on: &Handle) -> Arc<Mutex<Self>> {
        let service = Arc::new(Mutex::new(Self {
            shared: Arc::clone(shared),
            ports: BTreeMap::new(),
        }));
        let looking = Arc::downgrade(&service);
        let look = on.timer(Time::Host, move || {
            if let Some(service) = looking.upgrade() {
                lock(&service).look();
            }
        });
        // The service is made once.
        drop(shared.look.set(look));
        service
    }

    /// Serves one more, with this number.
    pub(super) fn add(
        service: &Arc<Mutex<Self>>,
        number: usize,
        stream: Option<Arc<Stream>>,
        on: &Handle,
    ) -> io::Result<()> {
        let stream = stream.map(|stream| Watched::new(stream, number, service, on));
        let port = Port {
            stream: stream.transpose()?,
            input: None,
            pending: VecDeque::new(),
        };
        lock(service).ports.insert(number, port);
        Ok(())
    }

    /// Says which device takes what comes in at this number.
    pub(super) fn set_input(&mut self, number: usize, input: Box<dyn Input>) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.input = Some(input);
        }
    }

    /// Serves this number no more.
    pub(super) fn remove(&mut self, number: usize) -> Option<Port> {
        self.ports.remove(&number)
    }

    /// Does what can be done now, and says when to look again.
    fn look(&mut self) {
        self.shared.called.store(false, Ordering::SeqCst);
        let mode = self.shared.mode();
        self.ports.values_mut().for_each(|port| port.work(mode));
        let times = self.ports.values_mut().filter_map(|port| port.time_left(mode));
        let first = times.min();
        self.shared.look_in(first);
    }

    /// Something happened on the line of this number.
    fn serve(&mut self, number: usize, ready: Ready) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.serve(ready);
        }
        self.look();
    }

    /// Gives the back ends a moment to take what was sent last.
    pub(super) fn say_the_rest(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        for watched in self.ports.values().filter_map(|port| port.stream.as_ref()) {
            while watched.stream.flush().is_err() && Instant::now() < end {
                wait_writable(watched.stream.line.as_fd());
            }
        }
    }
}

impl Port {
    /// Does what can be done now, and says what to wait for.
    fn work(&mut self, mode: Mode) {
        if mode.guest_runs {
            self.input.iter_mut().for_each(|input| input.expire());
        }
        self.deliver();
        let takes_any = |input: &mut Box<dyn Input>| input.hears_of_clients() || input.room() > 0;
        let wants_input = mode.has_run && self.pending.is_empty() && self.input.as_mut().is_some_and(takes_any);
        let Some(watched) = &mut self.stream else { return };
        if !watched.blocked && watched.stream.time_left().is_some_and(|left| left.is_zero()) {
            watched.blocked = watched.stream.flush().is_err();
        }
        if watched.stream.take_ready() {
            self.input.iter_mut().for_each(|input| input.ready());
        }
        watched.arm(wants_input);
    }

    /// How long until there is something to do without an event.
    fn time_left(&mut self, mode: Mode) -> Option<Duration> {
        let device = self.input.as_mut().filter(|_| mode.guest_runs);
        let device = device.and_then(|input| input.time_left());
        let line = self.stream.as_ref().filter(|watched| !watched.blocked);
        let line = line.and_then(|watched| watched.stream.time_left());
        device.into_iter().chain(line).min()
    }

    fn serve(&mut self, ready: Ready) {
        let Some(watched) = &mut self.stream else { return };
        if ready.contains(Ready::EPOLLOUT) {
            watched.blocked = watched.stream.flush().is_err();
        }
        if ready.contains(Ready::EPOLLIN) {
            self.take_in();
        } else if ready.intersects(Ready::EPOLLHUP | Ready::EPOLLERR) {
            watched.close();
        }
    }

    fn take_in(&mut self) {
        let Some(watched) = &mut self.stream else { return };
        match line::receive_packet(&watched.stream.line) {
            Ok(Some(Packet::Data(bytes))) => {
                self.pending.extend(bytes);
                self.deliver();
            }
            Ok(Some(Packet::Break)) => self.input.iter_mut().for_each(|input| input.broke()),
            Ok(Some(Packet::Opened)) => self.input.iter_mut().for_each(|input| input.opened()),
            Ok(Some(Packet::Closed)) => self.input.iter_mut().for_each(|input| input.closed()),
            Ok(None) => watched.close(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "the line of a character device");
                watched.close();
            }
        }
    }

    /// Gives the device what it has room for.
    fn deliver(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            let count = input.room().min(front.len());
            if count == 0 {
                return;
            }
            input.receive(&front[..count]);
            self.pending.drain(..count);
        }
    }
}

impl Watched {
    fn new(stream: Arc<Stream>, number: usize, service: &Arc<Mutex<Service>>, on: &Handle) -> io::Result<Self> {
        let service: Weak<Mutex<Service>> = Arc::downgrade(service);
        let on_ready = move |ready| {
            if let Some(service) = service.upgrade() {
                lock(&service).serve(number, ready);
            }
        };
        let watch = on.watch(Arc::clone(&stream) as _, Ready::empty(), on_ready)?;
        Ok(Self {
            stream,
            watch: Some(watch),
            blocked: false,
        })
    }

    fn arm(&mut self, wants_input: bool) {
        if self.stream.is_closed() {
            return self.close();
        }
        let mut wanted = Ready::empty();
        wanted.set(Ready::EPOLLIN, wants_input);
        wanted.set(Ready::EPOLLOUT, self.blocked);
        let Some(watch) = &mut self.watch else { return };
        if let Err(error) = watch.set_interest(wanted) {
            tracing::warn!(%error, "epoll_ctl");
        }
    }

    fn close(&mut self) {
        self.stream.close();
        self.watch = None;
    }
}

fn wait_writable(line: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(line, PollFlags::POLLOUT)];
    // Woken or not, the caller looks again.
    let _ = poll(&mut fds, PollTimeout::from(10u8));
}
