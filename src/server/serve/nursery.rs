//! The server's end of the zygote: asks for workers, and hears how they end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream as AsyncStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::qapi::Error;
use crate::report;
use crate::server::zygote::{Fate, Report, Request};
use crate::worker::channel::send_with_fds;
use crate::worker::frame::FrameReader;

type Waiting = Rc<RefCell<HashMap<u64, oneshot::Sender<Result<i32, String>>>>>;

/// Where workers come from.
pub(super) struct Nursery {
    writer: Mutex<tokio::net::unix::OwnedWriteHalf>,
    waiting: Waiting,
    next_id: Cell<u64>,
}

impl Nursery {
    /// Takes over the socket to the zygote. The ends of workers arrive at the receiver, which ends with the zygote.
    pub(super) fn start(zygote: UnixStream) -> io::Result<(Self, mpsc::UnboundedReceiver<(i32, Fate)>)> {
        zygote.set_nonblocking(true)?;
        let (reader, writer) = AsyncStream::from_std(zygote)?.into_split();
        let waiting = Waiting::default();
        let (sender, ends) = mpsc::unbounded_channel();
        tokio::task::spawn_local(listen(reader, Rc::clone(&waiting), sender));
        Ok((
            Self {
                writer: Mutex::new(writer),
                waiting,
                next_id: Cell::new(1),
            },
            ends,
        ))
    }

    /// Forks a worker that serves `socket`, and returns its process id.
    pub(super) async fn spawn(&self, socket: UnixStream) -> Result<i32, Error> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        let mut bytes = Vec::new();
        Request { id }.into_frame().write(&mut bytes);
        self.send(&bytes, &socket)
            .await
            .map_err(|error| Error::generic(format!("the zygote is gone: {error}")))?;
        match receiver.await {
            Ok(Ok(pid)) => Ok(pid),
            Ok(Err(reason)) => Err(Error::generic(reason)),
            Err(_) => Err(Error::generic("the zygote is gone")),
        }
    }

    async fn send(&self, bytes: &[u8], socket: &UnixStream) -> io::Result<()> {
        let writer = self.writer.lock().await;
        let stream: &AsyncStream = writer.as_ref();
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 {
                vec![socket.as_raw_fd()]
            } else {
                Vec::new()
            };
            sent += stream
                .async_io(Interest::WRITABLE, || {
                    send_with_fds(stream.as_raw_fd(), &bytes[sent..], &fds).map_err(io::Error::from)
                })
                .await?;
        }
        Ok(())
    }
}

async fn listen(mut reader: OwnedReadHalf, waiting: Waiting, ends: mpsc::UnboundedSender<(i32, Fate)>) {
    let mut frames = FrameReader::default();
    let mut bytes = vec![0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut bytes).await {
        frames.feed(&bytes[..count]);
        loop {
            let report = match frames.next_frame() {
                Ok(Some(frame)) => Report::from_frame(&frame),
                Ok(None) => break,
                Err(error) => Err(error.to_string()),
            };
            match report {
                Ok(Report::Spawned { id, pid }) => answer(&waiting, id, Ok(pid)),
                Ok(Report::NotSpawned { id, reason }) => answer(&waiting, id, Err(reason)),
                // The server is ending if nobody listens.
                Ok(Report::Ended { pid, fate }) => drop(ends.send((pid, fate))),
                Err(reason) => {
                    report::error(format!("the zygote sent what is no report: {reason}"));
                    return;
                }
            }
        }
    }
    waiting.borrow_mut().clear();
}

fn answer(waiting: &Waiting, id: u64, outcome: Result<i32, String>) {
    if let Some(sender) = waiting.borrow_mut().remove(&id) {
        // A client that went away leaves its guest to be found by query-guests.
        let _ = sender.send(outcome);
    }
}
