//! The run state of a guest: a plain value that decides, and leaves the doing to the worker.
//!
//! ```text
//!                 start                     stop / cont
//!   prelaunch ------------> running <-----------------------> paused
//!       ^                   |  |  ^
//!       | system_reset      |  |  | wakeup          guest panic
//!       | while stopped     |  |  +------- suspended <--+   +--> guest-panicked
//!       |                   |  |              S3        |   |
//!   (any stopped state)     |  +------------------------+---+--> internal-error   (KVM gave up)
//!                           +--> shutdown   (-no-shutdown)  or the end of the process
//! ```
//!
//! `shutdown` and `internal-error` can only be left by a reset. Every input returns the effects to carry out, in
//! order; the caller performs all of them before it hands in the next input.

use crate::qapi::Error;
use crate::qapi::qmp::{
    Event, GuestCrashloadedEvent, GuestPanicAction, GuestPanickedEvent, PanicAction, RebootAction, ResetEvent,
    RunState, ShutdownAction, ShutdownCause, ShutdownEvent,
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

/// Something the worker has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
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
    /// Tell the clients.
    Emit(Event),
    /// End the process with this status.
    Exit(u8),
}

/// The run state and the rules that change it.
#[derive(Debug)]
pub struct Machine {
    state: RunState,
    actions: Actions,
}

impl Machine {
    /// A guest that was just created and has not run.
    #[must_use]
    pub fn new(actions: Actions) -> Self {
        Self {
            state: RunState::Prelaunch,
            actions,
        }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Whether vCPUs may be in the guest.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == RunState::Running
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

    /// `cont`, or the start without `-S`.
    ///
    /// # Errors
    /// The guest has ended or broken and must be reset first.
    pub fn cont(&mut self) -> Result<Vec<Effect>, Error> {
        match self.state {
            RunState::Shutdown | RunState::InternalError => {
                Err(Error::generic("Resetting the Virtual Machine is required"))
            }
            RunState::Running | RunState::Suspended => Ok(Vec::new()),
            _ => {
                self.state = RunState::Running;
                Ok(vec![Effect::Emit(Event::Resume), Effect::Run])
            }
        }
    }

    /// `stop`.
    pub fn stop(&mut self) -> Vec<Effect> {
        self.halt(RunState::Paused)
    }

    /// KVM cannot go on with a vCPU.
    pub fn internal_error(&mut self) -> Vec<Effect> {
        self.halt(RunState::InternalError)
    }

    /// A reset, asked for by the guest or by a client.
    pub fn reset(&mut self, cause: ShutdownCause) -> Vec<Effect> {
        if self.actions.reboot == RebootAction::Shutdown {
            return self.shutdown(cause, 0);
        }
        let mut effects = vec![Effect::Pause, Effect::Reset];
        effects.push(Effect::Emit(Event::Reset(ResetEvent {
            guest: by_guest(cause),
            reason: cause,
        })));
        if self.is_running() {
            effects.push(Effect::Run);
        } else {
            self.state = RunState::Prelaunch;
        }
        effects
    }

    /// A power-off: by the guest, or by whoever runs the emulator. `status` is the exit status if the process ends.
    pub fn shutdown(&mut self, cause: ShutdownCause, status: u8) -> Vec<Effect> {
        let mut effects = vec![Effect::Emit(Event::Shutdown(ShutdownEvent {
            guest: by_guest(cause),
            reason: cause,
        }))];
        let forced = matches!(
            cause,
            ShutdownCause::HostQmpQuit | ShutdownCause::HostSignal | ShutdownCause::HostError
        );
        if self.actions.shutdown == ShutdownAction::Pause && !forced {
            effects.extend(self.halt(RunState::Shutdown));
        } else {
            effects.extend([Effect::Pause, Effect::Exit(status)]);
        }
        effects
    }

    /// `system_powerdown`: a wish that the guest may or may not follow.
    pub fn powerdown(&self) -> Vec<Effect> {
        vec![Effect::Emit(Event::Powerdown), Effect::PressPowerButton]
    }

    /// The guest said that it panicked.
    pub fn panicked(&mut self) -> Vec<Effect> {
        let pause = self.actions.panic == PanicAction::Pause
            || (self.actions.panic == PanicAction::Shutdown && self.actions.shutdown == ShutdownAction::Pause);
        let panicked = |action| Effect::Emit(Event::GuestPanicked(GuestPanickedEvent { action, info: None }));
        if pause {
            let mut effects = vec![panicked(GuestPanicAction::Pause)];
            effects.extend(self.halt(RunState::GuestPanicked));
            return effects;
        }
        match self.actions.panic {
            PanicAction::None => vec![panicked(GuestPanicAction::Run)],
            action => {
                let mut effects = vec![panicked(GuestPanicAction::Poweroff)];
                effects.extend(self.halt(RunState::GuestPanicked));
                let status = u8::from(action == PanicAction::ExitFailure);
                effects.extend(self.shutdown(ShutdownCause::GuestPanic, status));
                effects
            }
        }
    }

    /// The guest loads its crash kernel after a panic.
    pub fn crash_loaded(&self) -> Vec<Effect> {
        vec![Effect::Emit(Event::GuestCrashloaded(GuestCrashloadedEvent {
            action: GuestPanicAction::Run,
            info: None,
        }))]
    }

    /// A watchdog expired and is to stop the guest.
    pub fn watchdog(&mut self) -> Vec<Effect> {
        self.halt(RunState::Watchdog)
    }

    /// The guest went to ACPI S3.
    pub fn suspend(&mut self) -> Vec<Effect> {
        if !self.is_running() {
            return Vec::new();
        }
        self.state = RunState::Suspended;
        vec![Effect::Pause, Effect::Emit(Event::Suspend)]
    }

    /// The guest went to ACPI S4 and is off.
    pub fn hibernate(&mut self) -> Vec<Effect> {
        let mut effects = vec![Effect::Emit(Event::SuspendDisk)];
        effects.extend(self.shutdown(ShutdownCause::GuestShutdown, 0));
        effects
    }

    /// `system_wakeup`, or a wake event of a device.
    ///
    /// # Errors
    /// The guest does not sleep.
    pub fn wakeup(&mut self) -> Result<Vec<Effect>, Error> {
        if self.state != RunState::Suspended {
            return Err(Error::generic("Unable to wake up: guest is not in suspended state"));
        }
        self.state = RunState::Running;
        Ok(vec![Effect::Wake, Effect::Emit(Event::Wakeup), Effect::Run])
    }

    /// Leaves `running` for `state`; nothing happens to a guest that does not run.
    fn halt(&mut self, state: RunState) -> Vec<Effect> {
        if !self.is_running() {
            return Vec::new();
        }
        self.state = state;
        vec![Effect::Pause, Effect::Emit(Event::Stop)]
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
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new(Actions {
            reboot: RebootAction::Reset,
            shutdown: ShutdownAction::Poweroff,
            panic: PanicAction::Shutdown,
        })
    }

    fn running() -> Machine {
        let mut machine = machine();
        machine.cont().unwrap();
        machine
    }

    fn reset_event(guest: bool, reason: ShutdownCause) -> Effect {
        Effect::Emit(Event::Reset(ResetEvent { guest, reason }))
    }

    fn shutdown_event(guest: bool, reason: ShutdownCause) -> Effect {
        Effect::Emit(Event::Shutdown(ShutdownEvent { guest, reason }))
    }

    #[test]
    fn a_guest_starts_stops_and_goes_on() {
        let mut machine = machine();
        assert_eq!(machine.state(), RunState::Prelaunch);
        assert_eq!(machine.stop(), [], "what does not run cannot be stopped");
        assert_eq!(machine.state(), RunState::Prelaunch);
        assert_eq!(machine.cont().unwrap(), [Effect::Emit(Event::Resume), Effect::Run]);
        assert_eq!(machine.cont().unwrap(), []);
        assert_eq!(machine.stop(), [Effect::Pause, Effect::Emit(Event::Stop)]);
        assert_eq!(machine.state(), RunState::Paused);
        assert_eq!(machine.stop(), []);
        assert_eq!(machine.cont().unwrap(), [Effect::Emit(Event::Resume), Effect::Run]);
        assert!(machine.is_running());
    }

    #[test]
    fn a_running_guest_runs_on_after_a_reset_a_stopped_one_waits() {
        let mut machine = running();
        let reset = [
            Effect::Pause,
            Effect::Reset,
            reset_event(true, ShutdownCause::GuestReset),
        ];
        assert_eq!(
            machine.reset(ShutdownCause::GuestReset),
            [&reset[..], &[Effect::Run]].concat()
        );
        assert!(machine.is_running());
        machine.stop();
        let by_client = ShutdownCause::HostQmpSystemReset;
        let reset = [Effect::Pause, Effect::Reset, reset_event(false, by_client)];
        assert_eq!(machine.reset(by_client), reset);
        assert_eq!(machine.state(), RunState::Prelaunch);
    }

    #[test]
    fn no_reboot_makes_a_reset_the_end() {
        let mut machine = running();
        machine.set_actions(Actions {
            reboot: RebootAction::Shutdown,
            ..machine.actions()
        });
        let effects = machine.reset(ShutdownCause::GuestReset);
        let event = shutdown_event(true, ShutdownCause::GuestReset);
        assert_eq!(effects, [event, Effect::Pause, Effect::Exit(0)]);
    }

    #[test]
    fn no_shutdown_keeps_the_process_until_somebody_ends_it() {
        let mut machine = running();
        machine.set_actions(Actions {
            shutdown: ShutdownAction::Pause,
            ..machine.actions()
        });
        let effects = machine.shutdown(ShutdownCause::GuestShutdown, 0);
        let event = shutdown_event(true, ShutdownCause::GuestShutdown);
        assert_eq!(effects, [event, Effect::Pause, Effect::Emit(Event::Stop)]);
        assert_eq!(machine.state(), RunState::Shutdown);
        assert_eq!(
            machine.cont().unwrap_err().desc,
            "Resetting the Virtual Machine is required"
        );
        let quit = ShutdownCause::HostQmpQuit;
        assert_eq!(
            machine.shutdown(quit, 0),
            [shutdown_event(false, quit), Effect::Pause, Effect::Exit(0)]
        );
        machine.reset(ShutdownCause::HostQmpSystemReset);
        assert!(machine.cont().is_ok(), "after a reset it may run again");
    }

    #[test]
    fn a_broken_guest_must_be_reset() {
        let mut machine = running();
        assert_eq!(machine.internal_error(), [Effect::Pause, Effect::Emit(Event::Stop)]);
        assert_eq!(machine.state(), RunState::InternalError);
        assert!(machine.cont().is_err());
        machine.reset(ShutdownCause::HostQmpSystemReset);
        assert!(machine.cont().is_ok());
    }

    #[test]
    fn a_panic_leads_where_the_action_says() {
        let event = |action| Effect::Emit(Event::GuestPanicked(GuestPanickedEvent { action, info: None }));
        let stopped = [Effect::Pause, Effect::Emit(Event::Stop)];
        let ended = |status| {
            let told = [
                shutdown_event(true, ShutdownCause::GuestPanic),
                Effect::Pause,
                Effect::Exit(status),
            ];
            [&[event(GuestPanicAction::Poweroff)], &stopped[..], &told[..]].concat()
        };
        let paused = [&[event(GuestPanicAction::Pause)], &stopped[..]].concat();
        for (panic, shutdown, effects, state) in [
            (
                PanicAction::None,
                ShutdownAction::Poweroff,
                vec![event(GuestPanicAction::Run)],
                RunState::Running,
            ),
            (
                PanicAction::Pause,
                ShutdownAction::Poweroff,
                paused.clone(),
                RunState::GuestPanicked,
            ),
            (
                PanicAction::Shutdown,
                ShutdownAction::Pause,
                paused,
                RunState::GuestPanicked,
            ),
            (
                PanicAction::Shutdown,
                ShutdownAction::Poweroff,
                ended(0),
                RunState::GuestPanicked,
            ),
            (
                PanicAction::ExitFailure,
                ShutdownAction::Poweroff,
                ended(1),
                RunState::GuestPanicked,
            ),
        ] {
            let mut machine = running();
            machine.set_actions(Actions {
                panic,
                shutdown,
                ..machine.actions()
            });
            assert_eq!(machine.panicked(), effects, "{panic:?} {shutdown:?}");
            assert_eq!(machine.state(), state, "{panic:?} {shutdown:?}");
        }
    }

    #[test]
    fn a_sleeping_guest_is_woken() {
        let mut machine = running();
        assert_eq!(
            machine.wakeup().unwrap_err().desc,
            "Unable to wake up: guest is not in suspended state"
        );
        assert_eq!(machine.suspend(), [Effect::Pause, Effect::Emit(Event::Suspend)]);
        assert_eq!(machine.state(), RunState::Suspended);
        assert_eq!(machine.cont().unwrap(), [], "cont does not wake");
        assert_eq!(machine.suspend(), []);
        let woken = [Effect::Wake, Effect::Emit(Event::Wakeup), Effect::Run];
        assert_eq!(machine.wakeup().unwrap(), woken);
        assert!(machine.is_running());
    }

    #[test]
    fn an_expired_watchdog_can_stop_the_guest() {
        let mut machine = running();
        assert_eq!(machine.watchdog(), [Effect::Pause, Effect::Emit(Event::Stop)]);
        assert_eq!(machine.state(), RunState::Watchdog);
        assert!(machine.cont().is_ok());
    }
}
