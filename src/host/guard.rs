//! A thread that sees to a process's end: whatever its other threads are stuck in, it is over within a limit.
//!
//! A read from a network file system, a pipe that nobody opens or a memory backend that takes minutes can hold a thread
//! for as long as they like. This thread waits for signals and for the end of the other process only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::report;

use super::process::end_now;

/// How long a process may take to end in good order.
pub const END_LIMIT: Duration = Duration::from_secs(3);

/// A signal that asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number.
    pub signal: u32,
    /// Who sent it; zero for a terminal.
    pub pid: u32,
}

/// What follows from a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    GoOn,
    /// This process is ending.
    End,
    /// Look again after this time, if nothing happens before.
    Look(Duration),
}

/// What the thread sees to.
pub trait Watch: Send + 'static {
    /// Somebody asked for the end.
    fn asked(&mut self, asked: Asked) -> Then;
    /// The time of [`Then::Look`] is over.
    fn look(&mut self) -> Then {
        Then::GoOn
    }
    /// The process did not end in time and will be ended: the last thing that is done in it.
    fn give_up(&mut self) {}
}

/// Starts the thread. `SIGTERM`, `SIGINT` and `SIGHUP` come to it alone; `other` is a socket whose other end belongs to
/// the process without which this one has nothing to do. To be called while the process has a single thread, since
/// later ones inherit which signals they leave alone.
///
/// # Errors
/// There can be no further thread or descriptor.
pub fn start(other: Option<OwnedFd>, watch: impl Watch) -> io::Result<()> {
    let signals = hold_signals()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let guard = Guard {
        signals,
        other,
        watch,
        ends_at: None,
        look_at: None,
    };
    // It needs little: the frames of a few calls, and what formats a message.
    let thread = std::thread::Builder::new().name("guard".into()).stack_size(128 << 10);
    thread.spawn(move || guard.run()).map(drop)
}

/// Lets the signals that the thread is for wait until there is one. A process that forks calls this before: the end of
/// one that has no guard yet would leave a child behind that has not said yet that it goes with its parent.
///
/// # Errors
/// What the system said.
pub fn hold_signals() -> io::Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    Ok(signals)
}

struct Guard<W> {
    signals: SignalFd,
    other: Option<OwnedFd>,
    watch: W,
    ends_at: Option<Instant>,
    look_at: Option<Instant>,
}

impl<W: Watch> Guard<W> {
    fn run(mut self) {
        loop {
            let gone = self.wait();
            if gone {
                self.other = None;
                self.end();
            }
            while let Ok(Some(info)) = self.signals.read_signal() {
                let then = self.watch.asked(Asked {
                    signal: info.ssi_signo,
                    pid: info.ssi_pid,
                });
                self.then(then);
            }
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                self.look_at = None;
                let then = self.watch.look();
                self.then(then);
            }
            if self.ends_at.is_some_and(|at| at <= Instant::now()) {
                report::error(format!(
                    "something keeps this process from ending; it is ended after {} s",
                    END_LIMIT.as_secs()
                ));
                self.watch.give_up();
                end_now(1);
            }
        }
    }

    fn then(&mut self, then: Then) {
        match then {
            Then::GoOn => {}
            Then::End => self.end(),
            Then::Look(after) => self.look_at = Some(Instant::now() + after),
        }
    }

    fn end(&mut self) {
        self.ends_at.get_or_insert_with(|| Instant::now() + END_LIMIT);
    }

    /// Waits for anything; tells whether the other process is gone.
    fn wait(&self) -> bool {
        let deadline = [self.ends_at, self.look_at].into_iter().flatten().min();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let signals = PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN);
        let result = match &self.other {
            Some(other) => {
                let mut fds = [signals, PollFd::new(other, PollFlags::RDHUP)];
                let waited = poll(&mut fds, timeout.as_ref());
                waited.map(|_| fds[1].revents().intersects(PollFlags::HUP | PollFlags::RDHUP))
            }
            None => poll(&mut [signals], timeout.as_ref()).map(|_| false),
        };
        // An interrupted wait is taken up again.
        result.unwrap_or(false)
    }
}

/// Who sent a signal, for a message; nothing of one that a terminal sent.
#[must_use]
pub fn sender(pid: u32) -> String {
    if pid == 0 {
        return String::new();
    }
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = words.split(|byte| *byte == 0).next().filter(|name| !name.is_empty());
    let name = name.map_or("<unknown process>".into(), String::from_utf8_lossy);
    format!(" from pid {pid} ({name})")
}
