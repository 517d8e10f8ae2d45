//! The server's end of the zygote: asks for workers, and hears how they end.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::net::UnixStream as AsyncStream;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::qapi::Error;
use crate::report;
use crate::server::zygote::{Fate, Report, Request};
use crate::worker::channel::{receive_with_fds, send_with_fds};
use crate::worker::frame::{Frame, FrameReader};

/// Where workers come from.
pub(super) struct Nursery {
    /// Held while a request is being written.
    stream: Mutex<Rc<AsyncStream>>,
    shared: Rc<Shared>,
    next_id: Cell<u64>,
}

#[derive(Default)]
struct Shared {
    /// Requests without an answer yet.
    waiting: RefCell<HashMap<u64, oneshot::Sender<Result<Worker, String>>>>,
    /// Who is told of the end of each worker, by process id.
    workers: RefCell<HashMap<i32, oneshot::Sender<Fate>>>,
    gone: Cell<bool>,
    closed: Notify,
}

/// A worker process.
pub(super) struct Worker {
    /// Its process id.
    pub(super) pid: i32,
    process: OwnedFd,
    /// None once the zygote cannot tell any more.
    fate: Option<oneshot::Receiver<Fate>>,
}

impl Nursery {
    /// Takes over the socket to the zygote.
    pub(super) fn start(zygote: UnixStream) -> io::Result<Self> {
        zygote.set_nonblocking(true)?;
        let stream = Rc::new(AsyncStream::from_std(zygote)?);
        let shared = Rc::new(Shared::default());
        tokio::task::spawn_local(listen(Rc::clone(&stream), Rc::clone(&shared)));
        Ok(Self {
            stream: Mutex::new(stream),
            shared,
            next_id: Cell::new(1),
        })
    }

    /// Waits until the zygote is gone, and there will be no more workers.
    pub(super) async fn closed(&self) {
        while !self.shared.gone.get() {
            self.shared.closed.notified().await;
        }
    }

    /// Forks a worker that serves `socket` and writes its messages to `messages`, and is called `name`.
    pub(super) async fn spawn(&self, name: String, socket: UnixStream, messages: OwnedFd) -> Result<Worker, Error> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting.borrow_mut().insert(id, sender);
        let request = Request { id, name }.into_frame();
        let fds = [socket.as_raw_fd(), messages.as_raw_fd()];
        if let Err(error) = self.send(&request, &fds).await {
            self.shared.waiting.borrow_mut().remove(&id);
            return Err(Error::generic(format!(
                "cannot ask the zygote for a worker: {}",
                report::reason(&error)
            )));
        }
        match receiver.await {
            Ok(Ok(worker)) => Ok(worker),
            Ok(Err(reason)) => Err(Error::generic(reason)),
            Err(_) => Err(Error::generic("the zygote is gone: there can be no more workers")),
        }
    }

    async fn send(&self, frame: &Frame, fds: &[RawFd]) -> io::Result<()> {
        if self.shared.gone.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        let stream = self.stream.lock().await;
        let mut sent = 0;
        while sent < bytes.len() {
            let along = if sent == 0 { fds } else { &[] };
            sent += stream
                .async_io(Interest::WRITABLE, || {
                    send_with_fds(stream.as_raw_fd(), &bytes[sent..], along).map_err(io::Error::from)
                })
                .await?;
        }
        Ok(())
    }
}

impl Worker {
    /// Signals the worker. Nothing happens if it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        // A process that has ended needs no signal, and all others are of this user.
        let _ = pidfd_send_signal(&self.process, signal);
    }

    /// Waits for its end, once. None says that it has ended and that nobody knows how, since the zygote is gone.
    pub(super) async fn ended(&mut self) -> Option<Fate> {
        /// How often to look where nobody tells.
        const INTERVAL: Duration = Duration::from_millis(20);
        if let Some(fate) = &mut self.fate {
            if let Ok(fate) = fate.await {
                return Some(fate);
            }
            self.fate = None;
        }
        while !self.has_ended() {
            tokio::time::sleep(INTERVAL).await;
        }
        None
    }

    /// A pidfd can be read once its process has ended.
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

async fn listen(stream: Rc<AsyncStream>, shared: Rc<Shared>) {
    let mut frames = FrameReader::default();
    let mut fds = VecDeque::new();
    let mut bytes = vec![0; 4096];
    loop {
        let read = stream
            .async_io(Interest::READABLE, || {
                receive_with_fds(stream.as_raw_fd(), &mut bytes, &mut fds).map_err(io::Error::from)
            })
            .await;
        match read {
            Ok(count @ 1..) => frames.feed(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
        }
        if let Err(reason) = shared.hear(&mut frames, &mut fds) {
            report::error(format!("the zygote sent what is no report: {reason}"));
            break;
        }
    }
    shared.gone.set(true);
    shared.waiting.borrow_mut().clear();
    shared.workers.borrow_mut().clear();
    shared.closed.notify_waiters();
}

impl Shared {
    fn hear(&self, frames: &mut FrameReader, fds: &mut VecDeque<OwnedFd>) -> Result<(), String> {
        while let Some(frame) = frames.next_frame().map_err(|error| error.to_string())? {
            match Report::from_frame(&frame)? {
                Report::Spawned { id, pid } => {
                    let process = fds.pop_front().ok_or("a worker without its pidfd")?;
                    self.welcome(id, pid, process);
                }
                Report::NotSpawned { id, reason } => {
                    if let Some(sender) = self.waiting.borrow_mut().remove(&id) {
                        // Whoever asked is gone, and needs no reason.
                        let _ = sender.send(Err(reason));
                    }
                }
                Report::Ended { pid, fate } => {
                    if let Some(sender) = self.workers.borrow_mut().remove(&pid) {
                        // Whoever had the worker may have given it up.
                        let _ = sender.send(fate);
                    }
                }
            }
        }
        Ok(())
    }

    fn welcome(&self, id: u64, pid: i32, process: OwnedFd) {
        let (sender, fate) = oneshot::channel();
        self.workers.borrow_mut().insert(pid, sender);
        let worker = Worker {
            pid,
            process,
            fate: Some(fate),
        };
        let unwanted = match self.waiting.borrow_mut().remove(&id) {
            Some(asked) => asked.send(Ok(worker)).err().and_then(Result::ok),
            None => Some(worker),
        };
        if let Some(worker) = unwanted {
            worker.signal(Signal::KILL);
        }
    }
}
