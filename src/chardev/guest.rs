//! A guest's device in a worker process as front end: bytes over a socket pair, the rest as events.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::port::{FrontEnd, FrontEvent, FrontReader, FrontWriter};
use super::wire::SocketStream;

/// Something happened at a character device that a guest uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevEvent {
    /// The character device.
    pub id: String,
    /// What happened.
    pub kind: ChardevEventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChardevEventKind {
    /// Somebody is there now (`CHR_EVENT_OPENED`): a port tells its guest that the host is connected.
    Opened,
    /// Whoever was there went away.
    Closed,
    /// A break condition on the line.
    Break,
    /// Ctrl-A x was typed at a multiplexer: the emulator is to end.
    Terminate,
}

/// A guest's end of a character device.
#[derive(Debug)]
pub(super) struct GuestLine {
    stream: Arc<SocketStream>,
    task: JoinHandle<()>,
}

impl GuestLine {
    /// Starts to carry bytes between `front` and a new socket, whose other end is returned for the worker.
    pub(super) fn start(
        id: &str,
        front: FrontEnd,
        events: mpsc::UnboundedSender<ChardevEvent>,
    ) -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let stream = Arc::new(SocketStream::new(ours)?);
        let pump = Pump {
            id: id.to_owned(),
            stream: stream.clone(),
            events,
        };
        let task = tokio::spawn(pump.run(front));
        Ok((Self { stream, task }, theirs))
    }

    /// Whether the worker has closed its end.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Ends the line once what the worker has sent so far is passed on.
    pub(super) async fn finish(self) {
        use std::os::fd::AsRawFd;
        // The worker may have closed its end already, which is as good.
        let _ = shutdown(self.stream.as_fd().as_raw_fd(), Shutdown::Both);
        // A pump that panicked has ended as well.
        let _ = self.task.await;
    }
}

struct Pump {
    id: String,
    stream: Arc<SocketStream>,
    events: mpsc::UnboundedSender<ChardevEvent>,
}

impl Pump {
    async fn run(self, front: FrontEnd) {
        let FrontEnd { mut reader, writer } = front;
        let writer = writer.unbound();
        tokio::select! {
            () = self.carry_in(&mut reader) => {}
            () = self.carry_out(&writer) => {}
        }
    }

    /// Until the character device is removed.
    async fn carry_in(&self, reader: &mut FrontReader) {
        while let Some(event) = reader.recv().await {
            match event {
                // A guest that is gone is noticed in the other direction, where something may still be under way.
                FrontEvent::Data(chunk) => drop(self.stream.send(&chunk.bytes).await),
                FrontEvent::Opened => self.tell(ChardevEventKind::Opened),
                FrontEvent::Closed => self.tell(ChardevEventKind::Closed),
                FrontEvent::Break => self.tell(ChardevEventKind::Break),
                FrontEvent::FocusIn | FrontEvent::FocusOut => {}
            }
        }
    }

    /// Until the worker closes its end.
    async fn carry_out(&self, writer: &FrontWriter) {
        while let Ok(chunk) = self.stream.recv().await {
            if chunk.bytes.is_empty() {
                return;
            }
            writer.send(chunk.bytes).await;
        }
    }

    fn tell(&self, kind: ChardevEventKind) {
        // Nobody listens while the monitor ends.
        let _ = self.events.send(ChardevEvent {
            id: self.id.clone(),
            kind,
        });
    }
}
