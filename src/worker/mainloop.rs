//! The worker's main thread: waits for the monitor, for notices of devices and vCPUs, for tasks and for signals.

use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::devices::Notice;
use crate::qapi::qmp::ShutdownCause;
use crate::report;

use super::channel::{Channel, ChannelError, Received};
use super::executor::Executor;

/// What the main loop hands to the guest.
pub trait Handler {
    /// A message of the monitor came.
    ///
    /// # Errors
    /// The message means nothing; the worker ends.
    fn message(&mut self, received: Received) -> Result<(), String>;
    /// A device or vCPU has something to say.
    fn notice(&mut self, notice: Notice);
    /// The worker was told to end the guest.
    fn terminate(&mut self, cause: ShutdownCause);
    /// The exit status, once the guest is to end.
    fn exit_status(&self) -> Option<u8>;
}

/// The signals that ask for an end of the guest, and the one that tells of the monitor's death. Blocked in every
/// thread, so that only the main loop sees them.
///
/// # Errors
/// What the system said.
pub fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The sources the main loop waits for.
pub struct Sources {
    /// The socket pair to the monitor.
    pub channel: Channel,
    /// The tasks of commands that wait; its alarm rings for notices too.
    pub executor: std::rc::Rc<Executor>,
    /// Notices, in the order they were given.
    pub notices: Receiver<Notice>,
    /// Made by [`block_signals`].
    pub signals: SignalFd,
    /// The monitor, if it is a child of this process.
    pub monitor: Option<Pid>,
}

impl Sources {
    /// Runs until the handler has an exit status or the monitor is gone. Returns the exit status.
    pub fn run(mut self, handler: &mut impl Handler) -> u8 {
        loop {
            if let Some(status) = handler.exit_status() {
                return status;
            }
            match self.step(handler) {
                Ok(()) => {}
                Err(ChannelError::Closed) => {
                    report::error(format!("the monitor process is gone{}", self.monitor_fate()));
                    return 1;
                }
                Err(error) => {
                    report::error(format!("the monitor process cannot be understood: {error}"));
                    return 1;
                }
            }
        }
    }

    fn step(&mut self, handler: &mut impl Handler) -> Result<(), ChannelError> {
        let (monitor, signal) = self.wait()?;
        self.executor.alarm().silence();
        self.executor.run_woken();
        while let Ok(notice) = self.notices.try_recv() {
            handler.notice(notice);
        }
        if signal {
            self.take_signals(handler);
        }
        if monitor {
            self.channel.fill()?;
            while let Some(received) = self.channel.buffered()? {
                if let Err(reason) = handler.message(received) {
                    report::error(format!("the monitor process sent what is no message: {reason}"));
                    return Err(ChannelError::Closed);
                }
            }
        }
        Ok(())
    }

    /// Waits for any source; tells whether the monitor and whether a signal can be read.
    fn wait(&self) -> Result<(bool, bool), ChannelError> {
        let mut fds = [
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.executor.alarm().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |at: usize| fds[at].any().unwrap_or(false);
        Ok((ready(0), ready(2)))
    }

    fn take_signals(&mut self, handler: &mut impl Handler) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            // The death of the monitor shows as the end of its socket, with everything it still said before that.
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            report::error(format!(
                "terminating on signal {}{}",
                info.ssi_signo,
                sender(info.ssi_pid)
            ));
            handler.terminate(ShutdownCause::HostSignal);
            // One is enough; more come where a service manager ends all processes at once.
            return;
        }
    }

    /// How the monitor ended, if it was a child of this process.
    fn monitor_fate(&self) -> String {
        let Some(pid) = self.monitor else {
            return String::new();
        };
        // A process that closed its socket is ending; this bounds the wait and does not change how it ended.
        let _ = kill(pid, Signal::SIGKILL);
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, status)) => format!(": it ended with status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!(": it was ended by {signal}"),
            _ => String::new(),
        }
    }
}

/// Who sent a signal; nothing of one that a terminal sent.
fn sender(pid: u32) -> String {
    if pid == 0 {
        return String::new();
    }
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = words.split(|byte| *byte == 0).next().filter(|name| !name.is_empty());
    let name = name.map_or("<unknown process>".into(), String::from_utf8_lossy);
    format!(" from pid {pid} ({name})")
}
