//! The rules, one by one. The sequences that a client sees are held against QEMU's in the tier `protocol`.

use super::*;

fn machine() -> Machine {
    machine_of(false)
}

fn machine_of(awaited: bool) -> Machine {
    let actions = Actions {
        reboot: RebootAction::Reset,
        shutdown: ShutdownAction::Poweroff,
        panic: PanicAction::Shutdown,
    };
    Machine::new(actions, awaited)
}

fn running() -> Machine {
    let mut machine = machine();
    let change = machine.cont().unwrap();
    machine.commit(&change);
    machine
}

fn with(mut machine: Machine, change: impl FnOnce(&mut Actions)) -> Machine {
    change(&mut machine.actions);
    machine
}

/// Carries a change out: its actions, the names of its events, its exit status, and the state after it.
fn take(machine: &mut Machine, change: &Change) -> (Vec<Action>, Vec<&'static str>, Option<u8>, RunState) {
    use crate::qapi::visit::WireEvent;
    machine.commit(change);
    let names = change.events.iter().map(WireEvent::name).collect();
    (change.actions.clone(), names, change.exit, machine.state())
}

#[test]
fn a_change_that_is_not_committed_leaves_no_trace() {
    let machine = machine();
    let change = machine.cont().unwrap();
    assert_eq!(machine.state(), RunState::Prelaunch);
    drop(change);
    assert!(!machine.is_running());
}

#[test]
fn a_guest_starts_stops_and_goes_on() {
    let mut machine = machine();
    let nothing = (vec![], vec![], None);
    let (actions, events, exit, state) = {
        let change = machine.stop();
        take(&mut machine, &change)
    };
    assert_eq!((actions, events, exit), nothing, "what does not run cannot be stopped");
    assert_eq!(state, RunState::Prelaunch);
    for _ in 0..2 {
        let change = machine.cont().unwrap();
        let wanted = (vec![Action::Run], vec!["RESUME"], None, RunState::Running);
        assert_eq!(take(&mut machine, &change), wanted);
        let change = machine.cont().unwrap();
        assert_eq!((change.actions, change.events, change.exit), (vec![], vec![], None));
        let change = machine.stop();
        let wanted = (vec![Action::Pause], vec!["STOP"], None, RunState::Paused);
        assert_eq!(take(&mut machine, &change), wanted);
    }
}

#[test]
fn a_running_guest_runs_on_after_a_reset_a_stopped_one_waits() {
    let mut machine = running();
    let change = machine.reset(ShutdownCause::GuestReset);
    let actions = vec![Action::Pause, Action::Reset, Action::Run];
    let wanted = (actions, vec!["RESET"], None, RunState::Running);
    assert_eq!(take(&mut machine, &change), wanted);
    let stop = machine.stop();
    machine.commit(&stop);
    let change = machine.reset(ShutdownCause::HostQmpSystemReset);
    let wanted = (
        vec![Action::Pause, Action::Reset],
        vec!["RESET"],
        None,
        RunState::Prelaunch,
    );
    assert_eq!(take(&mut machine, &change), wanted);
}

#[test]
fn no_reboot_makes_a_reset_the_end() {
    let machine = with(running(), |actions| actions.reboot = RebootAction::Shutdown);
    let change = machine.reset(ShutdownCause::GuestReset);
    assert_eq!((change.actions, change.exit), (vec![Action::Pause], Some(0)));
    let told = ShutdownEvent {
        guest: true,
        reason: ShutdownCause::GuestReset,
    };
    assert_eq!(change.events, [Event::Shutdown(told)]);
}

#[test]
fn no_shutdown_keeps_the_process_until_somebody_ends_it() {
    let mut machine = with(running(), |actions| actions.shutdown = ShutdownAction::Pause);
    let change = machine.shutdown(ShutdownCause::GuestShutdown, 0);
    let wanted = (vec![Action::Pause], vec!["SHUTDOWN", "STOP"], None, RunState::Shutdown);
    assert_eq!(take(&mut machine, &change), wanted);
    let refused = machine.cont().unwrap_err().desc;
    assert_eq!(refused, "Resetting the Virtual Machine is required");
    assert_eq!(machine.shutdown(ShutdownCause::HostQmpQuit, 0).exit, Some(0));
    let change = machine.reset(ShutdownCause::HostQmpSystemReset);
    machine.commit(&change);
    assert!(machine.cont().is_ok(), "after a reset it may run again");
}

#[test]
fn a_broken_guest_must_be_reset() {
    let mut machine = running();
    let change = machine.broken();
    let wanted = (vec![Action::Pause], vec!["STOP"], None, RunState::InternalError);
    assert_eq!(take(&mut machine, &change), wanted);
    assert!(machine.cont().is_err());
    let change = machine.reset(ShutdownCause::HostQmpSystemReset);
    machine.commit(&change);
    assert!(machine.cont().is_ok());
    let change = machine.broken();
    let wanted = (vec![], vec![], None, RunState::InternalError);
    assert_eq!(take(&mut machine, &change), wanted, "it was stopped already");
}

#[test]
fn a_panic_that_powers_off_never_says_stop_in_between() {
    for (panic, status) in [(PanicAction::Shutdown, 0), (PanicAction::ExitFailure, 1)] {
        let machine = with(running(), |actions| actions.panic = panic);
        let change = machine.panicked(None);
        assert_eq!(change.exit, Some(status));
        assert!(!change.events.contains(&Event::Stop));
    }
}

#[test]
fn a_panic_that_is_nobodys_business_lets_the_guest_run_on() {
    let mut machine = with(running(), |actions| actions.panic = PanicAction::None);
    let change = machine.panicked(None);
    let wanted = (
        vec![Action::Pause, Action::Run],
        vec!["GUEST_PANICKED"],
        None,
        RunState::Running,
    );
    assert_eq!(take(&mut machine, &change), wanted);
    let change = machine.stop();
    machine.commit(&change);
    let change = machine.panicked(None);
    let wanted = (vec![], vec!["GUEST_PANICKED"], None, RunState::Paused);
    assert_eq!(take(&mut machine, &change), wanted, "it was stopped meanwhile");
}

#[test]
fn a_sleeping_guest_is_woken() {
    let mut machine = running();
    let refused = machine.wakeup().unwrap_err().desc;
    assert_eq!(refused, "Unable to wake up: guest is not in suspended state");
    let change = machine.suspend();
    let wanted = (vec![Action::Pause], vec!["SUSPEND"], None, RunState::Suspended);
    assert_eq!(take(&mut machine, &change), wanted);
    assert!(machine.cont().unwrap().events.is_empty(), "cont does not wake");
    assert!(machine.suspend().events.is_empty());
    let change = machine.wakeup().unwrap();
    let wanted = (vec![Action::Wake, Action::Run], vec!["WAKEUP"], None, RunState::Running);
    assert_eq!(take(&mut machine, &change), wanted);
}

#[test]
fn a_guest_stopped_in_its_sleep_sleeps_again() {
    let mut machine = running();
    let change = machine.suspend();
    machine.commit(&change);
    for _ in 0..2 {
        let change = machine.stop();
        assert_eq!(
            take(&mut machine, &change),
            (vec![], vec!["STOP"], None, RunState::Paused)
        );
        assert!(machine.stop().events.is_empty());
        assert!(machine.wakeup().is_err(), "it is stopped");
        let change = machine.cont().unwrap();
        let wanted = (vec![], vec!["RESUME"], None, RunState::Suspended);
        assert_eq!(take(&mut machine, &change), wanted);
    }
    let change = machine.stop();
    machine.commit(&change);
    let change = machine.reset(ShutdownCause::HostQmpSystemReset);
    machine.commit(&change);
    assert_eq!(machine.cont().unwrap().actions, [Action::Run], "a reset wakes it");
}

#[test]
fn an_expired_watchdog_can_stop_the_guest() {
    let mut machine = running();
    let change = machine.watchdog();
    let wanted = (vec![Action::Pause], vec!["STOP"], None, RunState::Watchdog);
    assert_eq!(take(&mut machine, &change), wanted);
    assert!(machine.cont().is_ok());
}

#[test]
fn a_guest_that_leaves_is_gone_or_does_what_it_did() {
    for (mut machine, actions, told) in [
        (running(), vec![Action::Pause], vec!["STOP"]),
        (machine(), vec![], vec![]),
    ] {
        let before = machine.state();
        let (change, was) = machine.stop_to_leave();
        assert_eq!(was.name(), before.as_str());
        let wanted = (actions, told, None, RunState::FinishMigrate);
        assert_eq!(take(&mut machine, &change), wanted);
        assert!(machine.cont().is_err(), "it is on its way");
        let reset = machine.reset(ShutdownCause::HostQmpSystemReset);
        let wanted = (vec![], vec!["RESET"], None, RunState::FinishMigrate);
        assert_eq!(take(&mut machine, &reset), wanted);
        let back = machine.go_back(was);
        assert_eq!(take(&mut machine, &back).3, before);
        let (change, _) = machine.stop_to_leave();
        machine.commit(&change);
        let gone = machine.has_left();
        assert_eq!(take(&mut machine, &gone).3, RunState::Postmigrate);
        let cont = machine.cont().unwrap();
        assert_eq!(take(&mut machine, &cont).3, RunState::Running);
    }
}

#[test]
fn a_guest_that_arrives_goes_on_or_waits() {
    for (run, runs, wanted) in [
        (
            RunState::Running,
            true,
            (vec![Action::Run], vec!["RESUME"], None, RunState::Running),
        ),
        (RunState::Running, false, (vec![], vec![], None, RunState::Paused)),
        (
            RunState::Suspended,
            true,
            (vec![], vec!["RESUME"], None, RunState::Suspended),
        ),
        (RunState::Shutdown, true, (vec![], vec![], None, RunState::Shutdown)),
    ] {
        let mut machine = machine_of(true);
        assert_eq!(machine.state(), RunState::Inmigrate);
        let change = machine.has_arrived(run, runs);
        assert_eq!(take(&mut machine, &change), wanted);
    }
    let mut machine = machine_of(true);
    let change = machine.has_arrived(RunState::Suspended, false);
    machine.commit(&change);
    let cont = machine.cont().unwrap();
    assert_eq!(take(&mut machine, &cont).3, RunState::Suspended, "it sleeps on");
}
