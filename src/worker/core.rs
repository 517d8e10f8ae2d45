//! The heart of a worker: one guest, its run state, and what it tells the monitor.
//!
//! Everything here runs on the worker's main thread. Devices and vCPUs reach it through [`Core::notice`].

use std::cell::{Cell, RefCell};

use serde_json::{Map, Value};

use crate::cmdline::Config;
use crate::devices::Notice;
use crate::ipc::message::FromWorker;
use crate::machine::guest::Guest;
use crate::machine::types::MachineType;
use crate::qapi::Error;
use crate::qapi::qmp::{Event, RtcChangeEvent, RunState, ShutdownAction, ShutdownCause, WatchdogAction, WatchdogEvent};
use crate::qom::tree::Tree;
use crate::qom::{GlobalValue, Registry};
use crate::report;
use crate::target::Target;

use super::objects::Objects;
use super::runstate::{Actions, Effect, Machine};

/// Where messages to the monitor go. In a process without a worker this is the monitor itself.
pub type Outbox = Box<dyn Fn(FromWorker)>;

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
    /// QOM type name of the vCPUs.
    pub cpu_type: String,
    /// What a watchdog does.
    pub watchdog: Cell<WatchdogAction>,
    /// The migration capability `events`.
    pub migration_events: Cell<bool>,
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
        outbox: Outbox,
    ) -> Result<Self, Error> {
        let core = Self {
            target: config.target,
            tree: RefCell::new(super::tree::build(
                &registry,
                machine,
                &config.machine,
                guest.as_deref(),
            )?),
            objects: RefCell::default(),
            cpu_type: guest.as_deref().map(Guest::cpu_type).unwrap_or_default(),
            machine: RefCell::new(Machine::new(Actions {
                reboot: config.actions.reboot,
                shutdown: config.actions.shutdown,
                panic: config.actions.panic,
            })),
            watchdog: Cell::new(config.actions.watchdog),
            migration_events: Cell::new(false),
            registry,
            config,
            guest,
            outbox,
            exit: Cell::new(None),
        };
        for object in &core.config.machine.objects {
            core.add_object(object, None)?;
        }
        if let Some(guest) = core.guest.as_deref() {
            let mut tree = core.tree.borrow_mut();
            core.objects
                .borrow_mut()
                .add_guest_memory(&mut tree, &core.registry, guest)?;
        }
        Ok(core)
    }

    /// Creates an object from `properties`, which hold `qom-type` and `id`. `content` is what reading the file of a secret
    /// brought, if it was read already.
    ///
    /// # Errors
    /// Names what is missing, wrong or taken.
    pub fn add_object(
        &self,
        properties: &Map<String, Value>,
        content: Option<std::io::Result<Vec<u8>>>,
    ) -> Result<(), Error> {
        let globals: Vec<GlobalValue<'_>> = self
            .config
            .machine
            .globals
            .iter()
            .map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()))
            .collect();
        let named_threads = self.config.machine.debug_threads;
        self.objects.borrow_mut().add(
            &mut self.tree.borrow_mut(),
            &self.registry,
            self.guest.as_deref(),
            (properties, content),
            &globals,
            named_threads,
        )
    }

    /// Says something to the monitor.
    pub fn send(&self, message: FromWorker) {
        (self.outbox)(message);
    }

    /// Tells the clients.
    pub fn emit(&self, event: Event) {
        self.send(FromWorker::Event(event));
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

    /// `cont`, and the start without `-S`.
    ///
    /// # Errors
    /// The guest must be reset first, or the accelerator refuses.
    pub fn cont(&self) -> Result<(), Error> {
        self.guest()?;
        let effects = self.machine.borrow_mut().cont()?;
        self.perform(effects)
    }

    /// `stop`.
    ///
    /// # Errors
    /// The accelerator refuses.
    pub fn stop(&self) -> Result<(), Error> {
        let effects = self.machine.borrow_mut().stop();
        self.perform(effects)
    }

    /// A reset by a client or the guest.
    ///
    /// # Errors
    /// The accelerator refuses.
    pub fn reset(&self, cause: ShutdownCause) -> Result<(), Error> {
        let effects = self.machine.borrow_mut().reset(cause);
        self.perform(effects)
    }

    /// `system_powerdown`.
    ///
    /// # Errors
    /// There is no guest.
    pub fn powerdown(&self) -> Result<(), Error> {
        self.guest()?;
        let effects = self.machine.borrow().powerdown();
        self.perform(effects)
    }

    /// `system_wakeup`.
    ///
    /// # Errors
    /// The guest does not sleep.
    pub fn wakeup(&self) -> Result<(), Error> {
        let effects = self.machine.borrow_mut().wakeup()?;
        self.perform(effects)
    }

    /// Ends the guest for a reason outside of it.
    pub fn terminate(&self, cause: ShutdownCause) {
        self.perform_or_break(|machine| machine.shutdown(cause, u8::from(cause == ShutdownCause::HostError)));
    }

    /// Acts on what a device or vCPU said.
    pub fn notice(&self, notice: Notice) {
        match notice {
            Notice::ResetRequest => self.perform_or_break(|machine| machine.reset(ShutdownCause::GuestReset)),
            Notice::ShutdownRequest => {
                self.perform_or_break(|machine| machine.shutdown(ShutdownCause::GuestShutdown, 0));
            }
            Notice::DebugExit(status) => {
                self.perform_or_break(|machine| machine.shutdown(ShutdownCause::GuestShutdown, status));
            }
            // One that does not sleep needs no waking.
            Notice::WakeupRequest => self.perform_or_break(|machine| machine.wakeup().unwrap_or_default()),
            Notice::SuspendRequest => self.perform_or_break(Machine::suspend),
            Notice::HibernateRequest => self.perform_or_break(Machine::hibernate),
            Notice::GuestPanicked => self.perform_or_break(Machine::panicked),
            Notice::GuestCrashLoaded => self.perform_or_break(|machine| machine.crash_loaded()),
            Notice::GuestPvShutdown => {
                self.emit(Event::GuestPvshutdown);
                self.perform_or_break(|machine| machine.shutdown(ShutdownCause::GuestShutdown, 0));
            }
            Notice::InternalError => self.perform_or_break(Machine::internal_error),
            Notice::RtcChange(offset) => {
                let qom_path = "/machine/rtc".to_owned();
                self.emit(Event::RtcChange(RtcChangeEvent { offset, qom_path }));
            }
        }
    }

    /// A watchdog expired.
    pub fn watchdog_expired(&self) {
        let action = self.watchdog.get();
        self.emit(Event::Watchdog(WatchdogEvent { action }));
        match action {
            WatchdogAction::Reset => self.perform_or_break(|machine| machine.reset(ShutdownCause::GuestReset)),
            WatchdogAction::Shutdown => self.perform_or_break(|machine| machine.powerdown()),
            WatchdogAction::Poweroff => self.perform_or_break(|machine| {
                machine.set_actions(Actions {
                    shutdown: ShutdownAction::Poweroff,
                    ..machine.actions()
                });
                machine.shutdown(ShutdownCause::HostError, 0)
            }),
            WatchdogAction::Pause => self.perform_or_break(Machine::watchdog),
            WatchdogAction::InjectNmi => {
                if let Err(error) = self.guest().and_then(Guest::inject_nmi) {
                    report::error(format!("the watchdog cannot inject an NMI: {error}"));
                }
            }
            WatchdogAction::Debug => report::error("watchdog timer fired"),
            WatchdogAction::None => {}
        }
    }

    /// Performs the effects of a change that nobody waits for. If the accelerator refuses one, the guest cannot go on.
    fn perform_or_break(&self, change: impl FnOnce(&mut Machine) -> Vec<Effect>) {
        let effects = change(&mut self.machine.borrow_mut());
        if let Err(error) = self.perform(effects) {
            report::error(format!("the guest cannot go on: {error}"));
            let effects = self.machine.borrow_mut().internal_error();
            self.tell_state();
            effects.into_iter().for_each(|effect| {
                if let Effect::Emit(event) = effect {
                    self.emit(event);
                }
            });
        }
    }

    /// Carries out effects in order. The new state is told first, so that no event is ahead of it.
    fn perform(&self, effects: Vec<Effect>) -> Result<(), Error> {
        self.tell_state();
        for effect in effects {
            match (effect, self.guest.as_deref()) {
                (Effect::Emit(event), _) => self.emit(event),
                (Effect::Exit(status), _) => self.exit.set(Some(status)),
                (Effect::Run, Some(guest)) => guest.start()?,
                (Effect::Pause, Some(guest)) => guest.pause()?,
                (Effect::Reset, Some(guest)) => guest.reset()?,
                (Effect::PressPowerButton, Some(guest)) => guest.press_power_button(),
                (Effect::Wake, Some(guest)) => guest.wake()?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn tell_state(&self) {
        self.send(FromWorker::RunState(self.state()));
    }
}
