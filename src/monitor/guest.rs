//! One guest as the monitor knows it: its character devices, its worker and its clients.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::chardev::{
    ChardevError, ChardevEvent, ChardevEventKind, ChardevOptions, ChardevRegistry, FrontEnd, ImageMode, passage,
};
use crate::cmdline::{Config, MonitorConfig, MonitorMode};
use crate::ipc::message::{FromWorker, LogChange, MonitorRequest, ToWorker, WorkerRequest};
use crate::qapi::qmp::{Call, Event, RunState, ShutdownCause, WorkerCall, dispatch_monitor, dispatch_worker};
use crate::qapi::session::Compat;
use crate::qapi::{Error, QmpError};
use crate::qom::Registry;
use crate::report::{self, Voice};
use crate::target::Target;
use crate::worker::core::Core;

use super::cpu::Hosts;
use super::events::EventBus;
use super::human::HumanService;
use super::link::WorkerLink;
use super::pump::{self, CallContext};
use super::session::QmpService;

/// What is known of a guest without asking: where it stands, and what happens.
#[derive(Default)]
pub struct News {
    /// The clients' events.
    pub events: EventBus<Event>,
    status: Cell<Option<RunState>>,
}

impl News {
    /// No news yet, of the guest for which `voice` speaks.
    #[must_use]
    pub fn of(voice: Voice) -> Self {
        Self {
            events: EventBus::of(voice),
            status: Cell::default(),
        }
    }

    /// Hears a message of the worker; gives back those that are not news.
    pub fn hear(&self, message: FromWorker) -> Option<FromWorker> {
        match message {
            FromWorker::Event(event) => self.events.emit(event),
            FromWorker::RunState(state) => self.status.set(Some(state)),
            other => return Some(other),
        }
        None
    }
}

/// A guest.
pub struct Guest {
    /// What the command line said.
    pub config: Config,
    /// The character devices.
    pub chardevs: ChardevRegistry,
    /// What happens.
    pub news: Rc<News>,
    /// Every type there is.
    pub registry: Registry,
    /// What the accelerators can do.
    pub hosts: Hosts,
    worker: Worker,
    quit: Notify,
    clients: RefCell<Vec<tokio::task::JoinHandle<()>>>,
}

/// Who runs the worker's commands.
pub enum Worker {
    /// The guest's worker process.
    Process(WorkerLink),
    /// This process: there is no guest.
    Here(Rc<Core>),
}

impl Guest {
    /// A guest whose worker is ready to be asked.
    #[must_use]
    pub fn new(
        config: Config,
        chardevs: ChardevRegistry,
        registry: Registry,
        hosts: Hosts,
        news: Rc<News>,
        worker: Worker,
    ) -> Self {
        Self {
            config,
            chardevs,
            news,
            registry,
            hosts,
            worker,
            quit: Notify::new(),
            clients: RefCell::default(),
        }
    }

    /// What clients are to do without.
    #[must_use]
    pub fn compat(&self) -> Compat {
        self.config.compat
    }

    /// The architecture that is emulated.
    #[must_use]
    pub fn target(&self) -> Target {
        self.config.target
    }

    /// The run state.
    #[must_use]
    pub fn status(&self) -> RunState {
        self.news.status.get().unwrap_or(RunState::Prelaunch)
    }

    /// Whether there is a guest, and not only a monitor.
    #[must_use]
    pub fn has_guest(&self) -> bool {
        matches!(self.worker, Worker::Process(_))
    }

    /// The link to the worker process, if there is one.
    #[must_use]
    pub fn link(&self) -> Option<&WorkerLink> {
        match &self.worker {
            Worker::Process(link) => Some(link),
            Worker::Here(_) => None,
        }
    }

    /// Runs a command and returns its encoded return value.
    ///
    /// # Errors
    /// What the command says.
    pub async fn run(&self, context: &CallContext, call: Call) -> Result<Vec<u8>, Error> {
        match call {
            Call::Monitor(call) => dispatch_monitor(self, context, call).await,
            Call::Worker(call) => self.run_in_worker(call).await,
        }
    }

    /// Runs a command of the worker.
    ///
    /// # Errors
    /// What the command says, or that the worker is gone.
    pub async fn run_in_worker(&self, call: WorkerCall) -> Result<Vec<u8>, Error> {
        match &self.worker {
            Worker::Process(link) => link.ask(WorkerRequest::Call(call)).await,
            Worker::Here(core) => dispatch_worker(&**core, &(), call).await,
        }
    }

    /// Changes the log of the guest's processes: the worker's alone where this one is the monitor of others as well.
    ///
    /// # Errors
    /// The worker is gone, or no descriptor is left.
    pub async fn change_log(&self, change: LogChange) -> Result<(), Error> {
        let Some(link) = self.link() else {
            change.apply();
            return Ok(());
        };
        if !self.chardevs.fds().is_one_among_many() {
            let own = change.try_clone();
            own.map_err(|error| Error::generic(format!("cannot share the log: {}", report::reason(&error))))?
                .apply();
        }
        link.ask(WorkerRequest::ChangeLog(change)).await.map(drop)
    }

    /// Ends the guest: `quit`, or a signal to the monitor.
    pub fn terminate(&self, cause: ShutdownCause) {
        match &self.worker {
            Worker::Process(link) => link.send(ToWorker::Terminate(cause)),
            Worker::Here(core) => {
                core.terminate(cause);
                self.quit.notify_one();
            }
        }
    }

    /// Waits until [`Guest::terminate`] was called where there is no worker process.
    pub async fn terminated(&self) {
        self.quit.notified().await;
    }

    /// `quit`: as [`Guest::terminate`], and returns once the clients were told.
    pub async fn quit(&self) {
        match &self.worker {
            // A worker that has ended meanwhile is as good.
            Worker::Process(link) => drop(link.ask(WorkerRequest::End(ShutdownCause::HostQmpQuit)).await),
            Worker::Here(_) => self.terminate(ShutdownCause::HostQmpQuit),
        }
    }

    /// Claims the character devices of the command line's monitors. Nobody is greeted there yet.
    ///
    /// # Errors
    /// A monitor's character device is not there or in use.
    pub async fn claim_monitors(&self) -> Result<Vec<(MonitorConfig, FrontEnd)>, Error> {
        let mut claimed = Vec::new();
        for monitor in &self.config.monitors {
            let front = self.chardevs.connect(&monitor.chardev).await?;
            claimed.push((monitor.clone(), front));
        }
        Ok(claimed)
    }

    /// Lets clients in. What they ask first finds a guest that runs, unless it is to wait for `cont`.
    pub fn serve_monitors(self: &Rc<Self>, claimed: Vec<(MonitorConfig, FrontEnd)>) {
        for (monitor, front) in claimed {
            let guest = Rc::clone(self);
            let client = match monitor.mode {
                MonitorMode::Control => {
                    let service = Rc::new(QmpService::new(guest, monitor.pretty));
                    tokio::task::spawn_local(pump::serve(service, front))
                }
                MonitorMode::Readline => {
                    tokio::task::spawn_local(pump::serve(Rc::new(HumanService::new(guest)), front))
                }
            };
            self.clients.borrow_mut().push(client);
        }
    }

    /// Acts on what the worker said. Returns an exit status if that is the end.
    pub fn heard(self: &Rc<Self>, message: FromWorker) -> Option<u8> {
        match message {
            FromWorker::Ask { id, request } => {
                let guest = Rc::clone(self);
                tokio::task::spawn_local(async move { guest.answer(id, request).await });
            }
            FromWorker::Ending(status) => return Some(status),
            // News was heard before. The link has read greetings and answers, the owner of the guest what is about its
            // beginning.
            FromWorker::Event(_)
            | FromWorker::RunState(_)
            | FromWorker::Hello(_)
            | FromWorker::Answer { .. }
            | FromWorker::Ready
            | FromWorker::Failed(_) => {}
        }
        None
    }

    /// Acts on what happened at a character device.
    pub fn line_event(&self, event: &ChardevEvent) {
        match event.kind {
            ChardevEventKind::Terminate => self.terminate(ShutdownCause::HostUi),
        }
    }

    /// Lets the clients read what was sent to them, and closes everything.
    pub async fn close(&self) {
        self.news.events.close();
        let clients = self.clients.take();
        for client in clients {
            // A session that panicked has said so.
            let _ = client.await;
        }
        self.chardevs.shutdown().await;
    }

    async fn answer(&self, id: u64, request: MonitorRequest) {
        let Some(link) = self.link() else {
            return;
        };
        match request {
            MonitorRequest::OpenChardev(label) => {
                let opened = self.chardevs.connect_guest(&label).await;
                link.answer(id, opened.map_err(Error::from));
            }
            MonitorRequest::OpenPort(label) => {
                let opened = self.chardevs.connect_port(&label).await;
                link.answer(id, opened.map_err(Error::from));
            }
            MonitorRequest::OpenConversation(label) => {
                let opened = self.chardevs.connect_conversation(&label).await;
                link.answer(id, opened.map_err(Error::from));
            }
            MonitorRequest::OpenMigration(address) => {
                link.answer(id, passage::leave(&address, self.chardevs.fds()).await);
            }
            MonitorRequest::ListenMigration(address) => {
                link.answer(id, passage::arrive(&address, self.chardevs.fds()).await);
            }
            MonitorRequest::TakeDescriptor(name) => {
                link.answer(id, self.chardevs.fds().resolve(&name).map_err(Into::into))
            }
            MonitorRequest::OpenImage {
                path,
                write,
                or_read,
                direct,
            } => {
                let mode = ImageMode { write, or_read, direct };
                link.answer(id, self.chardevs.fds().open_image(&path, mode).await);
            }
        }
    }
}

/// Opens the character devices of a command line, in order.
///
/// # Errors
/// Names the device and what is wrong with it.
pub async fn open_chardevs(config: &Config, chardevs: &ChardevRegistry) -> Result<(), Error> {
    for add in &config.fds {
        let set = i64::try_from(add.set).map_err(|_| Error::generic(format!("fd set {} is out of range", add.set)))?;
        let added = chardevs.fds().add_inherited(set, add.fd, add.opaque.clone());
        added.map_err(|error| Error::generic(format!("{}: {error}", add.location)))?;
    }
    for chardev in &config.chardevs {
        let located = |error: ChardevError| Error::new(error.class(), chardev.complaint(&error.to_string()));
        // Only a process of its own inherits descriptors for its guest.
        let options = match chardevs.fds().is_one_among_many() {
            true => ChardevOptions::from_monitor(&chardev.options),
            false => ChardevOptions::from_command_line(&chardev.options),
        };
        let options = options.map_err(|error| located(error.into()))?;
        let id = options.id.clone();
        let added = chardevs.add(options).await.map_err(located)?;
        if let Some(path) = added.pty {
            let voice = chardevs.fds().voice();
            let line = format!("{}char device redirected to {path} (label {id})\n", voice.label());
            // QEMU starts the guest all the same; whoever manages it asks `query-chardev`.
            if let Err(error) = report::output(&line) {
                report::warning(format!("{}: {}", line.trim_end(), report::reason(&error)));
            }
        }
    }
    Ok(())
}

/// Waits for the first client of every server that is to have one before the guest starts.
pub async fn wait_for_clients(config: &Config, chardevs: &ChardevRegistry) {
    for chardev in &config.chardevs {
        let Some(id) = chardev.options.get("id").and_then(serde_json::Value::as_str) else {
            continue;
        };
        if let Some(address) = chardevs.waiting_for(id) {
            chardevs
                .fds()
                .voice()
                .info(format!("QEMU waiting for connection on: {address}"));
            chardevs.ready(id).await;
        }
    }
}
