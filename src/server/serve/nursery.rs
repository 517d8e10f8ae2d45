//! The server's end of the zygote: asks for workers, and hears how they end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream as AsyncStream;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::chardev;
use crate::host::process::{Fate, Process};
use crate::ipc::channel::{ATTEMPT_DELAY, ChannelError, Incoming, Outgoing, Sent};
use crate::ipc::nursery::{FromZygote, ToZygote};
use crate::qapi::Error;
use crate::report;

/// Where workers come from.
pub(super) struct Nursery {
    stream: Rc<AsyncStream>,
    /// Held while a request is being written.
    outgoing: Mutex<Outgoing<ToZygote>>,
    shared: Rc<Shared>,
    next_id: Cell<u64>,
}

#[derive(Default)]
struct Shared {
    /// Requests without an answer yet.
    waiting: RefCell<HashMap<u64, oneshot::Sender<Result<Worker, String>>>>,
    /// Who is told of the end of each worker.
    workers: RefCell<HashMap<u64, oneshot::Sender<Fate>>>,
    gone: Cell<bool>,
    closed: Notify,
}

/// A worker process.
pub(super) struct Worker {
    /// Its process.
    pub(super) process: Process,
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
            stream,
            outgoing: Mutex::default(),
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
        let request = ToZygote::Spawn {
            id,
            name,
            socket: socket.into(),
            messages,
        };
        if let Err(error) = self.send(request).await {
            self.shared.waiting.borrow_mut().remove(&id);
            return Err(Error::generic(format!("cannot ask the zygote for a worker: {error}")));
        }
        match receiver.await {
            Ok(Ok(worker)) => Ok(worker),
            Ok(Err(reason)) => Err(Error::generic(reason)),
            Err(_) => Err(Error::generic("the zygote is gone: there can be no more workers")),
        }
    }

    async fn send(&self, request: ToZygote) -> Result<(), ChannelError> {
        if self.shared.gone.get() {
            return Err(ChannelError::Closed);
        }
        let mut outgoing = self.outgoing.lock().await;
        outgoing.push(request)?;
        loop {
            let write = || match outgoing.send(&self.stream) {
                Ok(Sent::Some) => Err(io::ErrorKind::WouldBlock.into()),
                sent => Ok(sent),
            };
            match self.stream.async_io(Interest::WRITABLE, write).await?? {
                Sent::Later => tokio::time::sleep(ATTEMPT_DELAY).await,
                Sent::All | Sent::Some => return Ok(()),
            }
        }
    }
}

impl Worker {
    /// Waits for its end, once. None says that it has ended and that nobody knows how, since the zygote is gone.
    pub(super) async fn ended(&mut self) -> Option<Fate> {
        /// How often to look where the system does not tell.
        const INTERVAL: Duration = Duration::from_millis(20);
        if let Some(fate) = &mut self.fate {
            if let Ok(fate) = fate.await {
                return Some(fate);
            }
            self.fate = None;
        }
        let process = self.process.as_fd().try_clone_to_owned().ok();
        if let Some(Ok(process)) = process.map(chardev::watch) {
            // One that cannot be waited for any longer is looked at below.
            drop(process.readable().await);
        }
        while !self.process.wait_for_end(Duration::ZERO) {
            tokio::time::sleep(INTERVAL).await;
        }
        None
    }
}

async fn listen(stream: Rc<AsyncStream>, shared: Rc<Shared>) {
    let mut incoming = Incoming::default();
    let broken = loop {
        let read = stream.async_io(Interest::READABLE, || incoming.receive(&stream)).await;
        match read {
            Ok(Ok(())) => {}
            Ok(Err(error)) => break error,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break error.into(),
        }
        if let Err(error) = shared.hear(&mut incoming) {
            break error;
        }
    };
    if !matches!(broken, ChannelError::Closed) {
        report::error(format!("the zygote cannot be understood: {broken}"));
    }
    shared.gone.set(true);
    shared.waiting.borrow_mut().clear();
    shared.workers.borrow_mut().clear();
    shared.closed.notify_waiters();
}

impl Shared {
    fn hear(&self, incoming: &mut Incoming<FromZygote>) -> Result<(), ChannelError> {
        while let Some(message) = incoming.next_message()? {
            match message {
                FromZygote::Spawned { id, process } => self.welcome(id, process),
                FromZygote::NotSpawned { id, reason } => {
                    if let Some(sender) = self.waiting.borrow_mut().remove(&id) {
                        // Whoever asked is gone, and needs no reason.
                        let _ = sender.send(Err(reason));
                    }
                }
                FromZygote::Ended { id, fate } => {
                    if let Some(sender) = self.workers.borrow_mut().remove(&id) {
                        // Whoever had the worker may have given it up.
                        let _ = sender.send(fate);
                    }
                }
            }
        }
        Ok(())
    }

    fn welcome(&self, id: u64, process: Process) {
        let (sender, fate) = oneshot::channel();
        self.workers.borrow_mut().insert(id, sender);
        let fate = Some(fate);
        let worker = Worker { process, fate };
        let unwanted = match self.waiting.borrow_mut().remove(&id) {
            Some(asked) => asked.send(Ok(worker)).err().and_then(Result::ok),
            None => Some(worker),
        };
        if let Some(worker) = unwanted {
            worker.process.kill();
        }
    }
}
