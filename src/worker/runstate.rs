//! The run state of a guest: a plain value that decides, and leaves the doing to the worker.
//!
//! ```text
//!                 start                     stop / cont
//!   prelaunch ------------> running <-----------------------> paused
//!       ^                   |  |  ^                              ^
//!       | system_reset      |  |  | wakeup          guest panic  | stop / cont
//!       | while stopped     |  |  +------- suspended <--+   +----|--> guest-panicked
//!       |                   |  |              S3 |      |   |    |
//!   (any stopped state)     |  |                 +------|---|----+
//!                           |  +------------------------+---+--> internal-error   (KVM gave up)
//!                           +--> shutdown   (-no-shutdown)  or the end of the process
//! ```
//!
//! A guest that leaves goes from any state to `finish-migrate`, and from there to `postmigrate` or back; one that is awaited
//! is `inmigrate` until it does what it did where it was.
//!
//! `shutdown` and `internal-error` can only be left by a reset. Every input gives a [`Change`]; the caller carries out
//! its actions and, only if all of them went well, [commits](Machine::commit) it and tells the clients. A change that
//! failed half-way is either undone, and leaves no trace, or ends in [`Machine::broken`].

use crate::qapi::Error;
use crate::qapi::qmp::{
    Event, GuestCrashloadedEvent, GuestPanicAction, GuestPanicInformation, GuestPanickedEvent, PanicAction,
    RebootAction, ResetEvent, RunState, ShutdownAction, ShutdownCause, ShutdownEvent,
};

/// What the guest's own requests lead to (`-action`, `set-action`, `-no-shutdown`, `-no-reboot`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// A guest reset.
    pub reboot: RebootAction,
    /// A guest power-off.
    pub shutdown: ShutdownAction,
    /// A guest panic.
    pub panic: PanicAction,
}

/// Something the worker has to do to the guest. May fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let the vCPUs enter the guest.
    Run,
    /// Get every vCPU out of the guest.
    Pause,
    /// Put every device and vCPU into its power-on state.
    Reset,
    /// Press the power button.
    PressPowerButton,
    /// Tell the devices that the guest leaves ACPI S3.
    Wake,
}

/// What an input leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What to do to the guest, in order, before anything is told.
    pub actions: Vec<Action>,
    /// What to tell the clients afterwards, in order.
    pub events: Vec<Event>,
    /// End the process with this status, whether or not the guest could be stopped.
    pub exit: Option<u8>,
    next: State,
}

/// The run state, and what `cont` leads back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    run: RunState,
    /// The guest slept when it was stopped, and will sleep again when it goes on.
    asleep: bool,
}

/// What a guest was doing before it was stopped to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before(State);

impl Before {
    /// The name of it, such as `running`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.run.as_str()
    }

    /// Whether vCPUs were in the guest.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.run == RunState::Running
    }
}

/// The run state and the rules that change it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    actions: Actions,
}

impl Machine {
    /// A guest that was just created and has not run; with `awaited`, one whose state comes from elsewhere.
    #[must_use]
    pub fn new(actions: Actions, awaited: bool) -> Self {
        let run = match awaited {
            true => RunState::Inmigrate,
            false => RunState::Prelaunch,
        };
        Self {
            state: State { run, asleep: false },
            actions,
        }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state.run
    }

    /// Whether vCPUs may be in the guest.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.run == RunState::Running
    }

    /// The present actions.
    #[must_use]
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// `set-action`.
    pub fn set_actions(&mut self, actions: Actions) {
        self.actions = actions;
    }

    /// Takes the state that a change leads to, once its actions are done.
    pub fn commit(&mut self, change: &Change) {
        self.state = change.next;
    }

    /// `cont`, or the start without `-S`.
    ///
    /// # Errors
    /// The guest has ended or broken and must be reset first.
    pub fn cont(&self) -> Result<Change, Error> {
        match self.state.run {
            RunState::Shutdown | RunState::InternalError => {
                Err(Error::generic("Resetting the Virtual Machine is required"))
            }
            RunState::FinishMigrate => Err(Error::generic("Migration is not finalized yet")),
            RunState::Running | RunState::Suspended => Ok(self.nothing()),
            // It goes on sleeping.
            _ if self.state.asleep => Ok(self.to(RunState::Suspended, &[], vec![Event::Resume])),
            _ => Ok(self.to(RunState::Running, &[Action::Run], vec![Event::Resume])),
        }
    }

    /// `stop`.
    #[must_use]
    pub fn stop(&self) -> Change {
        self.halt(RunState::Paused, Vec::new())
    }

    /// The guest is stopped, to leave. Also says what it was doing, for [`Self::go_back`].
    #[must_use]
    pub fn stop_to_leave(&self) -> (Change, Before) {
        let actions: &[Action] = if self.is_running() { &[Action::Pause] } else { &[] };
        let events = if self.is_live() { vec![Event::Stop] } else { Vec::new() };
        (self.to(RunState::FinishMigrate, actions, events), Before(self.state))
    }

    /// The guest did not leave, and does what it did before.
    #[must_use]
    pub fn go_back(&self, Before(before): Before) -> Change {
        let (actions, events): (&[Action], _) = match before.run {
            RunState::Running => (&[Action::Run], vec![Event::Resume]),
            RunState::Suspended => (&[], vec![Event::Resume]),
            _ => (&[], Vec::new()),
        };
        Change {
            next: before,
            ..self.to(before.run, actions, events)
        }
    }

    /// The guest has left.
    #[must_use]
    pub fn has_left(&self) -> Change {
        self.to(RunState::Postmigrate, &[], Vec::new())
    }

    /// The guest has arrived, which was doing `run` where it was. With `runs` it goes on with that, else it waits for `cont`.
    #[must_use]
    pub fn has_arrived(&self, run: RunState, runs: bool) -> Change {
        match run {
            RunState::Running if runs => self.to(run, &[Action::Run], vec![Event::Resume]),
            RunState::Suspended if runs => self.to(run, &[], vec![Event::Resume]),
            _ if runs => self.to(run, &[], Vec::new()),
            _ => Change {
                next: State {
                    run: RunState::Paused,
                    asleep: run == RunState::Suspended,
                },
                ..self.to(RunState::Paused, &[], Vec::new())
            },
        }
    }

    /// The guest cannot go on: KVM gave a vCPU up, or an action failed that cannot be undone. The change's only action
    /// is to pause what may still run, and it holds whether or not that works.
    #[must_use]
    pub fn broken(&self) -> Change {
        if self.is_live() {
            return self.halt(RunState::InternalError, Vec::new());
        }
        self.to(RunState::InternalError, &[], Vec::new())
    }

    /// A reset, asked for by the guest or by a client.
    #[must_use]
    pub fn reset(&self, cause: ShutdownCause) -> Change {
        if self.actions.reboot == RebootAction::Shutdown {
            return self.shutdown(cause, 0);
        }
        let events = vec![Event::Reset(ResetEvent {
            guest: by_guest(cause),
            reason: cause,
        })];
        match self.state.run {
            RunState::Running => self.to(RunState::Running, &[Action::Pause, Action::Reset, Action::Run], events),
            // There is no guest yet, or it is on its way as it is.
            RunState::Inmigrate | RunState::FinishMigrate => Change {
                events,
                ..self.nothing()
            },
            _ => self.to(RunState::Prelaunch, &[Action::Pause, Action::Reset], events),
        }
    }

    /// A power-off: by the guest, or by whoever runs the emulator. `status` is the exit status if the process ends.
    #[must_use]
    pub fn shutdown(&self, cause: ShutdownCause, status: u8) -> Change {
        let events = vec![Event::Shutdown(ShutdownEvent {
            guest: by_guest(cause),
            reason: cause,
        })];
        let forced = matches!(
            cause,
            ShutdownCause::HostQmpQuit | ShutdownCause::HostSignal | ShutdownCause::HostError
        );
        if self.actions.shutdown == ShutdownAction::Pause && !forced {
            return self.halt(RunState::Shutdown, events);
        }
        Change {
            exit: Some(status),
            ..self.to(self.state.run, &[Action::Pause], events)
        }
    }

    /// `system_powerdown`: a wish that the guest may or may not follow.
    #[must_use]
    pub fn powerdown(&self) -> Change {
        Change {
            actions: vec![Action::PressPowerButton],
            events: vec![Event::Powerdown],
            ..self.nothing()
        }
    }

    /// The guest said that it panicked; `info` is what else it said. Its vCPU has stopped itself.
    #[must_use]
    pub fn panicked(&self, info: Option<GuestPanicInformation>) -> Change {
        let Actions { panic, shutdown, .. } = self.actions;
        let pauses =
            panic == PanicAction::Pause || (panic == PanicAction::Shutdown && shutdown == ShutdownAction::Pause);
        let action = match panic {
            _ if pauses => GuestPanicAction::Pause,
            PanicAction::None => GuestPanicAction::Run,
            _ => GuestPanicAction::Poweroff,
        };
        let event = Event::GuestPanicked(GuestPanickedEvent { action, info });
        match action {
            GuestPanicAction::Pause => self.halt(RunState::GuestPanicked, vec![event]),
            GuestPanicAction::Poweroff => {
                let status = u8::from(panic == PanicAction::ExitFailure);
                let mut change = self.shutdown(ShutdownCause::GuestPanic, status);
                change.events.insert(0, event);
                change
            }
            GuestPanicAction::Run if self.is_running() => {
                self.to(RunState::Running, &[Action::Pause, Action::Run], vec![event])
            }
            GuestPanicAction::Run => self.tell(event),
        }
    }

    /// The guest loads its crash kernel after a panic.
    #[must_use]
    pub fn crash_loaded(&self) -> Change {
        self.tell(Event::GuestCrashloaded(GuestCrashloadedEvent {
            action: GuestPanicAction::Run,
            info: None,
        }))
    }

    /// The guest powers itself off through pvpanic.
    #[must_use]
    pub fn pv_shutdown(&self) -> Change {
        let mut change = self.shutdown(ShutdownCause::GuestShutdown, 0);
        change.events.insert(0, Event::GuestPvshutdown);
        change
    }

    /// A watchdog expired and is to stop the guest.
    #[must_use]
    pub fn watchdog(&self) -> Change {
        self.halt(RunState::Watchdog, Vec::new())
    }

    /// A request to a disk failed that is to be made again when the guest goes on.
    #[must_use]
    pub fn io_error(&self) -> Change {
        self.halt(RunState::IoError, Vec::new())
    }

    /// A vCPU stopped for a debugger.
    #[must_use]
    pub fn debug(&self) -> Change {
        self.halt(RunState::Debug, Vec::new())
    }

    /// A vCPU has parked itself for something that is no more: a guest that runs goes on.
    #[must_use]
    pub fn run_on(&self) -> Change {
        match self.is_running() {
            true => self.to(RunState::Running, &[Action::Pause, Action::Run], Vec::new()),
            false => self.nothing(),
        }
    }

    /// The guest went to ACPI S3.
    #[must_use]
    pub fn suspend(&self) -> Change {
        if !self.is_running() {
            return self.nothing();
        }
        self.to(RunState::Suspended, &[Action::Pause], vec![Event::Suspend])
    }

    /// The guest went to ACPI S4 and is off.
    #[must_use]
    pub fn hibernate(&self) -> Change {
        let mut change = self.shutdown(ShutdownCause::GuestShutdown, 0);
        change.events.insert(0, Event::SuspendDisk);
        change
    }

    /// A wake event of a device. A guest that does not sleep needs no waking.
    #[must_use]
    pub fn wake_event(&self) -> Change {
        self.wakeup().unwrap_or_else(|_| self.nothing())
    }

    /// `system_wakeup`.
    ///
    /// # Errors
    /// The guest does not sleep, or sleeps and is stopped besides.
    pub fn wakeup(&self) -> Result<Change, Error> {
        if self.state.run != RunState::Suspended {
            return Err(Error::generic("Unable to wake up: guest is not in suspended state"));
        }
        Ok(self.to(RunState::Running, &[Action::Wake, Action::Run], vec![Event::Wakeup]))
    }

    /// Whether the guest runs or sleeps, and is not stopped.
    fn is_live(&self) -> bool {
        matches!(self.state.run, RunState::Running | RunState::Suspended)
    }

    /// Stops a guest that runs or sleeps, after `events`; another only has them told.
    fn halt(&self, run: RunState, mut events: Vec<Event>) -> Change {
        if !self.is_live() {
            return Change {
                events,
                ..self.nothing()
            };
        }
        events.push(Event::Stop);
        let asleep = self.state.run == RunState::Suspended;
        let actions: &[Action] = if asleep { &[] } else { &[Action::Pause] };
        Change {
            next: State { run, asleep },
            ..self.to(run, actions, events)
        }
    }

    fn tell(&self, event: Event) -> Change {
        Change {
            events: vec![event],
            ..self.nothing()
        }
    }

    fn to(&self, run: RunState, actions: &[Action], events: Vec<Event>) -> Change {
        Change {
            actions: actions.to_vec(),
            events,
            next: State { run, asleep: false },
            exit: None,
        }
    }

    fn nothing(&self) -> Change {
        Change {
            actions: Vec::new(),
            events: Vec::new(),
            next: self.state,
            exit: None,
        }
    }
}

/// Whether `cause` lies in the guest, as the `guest` member of `SHUTDOWN` and `RESET` tells.
fn by_guest(cause: ShutdownCause) -> bool {
    matches!(
        cause,
        ShutdownCause::GuestShutdown | ShutdownCause::GuestReset | ShutdownCause::GuestPanic
    )
}

#[cfg(test)]
mod tests;
