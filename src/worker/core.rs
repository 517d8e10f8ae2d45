//! The heart of a worker: one guest, its run state, and what it tells the monitor.
//!
//! Everything here runs on the worker's main thread. Devices and vCPUs reach it through [`Core::notice`].

use std::cell::{Cell, OnceCell, RefCell};

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::block::{Graph, Opener, Outcome};
use crate::cmdline::Config;
use crate::devices::Notice;
use crate::ipc::message::{FromWorker, MonitorRequest};
use crate::machine::entropy::EntropySources;
use crate::machine::guest::{Guest, GuestObject, RemovedDevice};
use crate::machine::types::MachineType;
use crate::net::Networks;
use crate::qapi::Error;
use crate::qapi::qmp::{
    DeviceDeletedEvent, Event, GuestPanicInformation, GuestPanicInformationHyperV, RtcChangeEvent, RunState,
    ShutdownAction, ShutdownCause, VserportChangeEvent, WatchdogAction, WatchdogEvent,
};
use crate::qom::Registry;
use crate::qom::tree::Tree;
use crate::report;
use crate::target::Target;

use super::link::Answer;
use super::migration::Migration;
use super::objects::{ObjectError, Objects, Plan, Supplied, Supply};
use super::runstate::{Action, Actions, Before, Change, Machine};

/// Why no guest of a machine can be saved or moved that has no way to do that.
const NOT_MIGRATABLE: &str = "the machine's devices cannot be saved";

/// Where messages to the monitor go. In a process without a worker this is the monitor itself.
pub type Outbox = Box<dyn Fn(FromWorker)>;

/// How the monitor is asked. Only a worker can.
pub type Asker = Box<dyn Fn(MonitorRequest) -> oneshot::Receiver<Answer>>;

/// What a guest has of the world outside of it.
pub struct Outside {
    /// Sources of random bytes.
    pub entropy: EntropySources,
    /// The nodes that disks are made of.
    pub graph: Graph,
    /// Who opens images.
    pub opener: Box<dyn Opener>,
    /// Where messages to the monitor go.
    pub outbox: Outbox,
}

/// A guest, or a machine without one.
pub struct Core {
    /// The architecture that is emulated.
    pub target: Target,
    /// What the command line said.
    pub config: Config,
    /// The guest; none for `-machine none`.
    pub guest: Option<Box<dyn Guest>>,
    /// Every type there is.
    pub registry: Registry,
    /// The tree of objects.
    pub tree: RefCell<Tree>,
    /// The objects that users created.
    pub objects: RefCell<Objects>,
    /// The nodes that disks are made of.
    pub graph: Graph,
    /// Who opens images for them.
    pub opener: Box<dyn Opener>,
    /// QOM type name of the vCPUs.
    pub cpu_type: String,
    /// What a watchdog does.
    pub watchdog: Cell<WatchdogAction>,
    /// Whether and how the guest moves.
    pub migration: Migration,
    /// The back ends of the guest's network cards, and the list of the cards; nothing where there is no guest.
    pub networks: OnceCell<Networks>,
    /// How the monitor is asked; nothing in a process without a worker.
    pub asker: OnceCell<Asker>,
    machine: RefCell<Machine>,
    outbox: Outbox,
    exit: Cell<Option<u8>>,
}

impl Core {
    /// Puts a guest under the rules of the run state, and the objects of the command line beside it.
    ///
    /// # Errors
    /// Names the object that cannot be made.
    pub fn new(
        config: Config,
        guest: Option<Box<dyn Guest>>,
        registry: Registry,
        machine: &MachineType,
        outside: Outside,
    ) -> Result<Self, Error> {
        let core = Self {
            graph: outside.graph,
            opener: outside.opener,
            target: config.target,
            tree: RefCell::new(super::tree::build(
                &registry,
                machine,
                &config.machine,
                guest.as_deref(),
            )?),
            objects: RefCell::new(Objects::new(outside.entropy)),
            cpu_type: guest.as_deref().map(Guest::cpu_type).unwrap_or_default(),
            machine: RefCell::new(Machine::new(
                Actions {
                    reboot: config.actions.reboot,
                    shutdown: config.actions.shutdown,
                    panic: config.actions.panic,
                },
                config.incoming.is_some(),
            )),
            watchdog: Cell::new(config.actions.watchdog),
            migration: Migration::default(),
            asker: OnceCell::new(),
            registry,
            config,
            guest,
            networks: OnceCell::new(),
            outbox: outside.outbox,
            exit: Cell::new(None),
        };
        for object in &core.config.machine.objects {
            let (plan, supply) = core.plan_object(object)?;
            core.make_object(plan, supply.get())?;
        }
        if let Some(guest) = core.guest.as_deref() {
            let mut tree = core.tree.borrow_mut();
            core.objects
                .borrow_mut()
                .add_guest_memory(&mut tree, &core.registry, guest)?;
        }
        Ok(core)
    }

    /// Checks what a user says of an object: `properties`, which hold `qom-type` and `id`. Says what is to be got before
    /// [`Self::make_object`] can make it.
    ///
    /// # Errors
    /// Names what is missing, wrong or taken.
    pub fn plan_object(&self, properties: &Map<String, Value>) -> Result<(Plan, Supply), ObjectError> {
        let mut properties = properties.clone();
        self.config.machine.preallocate(&mut properties);
        let (registry, guest) = (&self.registry, self.guest.as_deref());
        self.objects.borrow().plan(registry, guest, &properties)
    }

    /// Makes an object.
    ///
    /// # Errors
    /// What it needs could not be got, or its id was taken meanwhile.
    pub fn make_object(&self, plan: Plan, supplied: Supplied) -> Result<(), ObjectError> {
        let named_threads = self.config.machine.debug_threads;
        let mut tree = self.tree.borrow_mut();
        self.objects.borrow_mut().make(&mut tree, plan, supplied, named_threads)
    }

    /// Removes an object (`object-del`).
    ///
    /// # Errors
    /// There is none of this id, or the machine uses it.
    pub fn remove_object(&self, id: &str) -> Result<(), ObjectError> {
        let is_used = super::objects::is_used(self.guest.as_deref(), id) || self.spare_ram() == Some(id);
        let mut tree = self.tree.borrow_mut();
        self.objects.borrow_mut().remove(&mut tree, is_used, id)
    }

    /// The id of the backend that is the memory of a machine without a guest.
    pub(super) fn spare_ram(&self) -> Option<&str> {
        let mut properties = self.config.machine.machine_props.iter();
        let backend = properties.rfind(|(name, _)| matches!(name.as_str(), "memory-backend" | "memory_backend"));
        backend.map(|(_, id)| id.as_str()).filter(|_| self.guest.is_none())
    }

    /// The back ends of the guest's network cards, and the list of the cards.
    ///
    /// # Errors
    /// There is no guest.
    pub fn networks(&self) -> Result<&Networks, Error> {
        let networks = self.networks.get();
        networks.ok_or_else(|| Error::generic("this machine has no guest"))
    }

    /// Says something to the monitor.
    pub fn send(&self, message: FromWorker) {
        (self.outbox)(message);
    }

    /// Tells the clients.
    pub fn emit(&self, event: Event) {
        self.send(FromWorker::Event(event));
    }

    /// Asks the monitor for a descriptor.
    ///
    /// # Errors
    /// It cannot be had, or there is no monitor to ask.
    pub async fn ask(&self, request: MonitorRequest) -> Answer {
        let nobody = || Error::generic("there is no monitor process to ask");
        let asker = self.asker.get().ok_or_else(nobody)?;
        asker(request).await.unwrap_or_else(|_| Err(nobody()))
    }

    /// The exit status, once the process is to end.
    #[must_use]
    pub fn exit_status(&self) -> Option<u8> {
        self.exit.get()
    }

    /// Ends the process with a failure status, without a word to anyone.
    pub fn abort(&self) {
        self.exit.set(Some(1));
    }

    /// The guest.
    ///
    /// # Errors
    /// There is none; the command cannot do anything.
    pub fn guest(&self) -> Result<&dyn Guest, Error> {
        self.guest
            .as_deref()
            .ok_or_else(|| Error::generic("this machine has no guest"))
    }

    /// Why the guest cannot be saved or moved, as `query-migrate` tells and `-only-migratable` refuses.
    #[must_use]
    pub fn migration_blockers(&self) -> Vec<String> {
        self.guest.as_deref().map(blockers).unwrap_or_default()
    }

    /// The run state.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.machine.borrow().state()
    }

    /// What the guest's own requests lead to.
    #[must_use]
    pub fn actions(&self) -> Actions {
        self.machine.borrow().actions()
    }

    /// Changes what the guest's own requests lead to.
    pub fn set_actions(&self, actions: Actions) {
        self.machine.borrow_mut().set_actions(actions);
    }

    /// `cont`, and the start without `-S`. Whatever fails, the guest is stopped as it was before.
    ///
    /// # Errors
    /// The guest must be reset first, or the accelerator refuses.
    pub fn cont(&self) -> Result<(), Error> {
        if self.state() == RunState::Inmigrate {
            // It will run once it is here.
            self.migration.set_runs_on_arrival(true);
            return Ok(());
        }
        let change = self.machine.borrow().cont()?;
        self.carry_out(change).inspect_err(|_| {
            // The vCPUs that were let go are stopped again; that much works on a guest that cannot go on.
            if let Err(error) = self.act(Action::Pause) {
                tracing::warn!("after a failed start: {error}");
            }
        })
    }

    /// `stop`. Whatever fails, the guest runs on as before.
    ///
    /// # Errors
    /// The accelerator refuses.
    pub fn stop(&self) -> Result<(), Error> {
        if self.state() == RunState::Inmigrate {
            self.migration.set_runs_on_arrival(false);
            return Ok(());
        }
        let change = self.machine.borrow().stop();
        self.carry_out(change).inspect_err(|_| {
            if let Err(error) = self.act(Action::Run) {
                self.break_down(&error);
            }
        })
    }

    /// A reset by a client. One that fails half-way leaves a guest that must be reset again.
    ///
    /// # Errors
    /// The accelerator refuses.
    pub fn reset(&self, cause: ShutdownCause) -> Result<(), Error> {
        let change = self.machine.borrow().reset(cause);
        self.carry_out(change).inspect_err(|error| self.break_down(error))
    }

    /// Stops the guest, to leave. Whatever fails, it runs on as before. Returns what it was doing.
    ///
    /// # Errors
    /// The accelerator refuses.
    pub fn stop_to_leave(&self) -> Result<Before, Error> {
        let (change, before) = self.machine.borrow().stop_to_leave();
        self.carry_out(change).inspect_err(|_| {
            if before.is_running() {
                if let Err(error) = self.act(Action::Run) {
                    self.break_down(&error);
                }
            }
        })?;
        Ok(before)
    }

    /// The guest did not leave after all, and does what it did before.
    pub fn go_back(&self, before: Before) {
        self.force(|machine| machine.go_back(before));
    }

    /// The guest has left.
    pub fn has_left(&self) {
        self.force(Machine::has_left);
    }

    /// The guest has arrived, which was doing `state` where it was. With `runs` it goes on with that, else it waits.
    ///
    /// # Errors
    /// That is no name of a run state, or the guest cannot run.
    pub fn has_arrived(&self, state: &str, runs: bool) -> Result<(), Error> {
        let state = RunState::from_wire(state);
        let state = state.ok_or_else(|| Error::generic("globalstate: runstate: no name of a run state"))?;
        let change = self.machine.borrow().has_arrived(state, runs);
        self.carry_out(change).inspect_err(|_| {
            if let Err(error) = self.act(Action::Pause) {
                tracing::warn!("after a failed start: {error}");
            }
        })
    }

    /// `system_powerdown`.
    ///
    /// # Errors
    /// None: a guest cannot refuse to have its button pressed.
    pub fn powerdown(&self) -> Result<(), Error> {
        let change = self.machine.borrow().powerdown();
        self.carry_out(change)
    }

    /// `system_wakeup`. One that fails half-way leaves a guest that must be reset.
    ///
    /// # Errors
    /// The guest does not sleep, or the machine cannot.
    pub fn wakeup(&self) -> Result<(), Error> {
        if self.guest.is_none() {
            return Err(Error::generic("wake-up from suspend is not supported by this guest"));
        }
        let change = self.machine.borrow().wakeup()?;
        self.carry_out(change).inspect_err(|error| self.break_down(error))
    }

    /// Ends the guest for a reason outside of it.
    pub fn terminate(&self, cause: ShutdownCause) {
        self.force(|machine| machine.shutdown(cause, u8::from(cause == ShutdownCause::HostError)));
    }

    /// Acts on what a device or vCPU said. What they say once the guest is at its end is of no account.
    pub fn notice(&self, notice: Notice) {
        if self.exit.get().is_some() {
            return;
        }
        match notice {
            Notice::ResetRequest => self.force(|machine| machine.reset(ShutdownCause::GuestReset)),
            Notice::ShutdownRequest => self.force(|machine| machine.shutdown(ShutdownCause::GuestShutdown, 0)),
            Notice::DebugExit(status) => self.force(|machine| machine.shutdown(ShutdownCause::GuestShutdown, status)),
            Notice::WakeupRequest => self.force(Machine::wake_event),
            Notice::SuspendRequest => self.force(Machine::suspend),
            Notice::HibernateRequest => self.force(Machine::hibernate),
            Notice::GuestPanicked => self.force(|machine| machine.panicked(None)),
            Notice::HyperVCrash(parameters) => self.force(|machine| machine.panicked(Some(hyper_v_info(parameters)))),
            Notice::GuestCrashLoaded => self.force(Machine::crash_loaded),
            Notice::GuestPvShutdown => self.force(Machine::pv_shutdown),
            Notice::DebugStop(..) => self.force(Machine::debug),
            Notice::InternalError => self.force(Machine::broken),
            Notice::SlotReleased => {
                let released = self.guest.as_deref().map(Guest::take_released);
                self.forget(released.unwrap_or_default());
            }
            Notice::NetworkNews => {
                let news = self.networks.get().map(Networks::take_news);
                let events = news.into_iter().flatten().map(super::networks::event);
                events.for_each(|event| self.emit(event));
            }
            Notice::DiskError => self.disks_failed(),
            Notice::RtcChange(offset) => {
                let qom_path = self.path_of("mc146818rtc").unwrap_or_default();
                self.emit(Event::RtcChange(RtcChangeEvent { offset, qom_path }));
            }
            Notice::PortChange(news) => {
                let (id, open) = news.look();
                self.emit(Event::VserportChange(VserportChangeEvent {
                    id: id.to_owned(),
                    open,
                }));
            }
        }
    }

    /// Tells the clients of requests to disks that failed, and stops the guest where one is to be made again later.
    fn disks_failed(&self) {
        let failures = self.graph.take_failures();
        let stops = failures.iter().any(|failure| failure.outcome == Outcome::Stop);
        for failure in failures {
            self.emit(Event::BlockIoError(failure.into()));
        }
        // Whoever let the guest go on meanwhile had the requests made again.
        if stops && self.graph.is_stopped() {
            self.force(Machine::io_error);
        }
    }

    /// A vCPU has parked itself for a debugger that is gone.
    pub fn run_on(&self) {
        self.force(Machine::run_on);
    }

    /// A watchdog expired.
    pub fn watchdog_expired(&self) {
        let action = self.watchdog.get();
        self.emit(Event::Watchdog(WatchdogEvent { action }));
        match action {
            WatchdogAction::Reset => self.force(|machine| machine.reset(ShutdownCause::GuestReset)),
            WatchdogAction::Shutdown => self.force(Machine::powerdown),
            WatchdogAction::Poweroff => {
                self.set_actions(Actions {
                    shutdown: ShutdownAction::Poweroff,
                    ..self.actions()
                });
                self.force(|machine| machine.shutdown(ShutdownCause::HostError, 0));
            }
            WatchdogAction::Pause => self.force(Machine::watchdog),
            WatchdogAction::InjectNmi => {
                if let Err(error) = self.guest().and_then(Guest::inject_nmi) {
                    report::error(format!("the watchdog cannot inject an NMI: {error}"));
                }
            }
            WatchdogAction::Debug => report::error("watchdog timer fired"),
            WatchdogAction::None => {}
        }
    }

    /// A change that nobody waits for. If the accelerator refuses it, the guest cannot go on.
    fn force(&self, change: impl FnOnce(&Machine) -> Change) {
        let change = change(&self.machine.borrow());
        if let Err(error) = self.carry_out(change) {
            self.break_down(&error);
        }
    }

    /// An action failed that cannot be undone: the guest stands still until it is reset.
    fn break_down(&self, error: &Error) {
        report::error(format!("the guest cannot go on: {error}"));
        let change = self.machine.borrow().broken();
        for action in &change.actions {
            if let Err(error) = self.act(*action) {
                report::error(format!("the guest cannot be stopped in good order: {error}"));
            }
        }
        self.settle(change);
    }

    /// Does what a change asks for, then takes the new state and tells of it. After an error neither state nor clients
    /// know of the change.
    fn carry_out(&self, change: Change) -> Result<(), Error> {
        for action in &change.actions {
            match self.act(*action) {
                Ok(()) => {}
                // The process ends all the same.
                Err(error) if change.exit.is_some() => report::error(format!("at the guest's end: {error}")),
                Err(error) => return Err(error),
            }
        }
        self.settle(change);
        Ok(())
    }

    /// The new state is told first, so that no event is ahead of it.
    fn settle(&self, change: Change) {
        self.machine.borrow_mut().commit(&change);
        self.tell_state();
        change.events.into_iter().for_each(|event| self.emit(event));
        if change.exit.is_some() {
            self.exit.set(change.exit);
        }
    }

    /// Without a guest there is nothing to do.
    fn act(&self, action: Action) -> Result<(), Error> {
        let Some(guest) = self.guest.as_deref() else {
            return Ok(());
        };
        match action {
            Action::Run => guest.start(),
            Action::Pause => guest.pause(),
            Action::Reset => {
                self.forget(guest.finish_unplugs());
                guest.reset()
            }
            Action::Wake => guest.wake(),
            Action::PressPowerButton => {
                guest.press_power_button();
                Ok(())
            }
        }
    }

    /// Enters what was plugged in into the tree of objects.
    ///
    /// # Errors
    /// A name is taken.
    pub fn show(&self, plugged: Vec<GuestObject>) -> Result<(), Error> {
        let mut tree = self.tree.borrow_mut();
        plugged
            .into_iter()
            .try_for_each(|shown| super::tree::show(&mut tree, shown).map_err(Error::from))
    }

    /// Takes devices that are no more out of the tree of objects, and tells the clients.
    pub fn forget(&self, removed: Vec<RemovedDevice>) {
        for device in removed {
            if let Some((parent, name)) = device.path.rsplit_once('/') {
                drop(self.tree.borrow_mut().remove(parent, name));
            }
            for path in device.parts {
                self.emit(Event::DeviceDeleted(DeviceDeletedEvent { device: None, path }));
            }
            self.emit(Event::DeviceDeleted(DeviceDeletedEvent {
                device: device.id,
                path: device.path,
            }));
        }
    }

    /// The path of the guest's object of a type that it has one of.
    fn path_of(&self, type_name: &str) -> Option<String> {
        let objects = self.guest.as_deref()?.objects();
        let found = objects.into_iter().find(|shown| shown.object.type_name() == type_name);
        found.map(|shown| shown.path)
    }

    fn tell_state(&self) {
        self.send(FromWorker::RunState(self.state()));
    }
}

/// Why a guest cannot be saved or moved.
#[must_use]
pub fn blockers(guest: &dyn Guest) -> Vec<String> {
    match guest.migratable() {
        Some(guest) => guest.blockers(),
        None => vec![NOT_MIGRATABLE.to_owned()],
    }
}

/// What a crash reported to Hyper-V is about: the guest's five parameters.
fn hyper_v_info([arg1, arg2, arg3, arg4, arg5]: [u64; 5]) -> GuestPanicInformation {
    GuestPanicInformation::HyperV(GuestPanicInformationHyperV {
        arg1,
        arg2,
        arg3,
        arg4,
        arg5,
    })
}

#[cfg(test)]
mod tests;
