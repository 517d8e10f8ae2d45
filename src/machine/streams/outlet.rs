//! Where a device writes to its line.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::{Attention, HOLD, QUEUE_LIMIT, lock};
use crate::chardev::line::{self, PACKET_DATA, Packet};
use crate::devices::characters::Sink;

/// A device's side of its line. Clones are the same one.
#[derive(Clone)]
pub struct Outlet {
    stream: Arc<Stream>,
    attention: Attention,
}

/// A line and what waits to be sent on it.
pub(super) struct Stream {
    pub(super) line: OwnedFd,
    state: Mutex<State>,
    /// There is room again, or nobody is to wait any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<u8>,
    /// The back end is to be told whether the guest has its end open.
    announce: Option<bool>,
    /// When characters were last sent.
    sent: Option<Instant>,
    /// The loop knows that there is something to send.
    known: bool,
    /// The device was told that there is no room.
    refused: bool,
    /// vCPUs may be kept waiting.
    patient: bool,
    /// The back end is gone, and what is written with it.
    closed: bool,
}

impl Outlet {
    pub(super) fn new(stream: Arc<Stream>, attention: Attention) -> Self {
        Self { stream, attention }
    }

    fn put(&self, state: &mut State, bytes: &[u8]) {
        if state.closed || bytes.is_empty() {
            return;
        }
        let was_urgent = state.is_urgent();
        state.queue.extend(bytes);
        let long_ago = state.sent.is_none_or(|sent| sent.elapsed() >= HOLD);
        if !state.known && long_ago && self.stream.send(state).is_ok() {
            return;
        }
        if !state.known || state.is_urgent() != was_urgent {
            state.known = true;
            self.attention.call();
        }
    }
}

impl Sink for Outlet {
    fn send(&self, bytes: &[u8]) -> usize {
        let mut state = lock(&self.stream.state);
        let room = QUEUE_LIMIT.saturating_sub(state.queue.len());
        let count = if state.closed {
            bytes.len()
        } else {
            bytes.len().min(room)
        };
        state.refused |= count < bytes.len();
        self.put(&mut state, &bytes[..count]);
        count
    }

    fn send_all(&self, bytes: &[u8]) {
        let state = lock(&self.stream.state);
        let is_full = |state: &mut State| state.patient && !state.closed && state.queue.len() >= QUEUE_LIMIT;
        let state = self.stream.changed.wait_while(state, is_full);
        self.put(&mut state.unwrap_or_else(PoisonError::into_inner), bytes);
    }

    fn set_open(&self, open: bool) {
        let mut state = lock(&self.stream.state);
        state.announce = Some(open);
        if self.stream.send(&mut state).is_err() {
            state.known = true;
            self.attention.call();
        }
    }

    fn attend(&self) {
        self.attention.call();
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl State {
    /// As much as one packet carries is not gathered any longer.
    fn is_urgent(&self) -> bool {
        self.queue.len() >= PACKET_DATA
    }
}

impl Stream {
    pub(super) fn new(line: OwnedFd) -> Self {
        Self {
            line,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// How long until there is something to be sent; none if there is nothing.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let state = lock(&self.state);
        if state.queue.is_empty() && state.announce.is_none() {
            return None;
        }
        let held = match state.sent {
            Some(sent) if !state.is_urgent() && state.announce.is_none() => HOLD.saturating_sub(sent.elapsed()),
            _ => Duration::ZERO,
        };
        Some(held)
    }

    /// Sends what waits. `WouldBlock` while the back end does not take it.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.send(&mut lock(&self.state))
    }

    /// Whether the device is to be told that there is room: once.
    pub(super) fn take_ready(&self) -> bool {
        let mut state = lock(&self.state);
        let has_room = state.queue.len() <= QUEUE_LIMIT / 2;
        has_room && std::mem::take(&mut state.refused)
    }

    pub(super) fn set_patient(&self, patient: bool) {
        lock(&self.state).patient = patient;
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    pub(super) fn close(&self) {
        self.drop_everything(&mut lock(&self.state));
    }

    /// Ends the line: the back end is free for another device.
    pub(super) fn end(&self) {
        self.close();
        // The back end may have ended it already, which is as good.
        let _ = shutdown(self.line.as_raw_fd(), Shutdown::Both);
    }

    fn drop_everything(&self, state: &mut State) {
        state.closed = true;
        state.queue = VecDeque::new();
        state.announce = None;
        self.changed.notify_all();
    }

    fn send(&self, state: &mut State) -> io::Result<()> {
        while !state.queue.is_empty() {
            let (front, _) = state.queue.as_slices();
            match line::send_data(&self.line, front) {
                Ok(count) => drop(state.queue.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(_) => {
                    self.drop_everything(state);
                    return Ok(());
                }
            }
            state.sent = Some(Instant::now());
            self.changed.notify_all();
        }
        if let Some(open) = state.announce {
            let packet = if open { Packet::Opened } else { Packet::Closed };
            match line::send_packet(&self.line, &packet) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                _ => state.announce = None,
            }
        }
        state.known = false;
        Ok(())
    }
}
