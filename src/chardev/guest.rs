//! A guest's device in a worker process as front end, at the other end of a line.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::line::{self, PACKET_DATA, Packet};
use super::port::{FrontEnd, FrontEvent, FrontReader, FrontWriter};
use super::raw_fd;

/// Something happened at a character device that the guest as a whole is to know.
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
    /// Ctrl-A x was typed at a multiplexer: the emulator is to end.
    Terminate,
}

/// A guest's end of a character device.
#[derive(Debug)]
pub(super) struct GuestLine {
    line: Arc<AsyncFd<OwnedFd>>,
    task: JoinHandle<()>,
}

impl GuestLine {
    /// Starts to carry bytes between `front` and a new line, whose other end is returned for the worker.
    pub(super) fn start(front: FrontEnd) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = line::line()?;
        let line = Arc::new(raw_fd::watch_or_close(ours)?);
        let task = tokio::spawn(carry(Arc::clone(&line), front));
        Ok((Self { line, task }, theirs))
    }

    /// Whether the worker has closed its end.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.line.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Ends the line once what the worker has sent so far is passed on.
    pub(super) async fn finish(self) {
        // The worker may have closed its end already, which is as good.
        let _ = shutdown(self.line.get_ref().as_raw_fd(), Shutdown::Both);
        // A pump that panicked has ended as well.
        let _ = self.task.await;
    }
}

async fn carry(line: Arc<AsyncFd<OwnedFd>>, front: FrontEnd) {
    let FrontEnd { mut reader, writer } = front;
    let writer = writer.unbound();
    tokio::select! {
        () = carry_in(&line, &mut reader) => {}
        () = carry_out(&line, &writer) => {}
    }
}

/// Until the character device is removed.
async fn carry_in(line: &AsyncFd<OwnedFd>, reader: &mut FrontReader) {
    while let Some(event) = reader.recv().await {
        let packets = match event {
            FrontEvent::Data(chunk) => {
                let parts = chunk.bytes.chunks(PACKET_DATA);
                parts.map(|part| Packet::Data(part.to_vec())).collect()
            }
            FrontEvent::Opened => vec![Packet::Opened],
            FrontEvent::Closed => vec![Packet::Closed],
            FrontEvent::Break => vec![Packet::Break],
            FrontEvent::FocusIn | FrontEvent::FocusOut => Vec::new(),
        };
        for packet in packets {
            let send = |fd: &OwnedFd| line::send_packet(fd, &packet);
            // A guest that is gone is noticed in the other direction, where something may still be under way.
            let _ = line.async_io(Interest::WRITABLE, send).await;
        }
    }
}

/// Until the worker closes its end.
async fn carry_out(line: &AsyncFd<OwnedFd>, writer: &FrontWriter) {
    loop {
        match line.async_io(Interest::READABLE, line::receive_packet).await {
            Ok(Some(Packet::Data(bytes))) => writer.send(bytes).await,
            // A guest has nothing else to say.
            Ok(Some(Packet::Opened | Packet::Closed | Packet::Break)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
