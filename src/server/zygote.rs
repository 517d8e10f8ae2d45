//! The zygote: a process with one thread that forks workers for the pool server.
//!
//! It is forked before the server starts its async runtime, since only a process without threads can fork safely. It
//! speaks frames over a socket pair: the server sends [`Request`]s, each with the worker's end of a socket pair; the
//! zygote answers with [`Report`]s and tells how each worker ended.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::report;
use crate::worker::channel::{Channel, ChannelError, Received};
use crate::worker::frame::Frame;
use crate::worker::process::{Fork, fork};

const SPAWN: u16 = 1;
const SPAWNED: u16 = 2;
const NOT_SPAWNED: u16 = 3;
const ENDED: u16 = 4;

/// What the server asks: a worker that serves the socket coming along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Pairs the answer with the request.
    pub id: u64,
}

/// What the zygote tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The worker of this request runs.
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
pub enum Fate {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Serves requests until the server closes its end. `run` is what a new worker does with its socket; its result is
/// the worker's exit status.
pub fn serve(socket: UnixStream, run: &dyn Fn(UnixStream) -> u8) -> u8 {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    let watched = signals
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
    let Ok(watched) = watched else {
        report::error("the zygote cannot watch its workers");
        return 1;
    };
    let mut zygote = Zygote {
        channel: Channel::new(socket),
        signals: watched,
    };
    loop {
        match zygote.step(run) {
            Ok(()) => {}
            Err(ChannelError::Closed) => return 0,
            Err(error) => {
                report::error(format!("the zygote cannot understand the server: {error}"));
                return 1;
            }
        }
    }
}

struct Zygote {
    channel: Channel,
    signals: SignalFd,
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
            self.reap()?;
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
        let id = received.frame.id;
        let Some(socket) = received.fds.into_iter().next() else {
            return Err(ChannelError::MissingFds);
        };
        let report = match fork() {
            Ok(Fork::Child) => {
                let mut signals = SigSet::empty();
                signals.add(Signal::SIGCHLD);
                // A mask that cannot be changed leaves the worker deaf to its own children, of which it has none.
                let _ = signals.thread_unblock();
                // The worker leaves without the zygote's values, whose descriptors it has closed.
                std::process::exit(i32::from(run(UnixStream::from(socket))))
            }
            Ok(Fork::Parent(pid)) => Report::Spawned { id, pid: pid.as_raw() },
            Err(errno) => Report::NotSpawned {
                id,
                reason: format!("cannot fork a worker: {errno}"),
            },
        };
        self.channel.send(&report.into_frame())
    }

    fn reap(&mut self) -> Result<(), ChannelError> {
        loop {
            let (pid, fate) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, Fate::Exited(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Fate::Signaled(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
                Ok(_) => continue,
            };
            self.channel.send(
                &Report::Ended {
                    pid: pid.as_raw(),
                    fate,
                }
                .into_frame(),
            )?;
        }
    }
}

impl Request {
    /// The frame of this request; the worker's socket goes along as its one descriptor.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        Frame {
            kind: SPAWN,
            fds: 1,
            id: self.id,
            body: Vec::new(),
        }
    }
}

impl Report {
    /// The frame of this report.
    #[must_use]
    pub fn into_frame(self) -> Frame {
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
        Frame { kind, fds: 0, id, body }
    }

    /// The report in a frame.
    ///
    /// # Errors
    /// Says what is wrong with the frame.
    pub fn from_frame(frame: &Frame) -> Result<Self, String> {
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
