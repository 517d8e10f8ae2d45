//! Probe workers: what an accelerator can do is found out in a process of its own.
//!
//! An accelerator that crashes or hangs takes only its probe with it. The monitor itself never opens `/dev/kvm`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::worker::process::in_child;

/// How long an accelerator may take. Opening KVM and asking it everything takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// A running probe.
#[derive(Debug)]
pub struct Probe {
    pid: Pid,
    pipe: OwnedFd,
}

impl Probe {
    /// Starts a process that runs `describe`, which returns a host description or says why there is none.
    ///
    /// # Errors
    /// There can be no further process.
    pub fn start(describe: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Self, String> {
        let work = |mut pipe: File| {
            let (mark, text) = match describe() {
                Ok(description) => (b"+", description),
                Err(reason) => (b"-", reason.into_bytes()),
            };
            // A monitor that does not listen any more needs no answer.
            let _ = pipe.write_all(mark).and_then(|()| pipe.write_all(&text));
        };
        let (pid, pipe) = in_child(work).map_err(|errno| format!("cannot start a probe process: {errno}"))?;
        Ok(Self { pid, pipe })
    }

    /// Waits for the answer: a host description, or why there is none.
    ///
    /// # Errors
    /// What the accelerator said, or how the probe failed to say anything.
    pub async fn finish(self) -> Result<Vec<u8>, String> {
        let answer = tokio::time::timeout(LIMIT, read_to_end(self.pipe)).await;
        if answer.is_err() {
            // It may have ended by itself in this instant.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        // The pipe is at its end, so the process is too, or was just killed.
        let fate = waitpid(self.pid, None);
        let Ok(answer) = answer else {
            return Err(format!("the probe gave no answer in {} s", LIMIT.as_secs()));
        };
        let answer = answer.map_err(|error| format!("the probe cannot be read: {error}"))?;
        match (answer.split_first(), fate) {
            (Some((b'+', description)), Ok(WaitStatus::Exited(_, 0))) => Ok(description.to_vec()),
            (Some((b'-', reason)), Ok(WaitStatus::Exited(_, 0))) => Err(String::from_utf8_lossy(reason).into_owned()),
            (_, Ok(WaitStatus::Signaled(_, signal, _))) => Err(format!("the probe was ended by {signal}")),
            (_, Ok(WaitStatus::Exited(_, status))) => Err(format!("the probe ended with status {status}")),
            _ => Err("the probe ended without an answer".to_owned()),
        }
    }
}

async fn read_to_end(pipe: OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    Receiver::from_owned_fd(pipe)?.read_to_end(&mut answer).await?;
    Ok(answer)
}
