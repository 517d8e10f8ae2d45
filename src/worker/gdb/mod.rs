//! A stub for gdb: its remote protocol on a character device, with the vCPUs as threads.
//!
//! It lives on the worker's main thread, beside the run state and the vCPUs' handles; the character device is the monitor's.
//! A vCPU that hits a breakpoint parks itself and tells of it by a notice, as for everything else that stops it. Without a
//! debugger nothing here is on a vCPU's way.

mod registers;
mod target;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;
use rustix::event::PollFlags;

use self::target::{DebugTarget, thread};
use super::core::Core;
use crate::accel::debug::{Access, DebugStop};
use crate::chardev::line::{self, Packet};
use crate::devices::Notice;
use crate::qapi::qmp::RunState;
use crate::report;

/// What QEMU says where there is nothing to debug by.
pub(super) const NO_DEBUGGING: &str = "gdbstub: current accelerator doesn't support guest debugging";
/// The longest packet. One holds the registers of a vCPU many times over.
const PACKET_SIZE: usize = 16 << 10;
/// How much may wait for a gdb that does not read before it is listened to again.
const OUTPUT_LIMIT: usize = 64 << 10;

type Session = GdbStubStateMachine<'static, DebugTarget, Output>;

/// What is to be sent.
#[derive(Default)]
struct Output(Vec<u8>);

impl Connection for Output {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stub on its character device.
pub(super) struct Debugger {
    core: Rc<Core>,
    line: OwnedFd,
    target: DebugTarget,
    /// None while nobody is at the other end.
    session: Option<Session>,
    outgoing: Vec<u8>,
    /// How many clients were told of, and not yet answered for.
    unanswered: usize,
    /// Why the guest stopped, of which gdb is to be told.
    stop: Option<(u32, DebugStop)>,
}

impl Debugger {
    /// A stub that waits for gdb at `line`, one end of a character device.
    pub(super) fn new(core: Rc<Core>, line: OwnedFd) -> Self {
        Self {
            target: DebugTarget::new(Rc::clone(&core)),
            core,
            line,
            session: None,
            outgoing: Vec::new(),
            unanswered: 0,
            stop: None,
        }
    }

    /// Whether gdb is there.
    pub(super) fn has_client(&self) -> bool {
        self.session.is_some()
    }

    /// What to wait for at [`Self::as_fd`].
    pub(super) fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        if self.outgoing.len() < OUTPUT_LIMIT {
            interest |= PollFlags::IN;
        }
        if self.unanswered > 0 || !self.outgoing.is_empty() {
            interest |= PollFlags::OUT;
        }
        interest
    }

    /// Serves what has come, one packet of the line at a time: others are heard in between. Returns whether the character
    /// device is still there.
    pub(super) fn serve(&mut self) -> bool {
        self.send();
        if self.outgoing.len() >= OUTPUT_LIMIT {
            return true;
        }
        match line::receive_packet(&self.line) {
            Ok(Some(Packet::Opened)) => self.open(),
            Ok(Some(Packet::Closed)) => self.close(),
            Ok(Some(Packet::Data(bytes))) => self.feed(&bytes),
            Ok(Some(Packet::Break)) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => {
                self.close();
                return false;
            }
        }
        self.send();
        true
    }

    /// A vCPU has stopped by itself.
    pub(super) fn stopped(&mut self, index: u32, stop: DebugStop) {
        // What a second one found at the same time it finds again, but for a write that it has done already. A write is
        // told instead of what would be found again.
        let is_over = |stop| matches!(stop, DebugStop::Hardware(point) if point.access != Access::Execute);
        match self.stop {
            Some((_, told)) if is_over(told) || !is_over(stop) => {}
            _ => self.stop = Some((index, stop)),
        }
    }

    /// Tells a gdb that waits for it that the guest has stopped, if it has.
    pub(super) fn look(&mut self) {
        if is_live(self.core.state()) {
            return;
        }
        let stop = self.stop.take();
        if let Some((index, _)) = stop {
            self.target.current.set(index);
        }
        let Some(GdbStubStateMachine::Running(running)) = self.session.take_if(|session| is_running(session)) else {
            return;
        };
        if let Err(error) = self.target.forget_plan() {
            tracing::warn!("{error}");
        }
        let reason = reason(self.core.state(), stop, self.target.current.get());
        let session = running.report_stop(&mut self.target, reason);
        self.go_on_with(session.map_err(|error| error.to_string()));
        self.send();
    }

    /// The process ends with this status, which gdb is told.
    pub(super) fn end(mut self, status: u8) {
        if let Some(GdbStubStateMachine::Running(running)) = self.session.take() {
            let exited = MultiThreadStopReason::Exited(status);
            let session = running.report_stop(&mut self.target, exited);
            self.go_on_with(session.map_err(|error| error.to_string()));
            self.send();
        }
    }

    /// Nobody debugs any more: what gdb has set goes.
    pub(super) fn leave(mut self) {
        self.close();
    }

    /// gdb is there: the guest waits for it.
    fn open(&mut self) {
        if let Err(error) = self.core.stop() {
            report::error(format!("gdbstub: {error}"));
        }
        self.stop = None;
        self.outgoing.clear();
        self.unanswered += 1;
        self.begin();
    }

    fn begin(&mut self) {
        let stub = GdbStub::builder(Output::default())
            .packet_buffer_size(PACKET_SIZE)
            .build();
        let session = match stub {
            Ok(stub) => stub
                .run_state_machine(&mut self.target)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.session = session
            .inspect_err(|error| report::error(format!("gdbstub: {error}")))
            .ok();
    }

    /// gdb is gone. The guest stays as it is.
    fn close(&mut self) {
        self.session = None;
        self.outgoing.clear();
        if let Err(error) = self.target.clear() {
            tracing::warn!("{error}");
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(session) = self.session.take() else { return };
            let target = &mut self.target;
            let next = match session {
                GdbStubStateMachine::Idle(idle) => idle.incoming_data(target, *byte),
                GdbStubStateMachine::Running(running) => running.incoming_data(target, *byte),
                other => Ok(other),
            };
            self.go_on_with(next.map_err(|error| error.to_string()));
            // A run may be over at once.
            self.look();
        }
    }

    /// Takes the next state of the session; after an error gdb may begin anew.
    fn go_on_with(&mut self, next: Result<Session, String>) {
        let mut session = match next {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!("gdb cannot be understood: {error}");
                return self.begin();
            }
        };
        self.outgoing.append(&mut output(&mut session).0);
        match session {
            GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                if let Err(error) = self.core.stop() {
                    report::error(format!("gdbstub: {error}"));
                }
                let next = interrupt.interrupt_handled(&mut self.target, None::<MultiThreadStopReason<u64>>);
                self.session = next
                    .inspect_err(|error| tracing::warn!("gdb cannot be understood: {error}"))
                    .ok();
            }
            GdbStubStateMachine::Disconnected(end) => self.disconnected(end.get_reason()),
            session => self.session = Some(session),
        }
    }

    fn disconnected(&mut self, reason: DisconnectReason) {
        if let Err(error) = self.target.clear() {
            tracing::warn!("{error}");
        }
        match reason {
            DisconnectReason::Disconnect => {
                if let Err(error) = self.core.cont() {
                    tracing::info!(%error, "the guest does not go on");
                }
                // The same client may attach again.
                self.begin();
            }
            DisconnectReason::Kill => {
                report::error("QEMU: Terminated via GDBstub");
                self.core.notice(Notice::ShutdownRequest);
            }
            DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {}
        }
    }

    fn send(&mut self) {
        while self.unanswered > 0 {
            if line::send_packet(&self.line, &Packet::Opened).is_err() {
                return;
            }
            self.unanswered -= 1;
        }
        while !self.outgoing.is_empty() {
            match line::send_data(&self.line, &self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                // That the other end is gone shows where it is read from.
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Debugger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

fn is_running(session: &Session) -> bool {
    matches!(session, GdbStubStateMachine::Running(_))
}

fn output(session: &mut Session) -> &mut Output {
    match session {
        GdbStubStateMachine::Idle(inner) => inner.borrow_conn(),
        GdbStubStateMachine::Running(inner) => inner.borrow_conn(),
        GdbStubStateMachine::CtrlCInterrupt(inner) => inner.borrow_conn(),
        GdbStubStateMachine::Disconnected(inner) => inner.borrow_conn(),
    }
}

/// Whether gdb sees a running guest: one that sleeps is not stopped.
fn is_live(state: RunState) -> bool {
    matches!(state, RunState::Running | RunState::Suspended)
}

/// What gdb is told of a guest that stopped: why, or else the signal that QEMU has for the state.
fn reason(state: RunState, stop: Option<(u32, DebugStop)>, current: u32) -> MultiThreadStopReason<u64> {
    let tid = thread(current);
    match (state, stop) {
        (RunState::Debug, Some((_, DebugStop::Software))) => MultiThreadStopReason::SwBreak(tid),
        (RunState::Debug, Some((_, DebugStop::Hardware(point)))) => match point.access {
            Access::Execute => MultiThreadStopReason::HwBreak(tid),
            access => MultiThreadStopReason::Watch {
                tid,
                kind: match access {
                    Access::Write => WatchKind::Write,
                    _ => WatchKind::ReadWrite,
                },
                addr: point.addr,
            },
        },
        _ => MultiThreadStopReason::SignalWithThread {
            tid,
            signal: match state {
                RunState::Debug => Signal::SIGTRAP,
                RunState::Paused => Signal::SIGINT,
                RunState::Shutdown => Signal::SIGQUIT,
                RunState::IoError => Signal::SIGSTOP,
                RunState::Watchdog => Signal::SIGALRM,
                RunState::InternalError => Signal::SIGABRT,
                RunState::FinishMigrate => Signal::SIGXCPU,
                _ => Signal::UNKNOWN,
            },
        },
    }
}
