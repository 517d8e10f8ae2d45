//! The thread that serves the lines.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::SigSet;

use super::outlet::Stream;
use super::{Input, LAST_WORDS, Member, Mode, Shared};
use crate::chardev::line::{self, Packet};

/// The key of the wake-up descriptor.
const WAKE: u64 = u64::MAX;

/// What lives on the thread.
pub(super) struct Service {
    shared: Arc<Shared>,
    epoll: Epoll,
    ports: Vec<Port>,
}

struct Port {
    stream: Option<Watched>,
    input: Option<Box<dyn Input>>,
    /// Characters the device had no room for yet.
    pending: VecDeque<u8>,
}

/// A line and what epoll waits for there.
struct Watched {
    key: u64,
    stream: Arc<Stream>,
    armed: EpollFlags,
    /// The back end did not take everything.
    blocked: bool,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, members: Vec<Member>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let mut ports = Vec::new();
        for (member, key) in members.into_iter().zip(0..) {
            let Member { stream, input } = member;
            if let Some(stream) = &stream {
                epoll.add(&stream.line, EpollEvent::new(EpollFlags::empty(), key))?;
            }
            ports.push(Port {
                stream: stream.map(|stream| Watched {
                    key,
                    stream,
                    armed: EpollFlags::empty(),
                    blocked: false,
                }),
                input,
                pending: VecDeque::new(),
            });
        }
        Ok(Self { shared, epoll, ports })
    }

    pub(super) fn run(&mut self) {
        if let Err(error) = SigSet::all().thread_set_mask() {
            tracing::warn!(%error, "signals stay unblocked on the thread of character devices");
        }
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let mode = self.shared.mode();
            if mode.ending {
                return self.say_the_rest();
            }
            self.ports.iter_mut().for_each(|port| port.work(mode, &self.epoll));
            let times = self.ports.iter_mut().filter_map(|port| port.time_left(mode));
            let timeout = times.min().map_or(EpollTimeout::NONE, timeout);
            let count = match self.epoll.wait(&mut events, timeout) {
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
                    port.serve(event.events(), &self.epoll);
                }
            }
        }
    }

    /// Gives the back ends a moment to take what was sent last.
    fn say_the_rest(&mut self) {
        let end = Instant::now() + LAST_WORDS;
        for watched in self.ports.iter().filter_map(|port| port.stream.as_ref()) {
            while watched.stream.flush().is_err() && Instant::now() < end {
                wait_writable(watched.stream.line.as_fd());
            }
        }
    }
}

impl Port {
    /// Does what can be done now, and says what to wait for.
    fn work(&mut self, mode: Mode, epoll: &Epoll) {
        if mode.guest_runs {
            self.input.iter_mut().for_each(|input| input.expire());
        }
        self.deliver();
        let wants_input =
            mode.has_run && self.pending.is_empty() && self.input.as_mut().is_some_and(|input| input.room() > 0);
        let Some(watched) = &mut self.stream else { return };
        if !watched.blocked && watched.stream.time_left().is_some_and(|left| left.is_zero()) {
            watched.blocked = watched.stream.flush().is_err();
        }
        if watched.stream.take_ready() {
            self.input.iter_mut().for_each(|input| input.ready());
        }
        watched.arm(wants_input, epoll);
    }

    /// How long until there is something to do without an event.
    fn time_left(&mut self, mode: Mode) -> Option<Duration> {
        let device = self.input.as_mut().filter(|_| mode.guest_runs);
        let device = device.and_then(|input| input.time_left());
        let line = self.stream.as_ref().filter(|watched| !watched.blocked);
        let line = line.and_then(|watched| watched.stream.time_left());
        device.into_iter().chain(line).min()
    }

    fn serve(&mut self, events: EpollFlags, epoll: &Epoll) {
        let Some(watched) = &mut self.stream else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            watched.blocked = watched.stream.flush().is_err();
        }
        if events.contains(EpollFlags::EPOLLIN) {
            self.take_in(epoll);
        } else if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            watched.close(epoll);
        }
    }

    fn take_in(&mut self, epoll: &Epoll) {
        let Some(watched) = &mut self.stream else { return };
        match line::receive_packet(&watched.stream.line) {
            Ok(Some(Packet::Data(bytes))) => {
                self.pending.extend(bytes);
                self.deliver();
            }
            Ok(Some(Packet::Break)) => self.input.iter_mut().for_each(|input| input.broke()),
            // No device tells its guest who is at the other end of the line.
            Ok(Some(Packet::Opened | Packet::Closed)) => {}
            Ok(None) => watched.close(epoll),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "the line of a character device");
                watched.close(epoll);
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
    fn arm(&mut self, wants_input: bool, epoll: &Epoll) {
        if self.stream.is_closed() {
            return self.close(epoll);
        }
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, wants_input);
        wanted.set(EpollFlags::EPOLLOUT, self.blocked);
        if wanted == self.armed {
            return;
        }
        match epoll.modify(&self.stream.line, &mut EpollEvent::new(wanted, self.key)) {
            Ok(()) => self.armed = wanted,
            Err(error) => tracing::warn!(%error, "epoll_ctl"),
        }
    }

    /// A closed line would report its end for ever.
    fn close(&mut self, epoll: &Epoll) {
        self.stream.close();
        // It may have been taken out before.
        let _ = epoll.delete(&self.stream.line);
    }
}

/// At least a millisecond, which is as exactly as can be waited.
fn timeout(left: Duration) -> EpollTimeout {
    let millis = left.as_micros().div_ceil(1000);
    EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

fn wait_writable(line: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(line, PollFlags::POLLOUT)];
    // Woken or not, the caller looks again.
    let _ = poll(&mut fds, PollTimeout::from(10u8));
}
