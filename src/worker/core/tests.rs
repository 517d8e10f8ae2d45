//! What becomes of a change that fails half-way: state, events and reply agree.

use std::cell::Cell;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::accel::StatValue;
use crate::block::OpenMode;
use crate::cmdline::{self, Parsed};
use crate::machine;
use crate::machine::info::{EmptySlotInfo, MemdevInfo, MemoryRegionInfo, VcpuInfo};
use crate::qapi::visit::WireEvent;
use crate::qom::Object;

/// What fails, and whether vCPUs are in the guest.
#[derive(Default)]
struct Fate {
    start: Cell<bool>,
    pause: Cell<bool>,
    reset: Cell<bool>,
    wake: Cell<bool>,
    runs: Cell<bool>,
}

/// A guest without anything in it.
struct Puppet(Rc<Fate>);

fn outcome(fails: &Cell<bool>, what: &str) -> Result<(), Error> {
    match fails.get() {
        true => Err(Error::generic(format!("{what} failed"))),
        false => Ok(()),
    }
}

impl Guest for Puppet {
    fn start(&self) -> Result<(), Error> {
        // The first vCPU runs before the second refuses.
        self.0.runs.set(true);
        outcome(&self.0.start, "start")
    }

    fn pause(&self) -> Result<(), Error> {
        self.0.runs.set(false);
        outcome(&self.0.pause, "pause")
    }

    fn reset(&self) -> Result<(), Error> {
        outcome(&self.0.reset, "reset")
    }

    fn press_power_button(&self) {}

    fn wake(&self) -> Result<(), Error> {
        outcome(&self.0.wake, "wake")
    }

    fn inject_nmi(&self) -> Result<(), Error> {
        Ok(())
    }

    fn vcpus(&self) -> Vec<VcpuInfo> {
        Vec::new()
    }

    fn empty_slots(&self) -> Vec<EmptySlotInfo> {
        Vec::new()
    }

    fn memory_regions(&self) -> Vec<MemoryRegionInfo> {
        Vec::new()
    }

    fn memdevs(&self) -> Vec<MemdevInfo> {
        Vec::new()
    }

    fn read_physical(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn read_virtual(&self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn vm_stats(&self) -> Result<Vec<StatValue>, Error> {
        Ok(Vec::new())
    }

    fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        Ok(Vec::new())
    }

    fn dump_registers(&self, _: u32) -> Result<String, Error> {
        Ok(String::new())
    }

    fn cpu_type(&self) -> String {
        "qemu64-x86_64-cpu".to_owned()
    }

    fn cpu_object(&self, _: u32) -> Arc<dyn Object> {
        unreachable!("there are no vCPUs")
    }

    fn register_values(&self, _: u32) -> Result<Vec<(&'static str, u64)>, Error> {
        unreachable!("nobody looks")
    }

    fn translate(&self, _: u32, _: u64) -> Result<Option<u64>, Error> {
        unreachable!("nobody looks")
    }

    fn is_backed(&self, _: u64, _: u64) -> bool {
        unreachable!("nobody looks")
    }

    fn host_address(&self, _: u64) -> Option<(String, u64)> {
        unreachable!("nobody looks")
    }

    fn describe_host(&self) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }
}

struct Bench {
    core: Core,
    fate: Rc<Fate>,
    told: Rc<RefCell<Vec<FromWorker>>>,
}

/// Opens nothing.
struct Closed;

impl Opener for Closed {
    fn open(
        &self,
        _: &str,
        _: OpenMode,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<std::os::fd::OwnedFd, Error>> + '_>> {
        Box::pin(async { Err(Error::generic("there are no files")) })
    }
}

impl Bench {
    fn new() -> Self {
        let target = Target::X86_64;
        let parsed = cmdline::parse(target, ["-S"].map(OsString::from), &|_| Ok(String::new()));
        let Ok(Parsed::Run(config)) = parsed else {
            panic!("that is a command line");
        };
        let (fate, told) = (Rc::new(Fate::default()), Rc::new(RefCell::new(Vec::new())));
        let registry = machine::registry(target, true);
        let machine = machine::types::of(target, Some("q35")).unwrap();
        let sink = Rc::clone(&told);
        let outbox = Box::new(move |message| sink.borrow_mut().push(message));
        let guest = Box::new(Puppet(Rc::clone(&fate)));
        let core = Core::new(
            *config,
            Some(guest),
            registry,
            machine,
            Outside {
                entropy: EntropySources::default(),
                graph: Graph::default(),
                opener: Box::new(Closed),
                outbox,
            },
        )
        .unwrap();
        Self { core, fate, told }
    }

    /// The events since the last look, the state that was told, and the state that is.
    fn seen(&self) -> (Vec<&'static str>, Option<RunState>, RunState) {
        let (mut events, mut state) = (Vec::new(), None);
        for message in self.told.take() {
            match message {
                FromWorker::Event(event) => events.push(event.name()),
                FromWorker::RunState(told) => state = Some(told),
                other => panic!("said {other:?}"),
            }
        }
        (events, state, self.core.state())
    }

    fn running() -> Self {
        let bench = Self::new();
        bench.core.cont().unwrap();
        let running = RunState::Running;
        assert_eq!(bench.seen(), (vec!["RESUME"], Some(running), running));
        bench
    }
}

#[test]
fn a_failed_start_leaves_the_guest_stopped_and_says_nothing() {
    let bench = Bench::new();
    bench.fate.start.set(true);
    assert_eq!(bench.core.cont().unwrap_err().desc, "start failed");
    assert_eq!(bench.seen(), (vec![], None, RunState::Prelaunch));
    assert!(!bench.fate.runs.get(), "what did start is stopped again");
    bench.fate.start.set(false);
    bench.core.cont().unwrap();
    assert_eq!(bench.core.state(), RunState::Running);
}

#[test]
fn a_failed_stop_leaves_the_guest_running_and_says_nothing() {
    let bench = Bench::running();
    bench.fate.pause.set(true);
    assert_eq!(bench.core.stop().unwrap_err().desc, "pause failed");
    assert_eq!(bench.seen(), (vec![], None, RunState::Running));
    assert!(bench.fate.runs.get());
}

#[test]
fn a_guest_that_can_neither_stop_nor_go_on_is_broken() {
    let bench = Bench::running();
    bench.fate.pause.set(true);
    bench.fate.start.set(true);
    assert!(bench.core.stop().is_err());
    let broken = RunState::InternalError;
    assert_eq!(bench.seen(), (vec!["STOP"], Some(broken), broken));
    assert!(!bench.fate.runs.get());
    assert!(bench.core.cont().is_err(), "it must be reset");
}

#[test]
fn a_failed_reset_leaves_a_guest_that_must_be_reset() {
    let bench = Bench::running();
    bench.fate.reset.set(true);
    let broken = RunState::InternalError;
    for events in [vec!["STOP"], vec![]] {
        assert!(bench.core.reset(ShutdownCause::HostQmpSystemReset).is_err());
        assert_eq!(bench.seen(), (events, Some(broken), broken));
        assert!(!bench.fate.runs.get());
    }
    bench.fate.reset.set(false);
    bench.core.reset(ShutdownCause::HostQmpSystemReset).unwrap();
    assert_eq!(
        bench.seen(),
        (vec!["RESET"], Some(RunState::Prelaunch), RunState::Prelaunch)
    );
}

#[test]
fn a_failed_wake_up_leaves_a_guest_that_must_be_reset() {
    let bench = Bench::running();
    bench.core.notice(Notice::SuspendRequest);
    assert_eq!(bench.seen().0, ["SUSPEND"]);
    bench.fate.wake.set(true);
    assert_eq!(bench.core.wakeup().unwrap_err().desc, "wake failed");
    let broken = RunState::InternalError;
    assert_eq!(bench.seen(), (vec!["STOP"], Some(broken), broken));
}

#[test]
fn what_the_guest_asks_for_and_fails_breaks_it() {
    let broken = RunState::InternalError;
    for (what, notice) in [
        ("reset", Notice::ResetRequest),
        ("pause", Notice::ResetRequest),
        ("start", Notice::ResetRequest),
        ("pause", Notice::SuspendRequest),
    ] {
        let bench = Bench::running();
        bench.fate.start.set(what == "start");
        bench.fate.pause.set(what == "pause");
        bench.fate.reset.set(what == "reset");
        bench.core.notice(notice.clone());
        assert_eq!(bench.seen(), (vec!["STOP"], Some(broken), broken), "{notice:?}");
        assert!(!bench.fate.runs.get());
    }
}

#[test]
fn the_process_ends_even_if_the_guest_cannot_be_stopped() {
    let bench = Bench::running();
    bench.fate.pause.set(true);
    bench.core.terminate(ShutdownCause::HostQmpQuit);
    assert_eq!(bench.seen().0, ["SHUTDOWN"]);
    assert_eq!(bench.core.exit_status(), Some(0));
    bench.core.notice(Notice::GuestPanicked);
    assert!(bench.seen().0.is_empty(), "nothing follows the end");
}

#[test]
fn a_crash_told_to_hyper_v_is_told_with_its_parameters() {
    let bench = Bench::running();
    bench.core.notice(Notice::HyperVCrash([1, 2, 3, 4, u64::MAX]));
    let event = bench.told.take().into_iter().find_map(|message| match message {
        FromWorker::Event(event @ Event::GuestPanicked(_)) => Some(event),
        _ => None,
    });
    let mut data = Vec::new();
    event.unwrap().encode_data(&mut data);
    assert_eq!(
        String::from_utf8(data).unwrap(),
        r#"{"action": "poweroff", "info": {"type": "hyper-v", "arg1": 1, "arg2": 2, "arg3": 3, "arg4": 4, "arg5": 18446744073709551615}}"#
    );
}
