//! The zygote: a process with one thread that forks workers for the pool server.
//!
//! It is forked before the server starts its async runtime, since only a process without threads can fork safely. It
//! speaks over a socket pair (`ipc::nursery`): the server asks for workers, the zygote answers and tells how each ended. A
//! new worker comes with its pidfd, by which the server can signal it and nobody else; the zygote itself, which alone
//! waits for workers, needs their numbers only.
//!
//! It belongs to a session of its own without a terminal, and reads nothing: what is typed at the server is not for
//! guests. It ends with the server, after the last worker; workers that do not end by themselves are killed.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::host::process::{Fate, spawn};
use crate::ipc::channel::{Channel, ChannelError};
use crate::ipc::nursery::{FromZygote, ToZygote};
use crate::report;
use crate::server::title;
use crate::target::Target;

/// How long workers may take to end once the server is gone.
const LAST_CALL: Duration = Duration::from_secs(3);

/// What a new worker does with its socket. The result is its exit status.
pub(super) type Work = fn(UnixStream, Target) -> u8;

/// Serves requests for workers of `target` until the server closes its end.
pub(super) fn serve(socket: UnixStream, target: Target, work: Work) -> u8 {
    let signals = match stand_apart() {
        Ok(signals) => signals,
        Err(error) => {
            report::error(format!(
                "the zygote cannot watch its workers: {}",
                report::reason(&error)
            ));
            return 1;
        }
    };
    let mut zygote = Zygote {
        channel: Channel::new(socket),
        signals,
        target,
        work,
        workers: HashMap::new(),
    };
    let status = loop {
        match zygote.step() {
            Ok(()) => {}
            Err(ChannelError::Closed) => break 0,
            Err(error) => {
                report::error(format!("the zygote cannot understand the server: {error}"));
                break 1;
            }
        }
    };
    zygote.see_workers_off();
    status
}

/// Signals that are not for the zygote: it ends with the server. A new worker hears them again.
fn not_for_us() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Leaves the server's terminal and its standard input and output, and returns what tells of workers that end.
fn stand_apart() -> std::io::Result<SignalFd> {
    not_for_us().thread_block()?;
    nix::unistd::setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(
        &children,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

struct Zygote {
    channel: Channel<ToZygote, FromZygote>,
    signals: SignalFd,
    target: Target,
    work: Work,
    /// Those that were not waited for yet, by process id, and what the server calls them.
    workers: HashMap<Pid, u64>,
}

impl Zygote {
    fn step(&mut self) -> Result<(), ChannelError> {
        let mut fds = [
            PollFd::new(&self.channel, self.channel.interest()),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        match poll(&mut fds, self.channel.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ChannelError::Io(errno.into())),
        }
        let child = !fds[1].revents().is_empty();
        if child {
            while let Ok(Some(_)) = self.signals.read_signal() {}
            for (id, fate) in self.reap() {
                self.channel.send(FromZygote::Ended { id, fate })?;
            }
        }
        self.channel.flush()?;
        self.channel.fill()?;
        while let Some(ToZygote::Spawn {
            id,
            name,
            socket,
            messages,
        }) = self.channel.buffered()?
        {
            let answer = self.spawn(id, name, vec![socket, messages]);
            self.channel.send(answer)?;
        }
        Ok(())
    }

    /// Forks a worker, which keeps `fds`: its socket and the file for its messages.
    fn spawn(&mut self, id: u64, name: String, fds: Vec<OwnedFd>) -> FromZygote {
        match spawn(fds, (name, (self.target, self.work)), begin) {
            Ok(process) => {
                self.workers.insert(Pid::from_raw(process.number()), id);
                FromZygote::Spawned { id, process }
            }
            Err(error) => FromZygote::NotSpawned {
                id,
                reason: format!("cannot fork a worker: {}", report::reason(&error)),
            },
        }
    }

    /// The workers that have ended since the last time.
    fn reap(&mut self) -> Vec<(u64, Fate)> {
        let mut ended = Vec::new();
        loop {
            let (pid, fate) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, Fate::Exited(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Fate::Signaled(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return ended,
                Ok(_) => continue,
            };
            ended.extend(self.workers.remove(&pid).map(|id| (id, fate)));
        }
    }

    /// The server is gone: its workers see that and end, or are killed.
    fn see_workers_off(mut self) {
        let deadline = Instant::now() + LAST_CALL;
        loop {
            self.reap();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.workers.is_empty() || left.is_zero() {
                break;
            }
            let timeout = Timespec::try_from(left).ok();
            // An interruption only makes the loop go round once more.
            let _ = poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], timeout.as_ref());
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        for worker in self.workers.into_keys() {
            // It was not waited for: the number is still its. Nobody waits for a process that even this does not end.
            let _ = kill(worker, Signal::SIGKILL);
        }
    }
}

/// A new worker.
fn begin(fds: Vec<OwnedFd>, (name, (target, work)): (String, (Target, Work))) -> u8 {
    let Ok([socket, messages]) = <[OwnedFd; 2]>::try_from(fds) else {
        return 1;
    };
    if start_over(messages.as_fd(), &name).is_err() {
        return 1;
    }
    drop(messages);
    work(UnixStream::from(socket), target)
}

/// In a new worker: it gets its name, its messages go where the server wants them, and it hears signals.
fn start_over(messages: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    nix::unistd::dup2_stdout(messages)?;
    nix::unistd::dup2_stderr(messages)?;
    if let Err(error) = title::set(name) {
        report::warning(format!("cannot name this process: {}", report::reason(&error)));
    }
    not_for_us().thread_unblock()
}
