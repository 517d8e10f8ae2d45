//! Probes: what an accelerator can do is found out in a process of its own.
//!
//! An accelerator that crashes or hangs takes only its probe with it. The monitor itself never opens `/dev/kvm`. Probes
//! are forked before the monitor has a second thread, so that nothing it starts keeps them from being.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::accel::describe::describe;
use crate::cmdline::Sandbox;
use crate::host::process::{Fate, Process, spawn, watch_parent};
use crate::machine::config::AccelConfig;
use crate::report::reason;
use crate::target::Target;
use crate::worker::sandbox;

/// How long an accelerator may take. Opening KVM and asking it everything takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// A running probe.
#[derive(Debug)]
pub struct Probe {
    process: Process,
    pipe: OwnedFd,
}

impl Probe {
    /// Starts a process that describes what an accelerator offers to guests of `target`, and ends with this one.
    ///
    /// # Errors
    /// There can be no further process.
    pub fn start(target: Target, accel: AccelConfig, sandbox: Sandbox) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot start a probe process: {}", reason(&error));
        let (pipe, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let process = spawn(vec![writer], ((target, getpid()), (accel, sandbox)), run).map_err(failed)?;
        Ok(Self { process, pipe })
    }

    /// Waits for the answer: a host description, or why there is none.
    ///
    /// # Errors
    /// What the accelerator said, or how the probe failed to say anything.
    pub async fn finish(self) -> Result<Vec<u8>, String> {
        let answer = tokio::time::timeout(LIMIT, read_to_end(self.pipe)).await;
        if answer.is_err() {
            self.process.kill();
        }
        // The pipe is at its end, so the process is too, or was just killed.
        let fate = self.process.reap();
        let Ok(answer) = answer else {
            return Err(format!("the probe gave no answer in {} s", LIMIT.as_secs()));
        };
        let answer = answer.map_err(|error| format!("the probe cannot be read: {}", reason(&error)))?;
        match (answer.split_first(), fate) {
            (Some((b'+', description)), Some(Fate::Exited(0))) => Ok(description.to_vec()),
            (Some((b'-', reason)), Some(Fate::Exited(0))) => Err(String::from_utf8_lossy(reason).into_owned()),
            (_, Some(fate)) => Err(format!("the probe gave no answer: {fate}")),
            (_, None) => Err("the probe gave no answer".to_owned()),
        }
    }
}

/// What a probe process does.
fn run(pipe: Vec<OwnedFd>, ((target, parent), (accel, sandbox)): ((Target, Pid), (AccelConfig, Sandbox))) -> u8 {
    let Some(pipe) = pipe.into_iter().next() else {
        return 1;
    };
    if !watch_parent(parent, Signal::SIGKILL).unwrap_or(false) {
        return 1;
    }
    let described = sandbox::enter(&sandbox).and_then(|()| describe(target, &accel.name, &accel.props));
    let (mark, text) = match described {
        Ok(description) => (b"+", description),
        Err(reason) => (b"-", reason.into_bytes()),
    };
    let mut pipe = File::from(pipe);
    // A monitor that does not listen any more needs no answer.
    let _ = pipe.write_all(mark).and_then(|()| pipe.write_all(&text));
    0
}

async fn read_to_end(pipe: OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    Receiver::from_owned_fd(pipe)?.read_to_end(&mut answer).await?;
    Ok(answer)
}
