//! A guest's device in a worker process as front end, at the other end of a line.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Whom what the worker says is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// Whoever is there, or is next.
    Stream,
    /// The same, and the guest says when it has its end open.
    Port,
    /// The client that the worker last said to have heard of, and nobody else.
    Conversation,
}

impl GuestLine {
    /// Starts to carry bytes between `front` and a new line, whose other end is returned for the worker.
    pub(super) fn start(front: FrontEnd, kind: LineKind) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = line::line()?;
        let line = Arc::new(raw_fd::watch_or_close(ours)?);
        if kind == LineKind::Port {
            front.writer.set_open(false);
        }
        let task = tokio::spawn(carry(Arc::clone(&line), front, kind));
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

async fn carry(line: Arc<AsyncFd<OwnedFd>>, front: FrontEnd, kind: LineKind) {
    let FrontEnd { mut reader, writer } = front;
    let writer = match kind {
        LineKind::Stream | LineKind::Port => writer.unbound(),
        LineKind::Conversation => writer,
    };
    let unheard = AtomicUsize::new(0);
    tokio::select! {
        () = carry_in(&line, &mut reader, &unheard) => {}
        () = carry_out(&line, &writer, kind, &unheard) => {}
    }
}

/// Until the character device is removed. `unheard` counts the clients that the worker was told of.
async fn carry_in(line: &AsyncFd<OwnedFd>, reader: &mut FrontReader, unheard: &AtomicUsize) {
    while let Some(event) = reader.recv().await {
        let packets = match event {
            FrontEvent::Data(chunk) => {
                let parts = chunk.bytes.chunks(PACKET_DATA);
                parts.map(|part| Packet::Data(part.to_vec())).collect()
            }
            FrontEvent::Opened => {
                unheard.fetch_add(1, Ordering::Relaxed);
                vec![Packet::Opened]
            }
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

/// Until the worker closes its end. In a conversation `unheard` is how many clients the worker has not answered for.
async fn carry_out(line: &AsyncFd<OwnedFd>, writer: &FrontWriter, kind: LineKind, unheard: &AtomicUsize) {
    loop {
        let is_for_somebody = || kind != LineKind::Conversation || unheard.load(Ordering::Relaxed) == 0;
        match line.async_io(Interest::READABLE, line::receive_packet).await {
            Ok(Some(Packet::Data(bytes))) if is_for_somebody() => writer.send(bytes).await,
            Ok(Some(Packet::Opened)) if kind == LineKind::Conversation => {
                // A worker that says more than it was told of is nobody to talk to.
                let counted = unheard.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
                if counted.is_err() {
                    return;
                }
            }
            Ok(Some(Packet::Opened)) if kind == LineKind::Port => writer.set_open(true),
            Ok(Some(Packet::Closed)) if kind == LineKind::Port => writer.set_open(false),
            // A guest has nothing else to say.
            Ok(Some(Packet::Data(_) | Packet::Opened | Packet::Closed | Packet::Break)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
