//! The monitor's end of the link to a worker.
//!
//! Requests go out with ids and may be answered in any order; everything else a worker says goes to the owner of the
//! link as [`FromWorker`] messages, its own requests among them. Events and run states are heard at once, so that they
//! are known before the answer to the request that caused them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::ipc::channel::{ATTEMPT_DELAY, ChannelError, Incoming, Outgoing, Sent};
use crate::ipc::field::Malformed;
use crate::ipc::frame::FrameError;
use crate::ipc::message::{FromWorker, Hello, ToWorker, WorkerRequest};
use crate::qapi::Error;
use crate::report::Voice;

/// What hears everything a worker says in the order in which it says it, and gives back what the owner of the link is
/// to act on.
pub type Listener = Box<dyn Fn(FromWorker) -> Option<FromWorker>>;

/// A handle to a worker; clones talk to the same worker.
#[derive(Clone)]
pub struct WorkerLink {
    shared: Rc<Shared>,
}

/// The encoded return value of a call, or its error.
type Answer = Result<Vec<u8>, Error>;

struct Shared {
    stream: UnixStream,
    next_id: Cell<u64>,
    calls: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
    outgoing: RefCell<Outgoing<ToWorker>>,
    wake_writer: Notify,
    /// Everything was sent, or the link is closed.
    sent: Notify,
    closed: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
    /// Speaks of the worker.
    voice: Voice,
}

impl WorkerLink {
    /// Takes over the socket, and introduces this process. `voice` speaks for the guest. Messages that answer no request arrive at the receiver,
    /// which ends when the worker does.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn start(
        socket: StdStream,
        listener: Listener,
        voice: Voice,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<FromWorker>)> {
        socket.set_nonblocking(true)?;
        let shared = Rc::new(Shared {
            stream: UnixStream::from_std(socket)?,
            next_id: Cell::new(1),
            calls: RefCell::default(),
            outgoing: RefCell::default(),
            wake_writer: Notify::new(),
            sent: Notify::new(),
            closed: Cell::new(false),
            tasks: RefCell::default(),
            voice,
        });
        let (sender, receiver) = mpsc::unbounded_channel();
        let writer = tokio::task::spawn_local(write_all(Rc::clone(&shared)));
        let reader = tokio::task::spawn_local(read_all(Rc::clone(&shared), listener, sender));
        shared
            .tasks
            .borrow_mut()
            .extend([writer.abort_handle(), reader.abort_handle()]);
        let link = Self { shared };
        link.send(ToWorker::Hello(Hello::of_this_process()));
        Ok((link, receiver))
    }

    /// Asks the worker and waits for its answer.
    ///
    /// # Errors
    /// The error the worker answered with, or that the worker is gone.
    pub async fn ask(&self, request: WorkerRequest) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let id = self.shared.next_id.get();
        self.shared.next_id.set(id + 1);
        self.shared.calls.borrow_mut().insert(id, sender);
        self.send(ToWorker::Ask { id, request });
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::generic("the worker process of this guest has ended")))
    }

    /// Answers a request of the worker.
    pub fn answer(&self, id: u64, result: Result<OwnedFd, Error>) {
        self.send(ToWorker::Answer { id, result });
    }

    /// Sends a message.
    pub fn send(&self, message: ToWorker) {
        self.shared.send(message);
    }

    /// Waits until everything was sent, or cannot be.
    pub async fn flushed(&self) {
        while !self.shared.closed.get() && !self.shared.outgoing.borrow().is_empty() {
            self.shared.sent.notified().await;
        }
    }

    /// Waits until the worker is gone.
    pub async fn closed(&self) {
        while !self.shared.closed.get() {
            self.shared.sent.notified().await;
        }
    }

    /// Closes the socket, which lets a worker that has said its last go.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Shared {
    fn send(&self, message: ToWorker) {
        if self.closed.get() {
            // Whoever waits for an answer learns that there will be none.
            self.calls.borrow_mut().clear();
            return;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let had_waiting = !outgoing.is_empty();
        let pushed = outgoing.push(message).map_err(ChannelError::from);
        // A worker that reads gets it without a detour.
        let sent = pushed.and_then(|()| match had_waiting {
            true => Ok(Sent::Some),
            false => outgoing.send(&self.stream),
        });
        drop(outgoing);
        match sent {
            Ok(Sent::All) => {}
            Ok(Sent::Some | Sent::Later) => self.wake_writer.notify_one(),
            Err(error) => self.fail(&error),
        }
    }

    /// The worker cannot be told things any more. That it is gone shows where it is read from, after its last words.
    fn fail(&self, error: &ChannelError) {
        if !matches!(error, ChannelError::Closed) {
            self.voice
                .error(format!("the worker process cannot be reached: {error}"));
            self.close();
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.calls.borrow_mut().clear();
        self.sent.notify_waiters();
        self.tasks.take().iter().for_each(AbortHandle::abort);
    }
}

/// Sends what the worker did not take at once.
async fn write_all(shared: Rc<Shared>) {
    loop {
        shared.wake_writer.notified().await;
        loop {
            let sent = shared
                .stream
                .async_io(Interest::WRITABLE, || {
                    let sent = shared.outgoing.borrow_mut().send(&shared.stream);
                    match sent {
                        Ok(Sent::Some) => Err(io::ErrorKind::WouldBlock.into()),
                        sent => Ok(sent),
                    }
                })
                .await;
            match sent {
                Ok(Ok(Sent::Later)) => tokio::time::sleep(ATTEMPT_DELAY).await,
                Ok(Ok(Sent::All | Sent::Some)) => break,
                Ok(Err(error)) => return shared.fail(&error),
                Err(error) => return shared.fail(&error.into()),
            }
        }
        shared.sent.notify_waiters();
    }
}

async fn read_all(shared: Rc<Shared>, listener: Listener, sender: mpsc::UnboundedSender<FromWorker>) {
    let mut incoming = Incoming::default();
    let mut greeted = false;
    let broken = loop {
        let read = shared
            .stream
            .async_io(Interest::READABLE, || incoming.receive(&shared.stream))
            .await;
        match read {
            Ok(Ok(())) => {}
            Ok(Err(error)) => break error,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break error.into(),
        }
        if let Err(error) = take_messages(&mut incoming, &mut greeted, &shared, &listener, &sender) {
            break error.into();
        }
    };
    if !matches!(broken, ChannelError::Closed) {
        shared
            .voice
            .error(format!("the worker process cannot be understood: {broken}"));
    }
    shared.closed.set(true);
    shared.sent.notify_waiters();
    // Whoever waits for an answer learns that there will be none.
    shared.calls.borrow_mut().clear();
}

fn take_messages(
    incoming: &mut Incoming<FromWorker>,
    greeted: &mut bool,
    shared: &Shared,
    listener: &Listener,
    sender: &mpsc::UnboundedSender<FromWorker>,
) -> Result<(), FrameError> {
    while let Some(message) = incoming.next_message()? {
        match message {
            FromWorker::Hello(hello) => {
                hello.check()?;
                tracing::debug!(version = hello.version, features = ?hello.features, "worker");
                *greeted = true;
            }
            _ if !*greeted => return Err(Malformed::NoHello.into()),
            FromWorker::Answer { id, result } => {
                if let Some(call) = shared.calls.borrow_mut().remove(&id) {
                    // A client that went away does not wait for its answer.
                    let _ = call.send(result);
                }
            }
            other => {
                if let Some(message) = listener(other) {
                    // The owner may be ending already.
                    let _ = sender.send(message);
                }
            }
        }
    }
    Ok(())
}
