//! The monitor's end of the socket pair to a worker.
//!
//! Calls go out with ids and may be answered in any order; everything else a worker says goes to the owner of the
//! link as [`FromWorker`] messages.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::qapi::Error;
use crate::worker::channel::{receive_with_fds, send_with_fds};
use crate::worker::frame::{Frame, FrameReader};
use crate::worker::message::{FromWorker, ToWorker};

/// A handle to a worker; clones talk to the same worker.
#[derive(Clone)]
pub struct WorkerLink {
    shared: Rc<Shared>,
}

struct Shared {
    next_id: Cell<u64>,
    calls: RefCell<HashMap<u64, oneshot::Sender<Result<Vec<u8>, Error>>>>,
    outgoing: RefCell<VecDeque<(Vec<u8>, Vec<OwnedFd>)>>,
    wake_writer: Notify,
    closed: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

impl WorkerLink {
    /// Takes over the socket. Messages that answer no call arrive at the receiver, which ends when the worker does.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn start(socket: StdStream) -> io::Result<(Self, mpsc::UnboundedReceiver<FromWorker>)> {
        socket.set_nonblocking(true)?;
        let stream = Rc::new(UnixStream::from_std(socket)?);
        let shared = Rc::new(Shared {
            next_id: Cell::new(1),
            calls: RefCell::default(),
            outgoing: RefCell::default(),
            wake_writer: Notify::new(),
            closed: Cell::new(false),
            tasks: RefCell::default(),
        });
        let (sender, receiver) = mpsc::unbounded_channel();
        let writer = tokio::task::spawn_local(write_all(Rc::clone(&stream), Rc::clone(&shared)));
        let reader = tokio::task::spawn_local(read_all(stream, Rc::clone(&shared), sender));
        shared
            .tasks
            .borrow_mut()
            .extend([writer.abort_handle(), reader.abort_handle()]);
        Ok((Self { shared }, receiver))
    }

    /// Sends a call and waits for its answer, the encoded return value.
    ///
    /// # Errors
    /// The error the worker answered with, or that the worker is gone.
    pub async fn call(&self, message: ToWorker, fds: Vec<OwnedFd>) -> Result<Vec<u8>, Error> {
        let (sender, receiver) = oneshot::channel();
        let id = self.shared.next_id.get();
        self.shared.next_id.set(id + 1);
        self.shared.calls.borrow_mut().insert(id, sender);
        self.post(message.into_frame(id, fds.len()), fds);
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::generic("the worker process of this guest has ended")))
    }

    /// Sends a message that has no answer.
    pub fn send(&self, message: ToWorker, fds: Vec<OwnedFd>) {
        self.post(message.into_frame(0, fds.len()), fds);
    }

    /// Answers a request of the worker.
    pub fn answer(&self, id: u64, message: ToWorker, fds: Vec<OwnedFd>) {
        self.post(message.into_frame(id, fds.len()), fds);
    }

    /// Closes the socket, which lets a worker that has said its last go.
    pub fn close(&self) {
        self.shared.closed.set(true);
        self.shared.calls.borrow_mut().clear();
        self.shared.tasks.take().iter().for_each(AbortHandle::abort);
    }

    fn post(&self, frame: Frame, fds: Vec<OwnedFd>) {
        if self.shared.closed.get() {
            self.shared.calls.borrow_mut().clear();
            return;
        }
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.shared.outgoing.borrow_mut().push_back((bytes, fds));
        self.shared.wake_writer.notify_one();
    }
}

async fn write_all(stream: Rc<UnixStream>, shared: Rc<Shared>) {
    while !shared.closed.get() {
        let next = shared.outgoing.borrow_mut().pop_front();
        let Some((bytes, fds)) = next else {
            shared.wake_writer.notified().await;
            continue;
        };
        if write_frame(&stream, &bytes, &fds).await.is_err() {
            // The reader notices the end, and says so.
            return;
        }
    }
}

async fn write_frame(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = 0;
    while sent < bytes.len() {
        let rights = if sent == 0 { numbers.as_slice() } else { &[] };
        sent += stream
            .async_io(Interest::WRITABLE, || {
                send_with_fds(stream.as_raw_fd(), &bytes[sent..], rights).map_err(io::Error::from)
            })
            .await?;
    }
    Ok(())
}

async fn read_all(stream: Rc<UnixStream>, shared: Rc<Shared>, sender: mpsc::UnboundedSender<FromWorker>) {
    let mut reader = FrameReader::default();
    let mut bytes = vec![0; 16384];
    let mut fds = VecDeque::new();
    loop {
        let read = stream
            .async_io(Interest::READABLE, || {
                receive_with_fds(stream.as_raw_fd(), &mut bytes, &mut fds).map_err(io::Error::from)
            })
            .await;
        match read {
            Ok(0) => break,
            Ok(count) => reader.feed(&bytes[..count]),
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => continue,
            Err(_) => break,
        }
        if let Err(reason) = take_frames(&mut reader, &shared, &sender) {
            crate::report::error(format!("the worker sent what is no message: {reason}"));
            break;
        }
    }
    shared.closed.set(true);
    shared.wake_writer.notify_one();
    // Whoever waits for an answer learns that there will be none.
    shared.calls.borrow_mut().clear();
}

fn take_frames(
    reader: &mut FrameReader,
    shared: &Shared,
    sender: &mpsc::UnboundedSender<FromWorker>,
) -> Result<(), String> {
    while let Some(frame) = reader.next_frame().map_err(|error| error.to_string())? {
        match FromWorker::from_frame(frame)? {
            FromWorker::Reply { id, result } => {
                if let Some(call) = shared.calls.borrow_mut().remove(&id) {
                    // A client that went away does not wait for its answer.
                    let _ = call.send(result);
                }
            }
            // The owner may be ending already.
            other => drop(sender.send(other)),
        }
    }
    Ok(())
}
