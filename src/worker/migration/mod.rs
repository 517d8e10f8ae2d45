//! Guests that move: what clients ask for and are told, and the order in which it happens.
//!
//! ```text
//!   leaving                                        arriving (-incoming)
//!   none -> setup -> active -> [pre-switchover]    none -> setup -> active -> completed
//!              |        |          |                          |        |
//!              |        |       device -> completed           +--------+--> failed
//!              +--------+----------+--> failed
//!                       +----------+--> cancelling -> cancelled
//! ```
//!
//! One side has the guest at any time: the source runs it until the other side has it all, and after a failure again.

mod incoming;
mod info;
mod outgoing;
mod settings;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::core::Core;
use super::executor::Executor;
use super::link::{Answer, Link};
use crate::ipc::message::MonitorRequest;
use crate::migration::{Cancel, Limits, Progress, parse_uri};
use crate::qapi::Error;
use crate::qapi::qmp::{
    Event, MigrationAddress, MigrationChannel, MigrationEvent, MigrationPassEvent, MigrationStatus,
};
use settings::Capabilities;

/// What a task needs of the worker around the guest.
pub struct Surroundings {
    /// The guest.
    pub core: Weak<Core>,
    /// The link to the monitor, which opens what a guest moves through.
    pub link: Rc<Link>,
    /// Runs tasks.
    pub executor: Rc<Executor>,
}

/// All that is known of a guest's moves.
#[derive(Default)]
pub struct Migration {
    capabilities: RefCell<Capabilities>,
    limits: Arc<Limits>,
    job: RefCell<Job>,
    /// Whether the guest that arrives is to run.
    runs_on_arrival: Cell<bool>,
    /// A guest was asked for already.
    arrival_began: Cell<bool>,
    surroundings: OnceCell<Surroundings>,
}

/// The move that is under way, or the last one.
struct Job {
    status: MigrationStatus,
    is_incoming: bool,
    started: Instant,
    setup: Option<Duration>,
    total: Option<Duration>,
    stopped: Option<Instant>,
    downtime: Option<Duration>,
    error: Option<String>,
    progress: Arc<Progress>,
    /// Ends the work at the channel.
    cancel: Option<Cancel>,
    /// Ends what waits elsewhere.
    cancelled: Rc<Notify>,
    /// For `migrate-continue`.
    go_on: Option<oneshot::Sender<()>>,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            status: MigrationStatus::None,
            is_incoming: false,
            started: Instant::now(),
            setup: None,
            total: None,
            stopped: None,
            downtime: None,
            error: None,
            progress: Arc::default(),
            cancel: None,
            cancelled: Rc::default(),
            go_on: None,
        }
    }
}

impl Job {
    /// Whether something is under way.
    fn is_active(&self) -> bool {
        !matches!(
            self.status,
            MigrationStatus::None | MigrationStatus::Completed | MigrationStatus::Failed | MigrationStatus::Cancelled
        )
    }
}

impl Migration {
    /// Says who runs tasks and opens channels. Only the first call counts.
    pub fn connect(&self, surroundings: Surroundings) {
        drop(self.surroundings.set(surroundings));
    }

    /// Whether a guest is leaving or arriving.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.job.borrow().is_active()
    }

    fn is_leaving(&self) -> bool {
        let job = self.job.borrow();
        job.is_active() && !job.is_incoming
    }

    /// Says whether the guest that arrives is to run.
    pub fn set_runs_on_arrival(&self, runs: bool) {
        self.runs_on_arrival.set(runs);
    }

    fn surroundings(&self) -> Result<&Surroundings, Error> {
        let none = || Error::generic("this machine has no guest");
        self.surroundings.get().ok_or_else(none)
    }

    /// Begins a move.
    fn begin(&self, core: &Core, is_incoming: bool) {
        *self.job.borrow_mut() = Job {
            is_incoming,
            ..Job::default()
        };
        self.step(core, MigrationStatus::Setup);
    }

    /// The move is at another step, which clients are told of.
    fn step(&self, core: &Core, status: MigrationStatus) {
        self.job.borrow_mut().status = status;
        self.emit(core, Event::Migration(MigrationEvent { status }));
    }

    fn passed(&self, core: &Core, pass: u64) {
        let pass = i64::try_from(pass).unwrap_or(i64::MAX);
        self.emit(core, Event::MigrationPass(MigrationPassEvent { pass }));
    }

    fn emit(&self, core: &Core, event: Event) {
        if self.capabilities.borrow().events {
            core.emit(event);
        }
    }

    /// The move is over.
    fn end(&self, core: &Core, status: MigrationStatus, error: Option<String>) {
        {
            let mut job = self.job.borrow_mut();
            job.total = Some(job.started.elapsed());
            job.downtime = job.stopped.map(|stopped| stopped.elapsed());
            job.error = error;
            job.cancel = None;
            job.go_on = None;
        }
        self.step(core, status);
    }

    /// `migrate_cancel`.
    pub fn cancel(&self, core: &Core) {
        if !self.is_leaving() || self.job.borrow().status == MigrationStatus::Cancelling {
            return;
        }
        self.step(core, MigrationStatus::Cancelling);
        let mut job = self.job.borrow_mut();
        job.go_on = None;
        job.cancelled.notify_one();
        if let Some(cancel) = &job.cancel {
            cancel.cancel();
        }
    }

    /// `migrate-continue`.
    ///
    /// # Errors
    /// Nothing waits, or in another status.
    pub fn go_on(&self, state: MigrationStatus) -> Result<(), Error> {
        let mut job = self.job.borrow_mut();
        if job.status != state {
            return Err(Error::generic(format!(
                "Migration not in expected state: {}",
                job.status
            )));
        }
        if let Some(go_on) = job.go_on.take() {
            // Whoever waits is there as long as the sender is.
            let _ = go_on.send(());
        }
        Ok(())
    }
}

/// The one place that a command names.
fn address(uri: Option<&str>, channels: Option<Vec<MigrationChannel>>) -> Result<MigrationAddress, Error> {
    match (uri, channels) {
        (Some(_), Some(_)) => Err(Error::generic(
            "'uri' and 'channels' arguments are mutually exclusive; exactly one of the two should be present in 'migrate' \
             qmp command ",
        )),
        (None, None) => Err(Error::generic(
            "neither 'uri' or 'channels' argument are specified in 'migrate' qmp command ",
        )),
        (Some(uri), None) => parse_uri(uri).map_err(|error| Error::generic(error.to_string())),
        (None, Some(channels)) => {
            let [channel] = <[MigrationChannel; 1]>::try_from(channels)
                .map_err(|_| Error::generic("Channel list must have one entry, of type 'main'"))?;
            Ok(channel.addr)
        }
    }
}

/// Runs a task beside everything else.
fn spawn(surroundings: &Surroundings, task: impl Future<Output = ()> + 'static) {
    surroundings.executor.spawn(task);
}

/// What the monitor answers.
type Opened = Pin<Box<dyn Future<Output = Answer>>>;

/// Asks the monitor for what a guest moves through.
fn open(
    surroundings: &Surroundings,
    request: impl FnOnce(String) -> MonitorRequest,
    address: &MigrationAddress,
) -> Opened {
    let text = crate::qapi::visit::encoded(address);
    let asked = surroundings
        .link
        .ask(request(String::from_utf8_lossy(&text).into_owned()));
    Box::pin(async move {
        let gone = |_| Error::generic("the monitor did not answer");
        asked.await.map_err(gone).and_then(|answer| answer)
    })
}
