//! The zygote: a process with one thread that forks workers for the pool server.
//!
//! It is forked before the server starts its async runtime, since only a process without threads can fork safely. It
//! speaks frames over a socket pair: the server sends [`Request`]s, each with the worker's end of a socket pair and the
//! file for the worker's messages; the zygote answers with [`Report`]s and tells how each worker ended. A report of a new
//! worker carries its pidfd, by which the server can signal it and nobody else.
//!
//! It belongs to a session of its own without a terminal, and reads nothing: what is typed at the server is not for
//! guests. It ends with the server, after the last worker; workers that do not end by themselves are killed.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::report;
use crate::server::title;
use crate::worker::channel::{Channel, ChannelError, Received};
use crate::worker::frame::Frame;
use crate::worker::process::{Fork, fork};

const SPAWN: u16 = 1;
const SPAWNED: u16 = 2;
const NOT_SPAWNED: u16 = 3;
const ENDED: u16 = 4;

/// How long workers may take to end once the server is gone.
const LAST_CALL: Duration = Duration::from_secs(3);

/// What the server asks: a worker that serves the socket coming along, and writes its messages to the file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Pairs the answer with the request.
    pub id: u64,
    /// What the worker is called by those who list processes.
    pub name: String,
}

/// What the zygote tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The worker of this request runs. Its pidfd comes along.
    Spawned {
        /// The request.
        id: u64,
        /// The worker.
        pid: i32,
    },
    /// There is no worker for this request.
    NotSpawned {
        /// The request.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A worker ended.
    Ended {
        /// The worker.
        pid: i32,
        /// How.
        fate: Fate,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Serves requests until the server closes its end. `run` is what a new worker does with its socket; its result is
/// the worker's exit status.
pub(super) fn serve(socket: UnixStream, run: &dyn Fn(UnixStream) -> u8) -> u8 {
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
        workers: Vec::new(),
    };
    let status = loop {
        match zygote.step(run) {
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
    channel: Channel,
    signals: SignalFd,
    /// Those that were not waited for yet.
    workers: Vec<Pid>,
}

impl Zygote {
    fn step(&mut self, run: &dyn Fn(UnixStream) -> u8) -> Result<(), ChannelError> {
        let mut fds = [
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (request, child) = (fds[0].any().unwrap_or(false), fds[1].any().unwrap_or(false));
        if child {
            while let Ok(Some(_)) = self.signals.read_signal() {}
            for (pid, fate) in self.reap() {
                let pid = pid.as_raw();
                self.channel.send(&Report::Ended { pid, fate }.into_frame())?;
            }
        }
        if request {
            self.channel.fill()?;
            while let Some(received) = self.channel.buffered()? {
                self.spawn(received, run)?;
            }
        }
        Ok(())
    }

    fn spawn(&mut self, received: Received, run: &dyn Fn(UnixStream) -> u8) -> Result<(), ChannelError> {
        let Request { id, name } = Request::from_frame(&received.frame);
        let Ok([socket, messages]) = <[OwnedFd; 2]>::try_from(received.fds) else {
            return Err(ChannelError::MissingFds);
        };
        match fork() {
            Ok(Fork::Child) => {
                let status = start_over(messages.as_fd(), &name).map_or(1, |()| run(UnixStream::from(socket)));
                // The worker leaves without the zygote's values, whose descriptors it has closed.
                std::process::exit(i32::from(status))
            }
            Ok(Fork::Parent(pid)) => {
                self.workers.push(pid);
                self.introduce(id, pid)
            }
            Err(errno) => {
                let reason = format!("cannot fork a worker: {}", errno.desc());
                self.channel.send(&Report::NotSpawned { id, reason }.into_frame())
            }
        }
    }

    /// Tells the server of a new worker. One that it could not signal is of no use.
    fn introduce(&self, id: u64, worker: Pid) -> Result<(), ChannelError> {
        let pid = worker.as_raw();
        let pidfd = rustix::process::Pid::from_raw(pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match pidfd {
            Ok(pidfd) => self
                .channel
                .send_along(&Report::Spawned { id, pid }.into_frame(), &[pidfd.as_fd()]),
            Err(error) => {
                // It is a child that was not waited for: the number is still its.
                let _ = kill(worker, Signal::SIGKILL);
                let reason = format!("cannot watch a worker: {}", report::reason(&error.into()));
                self.channel.send(&Report::NotSpawned { id, reason }.into_frame())
            }
        }
    }

    /// The workers that have ended since the last time.
    fn reap(&mut self) -> Vec<(Pid, Fate)> {
        let mut ended = Vec::new();
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => ended.push((pid, Fate::Exited(status))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid, Fate::Signaled(signal as i32))),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.workers.retain(|worker| ended.iter().all(|(pid, _)| pid != worker));
        ended
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
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            // LAST_CALL is far from the limit of a timeout. An interruption only makes the loop go round once more.
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        for worker in self.workers {
            // It was not waited for: the number is still its. Nobody waits for a process that even this does not end.
            let _ = kill(worker, Signal::SIGKILL);
        }
    }
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

impl Request {
    /// The frame of this request; the worker's socket and the file for its messages go along.
    #[must_use]
    pub(super) fn into_frame(self) -> Frame {
        Frame {
            kind: SPAWN,
            fds: 2,
            id: self.id,
            body: self.name.into_bytes(),
        }
    }

    fn from_frame(frame: &Frame) -> Self {
        Self {
            id: frame.id,
            name: String::from_utf8_lossy(&frame.body).into_owned(),
        }
    }
}

impl Report {
    /// The frame of this report.
    #[must_use]
    pub(super) fn into_frame(self) -> Frame {
        let fds = u16::from(matches!(self, Self::Spawned { .. }));
        let (kind, id, body) = match self {
            Self::Spawned { id, pid } => (SPAWNED, id, pid.to_le_bytes().to_vec()),
            Self::NotSpawned { id, reason } => (NOT_SPAWNED, id, reason.into_bytes()),
            Self::Ended { pid, fate } => {
                let (how, number) = match fate {
                    Fate::Exited(status) => (0i32, status),
                    Fate::Signaled(signal) => (1, signal),
                };
                (
                    ENDED,
                    0,
                    [pid, how, number]
                        .iter()
                        .flat_map(|number| number.to_le_bytes())
                        .collect(),
                )
            }
        };
        Frame { kind, fds, id, body }
    }

    /// The report in a frame.
    ///
    /// # Errors
    /// Says what is wrong with the frame.
    pub(super) fn from_frame(frame: &Frame) -> Result<Self, String> {
        let number = |at: usize| {
            let bytes = frame.body.get(at * 4..).and_then(|rest| rest.first_chunk::<4>());
            bytes
                .map(|bytes| i32::from_le_bytes(*bytes))
                .ok_or_else(|| "a report that is too short".to_owned())
        };
        Ok(match frame.kind {
            SPAWNED => Self::Spawned {
                id: frame.id,
                pid: number(0)?,
            },
            NOT_SPAWNED => Self::NotSpawned {
                id: frame.id,
                reason: String::from_utf8_lossy(&frame.body).into_owned(),
            },
            ENDED => {
                let fate = if number(1)? == 0 {
                    Fate::Exited(number(2)?)
                } else {
                    Fate::Signaled(number(2)?)
                };
                Self::Ended { pid: number(0)?, fate }
            }
            kind => return Err(format!("unknown report kind {kind}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_frames() {
        let request = Request {
            id: 4,
            name: "vm ü".into(),
        };
        assert_eq!(Request::from_frame(&request.clone().into_frame()), request);
    }

    #[test]
    fn reports_survive_their_frames() {
        let reports = [
            Report::Spawned { id: 4, pid: 77 },
            Report::NotSpawned {
                id: 5,
                reason: "no memory".into(),
            },
            Report::Ended {
                pid: 77,
                fate: Fate::Exited(3),
            },
            Report::Ended {
                pid: 78,
                fate: Fate::Signaled(9),
            },
        ];
        for report in reports {
            assert_eq!(Report::from_frame(&report.clone().into_frame()), Ok(report));
        }
        let short = Frame {
            kind: ENDED,
            fds: 0,
            id: 0,
            body: vec![1, 2],
        };
        assert!(Report::from_frame(&short).is_err());
    }
}
