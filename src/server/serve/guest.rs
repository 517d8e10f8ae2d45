//! One guest of a server, from the request for it to its end.
//!
//! ```text
//!             made                    told to end, or its worker ended
//! creating ----------> created ---------------------------------------> ending --> gone
//!     \                                                                  /
//!      \---------- refused, failed, or told to end ---------------------/
//! ```
//!
//! The identifier is taken from the first state to the last: whoever is told that the guest is gone can use it again.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::chardev::ChardevRegistry;
use crate::host::inherited::Inherited;
use crate::host::process::Fate;
use crate::monitor;
use crate::qapi::Error;
use crate::qapi::remuda::{GuestExitReason, GuestExitedEvent, GuestInfo, GuestState};
use crate::report;

use super::messages;
use super::nursery::{Nursery, Worker};
use super::order::Order;

/// How long a worker may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end a process that was killed.
const KILL_TIME: Duration = Duration::from_secs(5);
/// How long the reason of a worker that has ended may be under way.
const LAST_WORD: Duration = Duration::from_millis(200);
/// How long a monitor may take to end once its worker has. It gives its clients a second itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// A guest of this server.
pub(super) struct Guest {
    /// The identifier.
    pub(super) id: String,
    name: RefCell<String>,
    qmp: PathBuf,
    state: Cell<GuestState>,
    pid: Cell<Option<i32>>,
    /// True once it is told to end.
    stop: watch::Sender<bool>,
    /// True once nothing of it is left.
    gone: watch::Sender<bool>,
}

/// Who serves the guest's clients, and what holds its sockets and files.
struct Monitor {
    task: JoinHandle<u8>,
    chardevs: ChardevRegistry,
}

impl Guest {
    /// A guest that is only an identifier so far.
    pub(super) fn new(id: String, name: String, qmp: PathBuf) -> Self {
        Self {
            id,
            name: RefCell::new(name),
            qmp,
            state: Cell::new(GuestState::Creating),
            pid: Cell::new(None),
            stop: watch::Sender::new(false),
            gone: watch::Sender::new(false),
        }
    }

    /// As `query-guests` shows it.
    pub(super) fn info(&self) -> GuestInfo {
        GuestInfo {
            id: self.id.clone(),
            name: self.name.borrow().clone(),
            state: self.state.get(),
            pid: self.pid.get().map(i64::from),
            qmp: self.qmp.display().to_string(),
        }
    }

    /// Tells the guest to end. Returns whether this was the first time.
    pub(super) fn stop(&self) -> bool {
        self.state.set(GuestState::Ending);
        !self.stop.send_replace(true)
    }

    /// Waits until nothing of the guest is left, or `deadline`.
    ///
    /// # Errors
    /// Its worker process cannot be ended.
    pub(super) async fn wait_until_gone(&self, deadline: Instant) -> Result<(), Error> {
        let mut gone = self.gone.subscribe();
        match timeout_at(deadline, gone.wait_for(|gone| *gone)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::generic(format!(
                "the worker process {} of guest '{}' cannot be ended",
                self.pid.get().unwrap_or_default(),
                self.id
            ))),
        }
    }

    /// When every guest that is told to end now must be gone.
    pub(super) fn deadline() -> Instant {
        Instant::now() + PATIENCE + KILL_TIME + FAREWELL
    }

    /// Says that nothing of the guest is left.
    pub(super) fn is_gone(&self) {
        self.gone.send_replace(true);
    }

    /// Makes the guest and sees it to its end, which is returned if it was made: `outcome` is told whether it was. `forget`
    /// sets the identifier free.
    pub(super) async fn live(
        self: &Rc<Self>,
        nursery: &Nursery,
        order: impl Future<Output = Result<Order, Error>>,
        outcome: oneshot::Sender<Result<GuestInfo, Error>>,
        forget: impl FnOnce(),
    ) -> Option<GuestExitedEvent> {
        let end = match self.make(nursery, order).await {
            Ok((worker, monitor)) => {
                // Whoever asked for the guest may have gone; the guest stays.
                let _ = outcome.send(Ok(self.info()));
                Ok(self.run(worker, monitor).await)
            }
            Err(error) => Err((error, outcome)),
        };
        forget();
        self.is_gone();
        match end {
            Ok(event) => Some(event),
            Err((error, outcome)) => {
                // Nobody is left to hear the reason if the client is gone.
                let _ = outcome.send(Err(error));
                None
            }
        }
    }

    /// Until the guest's monitors listen. If that fails, nothing is left of it.
    async fn make(
        &self,
        nursery: &Nursery,
        order: impl Future<Output = Result<Order, Error>>,
    ) -> Result<(Worker, Monitor), Error> {
        let order = tokio::select! {
            order = order => order?,
            () = self.told_to_end() => return Err(self.was_destroyed_early()),
        };
        self.name.replace(order.name.clone());
        let out_of_descriptors =
            |error: std::io::Error| Error::generic(format!("cannot make a guest: {}", report::reason(&error)));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(out_of_descriptors)?;
        let messages = messages::pipe_for(&self.id).map_err(out_of_descriptors)?;
        let mut worker = nursery.spawn(order.name, theirs, messages).await?;
        self.pid.set(Some(worker.process.number()));
        let (sender, mut started) = oneshot::channel();
        order.fds.set_voice(report::Voice::of_guest(&self.id));
        let chardevs = ChardevRegistry::new(order.fds);
        let mut monitor = Monitor {
            chardevs: chardevs.0.clone(),
            task: tokio::task::spawn_local(monitor::serve_worker(
                order.config,
                ours,
                Inherited::default(),
                Some(monitor::Start {
                    arguments: order.arguments,
                    chardevs,
                    outcome: sender,
                }),
            )),
        };
        let error = tokio::select! {
            biased;
            () = self.told_to_end() => {
                // It has nothing to lose yet.
                worker.process.kill();
                monitor.task.abort();
                self.was_destroyed_early()
            }
            started = &mut started => match started {
                Ok(Ok(())) => {
                    self.state.set(GuestState::Created);
                    return Ok((worker, monitor));
                }
                // The worker ends by itself.
                Ok(Err(error)) => error,
                Err(_) => self.has_ended(),
            },
            _ = worker.ended() => {
                // It may have said why.
                let error = match timeout(LAST_WORD, started).await {
                    Ok(Ok(Err(error))) => error,
                    _ => self.has_ended(),
                };
                self.state.set(GuestState::Ending);
                monitor.task.abort();
                self.see_off(&mut monitor).await;
                return Err(error);
            }
        };
        self.state.set(GuestState::Ending);
        self.bury(&mut worker, &mut monitor).await;
        Err(error)
    }

    /// Until nothing is left of the guest.
    async fn run(&self, mut worker: Worker, mut monitor: Monitor) -> GuestExitedEvent {
        let (fate, asked) = tokio::select! {
            biased;
            fate = worker.ended() => (Some(fate), false),
            () = self.told_to_end() => (None, true),
        };
        self.state.set(GuestState::Ending);
        if asked {
            worker.process.terminate();
        }
        let fate = match fate {
            Some(fate) => {
                self.see_off(&mut monitor).await;
                fate
            }
            None => self.bury(&mut worker, &mut monitor).await,
        };
        let (status, signal) = match fate {
            Some(Fate::Exited(status)) => (Some(i64::from(status)), None),
            Some(Fate::Signaled(signal)) => (None, Some(i64::from(signal))),
            None => (None, None),
        };
        let reason = match signal {
            _ if asked => GuestExitReason::Destroyed,
            None => GuestExitReason::Exited,
            Some(signal) => {
                report::error(format!(
                    "guest '{}': its worker {} was ended by signal {signal}",
                    self.id,
                    worker.process.number()
                ));
                GuestExitReason::Crashed
            }
        };
        GuestExitedEvent {
            id: self.id.clone(),
            pid: i64::from(worker.process.number()),
            reason,
            status,
            signal,
        }
    }

    /// Waits for the end of a worker that is about to end, kills it if that takes too long, and lets its monitor go.
    async fn bury(&self, worker: &mut Worker, monitor: &mut Monitor) -> Option<Fate> {
        let fate = match timeout(PATIENCE, worker.ended()).await {
            Ok(fate) => fate,
            Err(_) => {
                report::warning(format!(
                    "guest '{}': its worker {} does not end, and is killed",
                    self.id,
                    worker.process.number()
                ));
                worker.process.kill();
                // However long it takes: as long as there is a process, its identifier is taken.
                worker.ended().await
            }
        };
        self.see_off(monitor).await;
        fate
    }

    async fn see_off(&self, monitor: &mut Monitor) {
        if timeout(FAREWELL, &mut monitor.task).await.is_err() {
            report::warning(format!("guest '{}': its monitor does not end", self.id));
            monitor.task.abort();
            // It was aborted, which is no news.
            let _ = (&mut monitor.task).await;
        }
        // One that ended in good order has done that.
        monitor.chardevs.shutdown().await;
    }

    fn has_ended(&self) -> Error {
        Error::generic(format!("the worker process of guest '{}' has ended", self.id))
    }

    fn was_destroyed_early(&self) -> Error {
        Error::generic(format!("guest '{}' was destroyed while it was created", self.id))
    }

    async fn told_to_end(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as the guest: the wait cannot fail.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
