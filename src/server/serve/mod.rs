//! `remuda serve`: one server for many guests, each a worker process with a QMP socket of its own.
//!
//! The server is the monitor of all its guests. Clients of the control socket create and destroy guests; a guest's own
//! clients use its QMP socket as they would use QEMU's.

mod control;
mod nursery;
mod options;
mod registry;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::cmdline::{self, Parsed};
use crate::ipc::message::ToWorker;
use crate::report;
use crate::target::Target;
use crate::worker;
use crate::worker::link::Link;
use crate::worker::process::{Fork, close_all_but, die_with_parent, fork};

use super::zygote;
use nursery::Nursery;
use options::Options;
use registry::Registry;

/// Runs the server with the arguments that follow `serve`.
#[must_use]
pub(super) fn main(arguments: &[String]) -> ExitCode {
    report::set_program("remuda");
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(reason) => {
            report::error(format!("serve: {reason}"));
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(status) => ExitCode::from(status),
        Err(reason) => {
            report::error(format!("serve: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<u8, String> {
    // The zygote is forked while this process has one thread.
    let (server_end, zygote_end) = UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
    let server = nix::unistd::getpid();
    match fork().map_err(|errno| format!("cannot fork the zygote: {errno}"))? {
        Fork::Child => {
            drop(server_end);
            if !die_with_parent(server, Signal::SIGKILL).unwrap_or(false) {
                return Ok(1);
            }
            let target = options.target;
            Ok(zygote::serve(zygote_end, &move |socket| run_worker(target, socket)))
        }
        Fork::Parent(_) => {
            drop(zygote_end);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
            let status = LocalSet::new().block_on(&runtime, serve(options, server_end));
            runtime.shutdown_background();
            status
        }
    }
}

async fn serve(options: Options, zygote: UnixStream) -> Result<u8, String> {
    let (nursery, mut ends) = Nursery::start(zygote).map_err(|error| format!("cannot watch the zygote: {error}"))?;
    let registry = Rc::new(Registry::new(options, nursery)?);
    let listener = registry.listen()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("cannot watch signals: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("cannot watch signals: {error}"))?;
    let status = loop {
        tokio::select! {
            client = listener.accept() => match client {
                Ok((stream, _)) => drop(tokio::task::spawn_local(control::serve(Rc::clone(&registry), stream))),
                Err(error) => report::warning(format!("a control connection failed: {error}")),
            },
            end = ends.recv() => match end {
                Some((pid, fate)) => registry.ended(pid, fate),
                None => {
                    report::error("the zygote is gone");
                    break 1;
                }
            },
            _ = terminate.recv() => break 0,
            _ = interrupt.recv() => break 0,
            () = registry.told_to_quit() => break 0,
        }
    };
    registry.close().await;
    Ok(status)
}

/// A new worker: waits for its command line and runs that guest.
fn run_worker(target: Target, socket: UnixStream) -> u8 {
    use std::os::fd::AsRawFd;
    close_all_but(&[socket.as_raw_fd()]);
    let link = Link::new(socket);
    let Ok(ToWorker::Start(arguments)) = link.receive() else {
        return 1;
    };
    let parsed = cmdline::parse(target, arguments.into_iter().map(Into::into), &|path| {
        std::fs::read_to_string(path)
    });
    match parsed {
        Ok(Parsed::Run(config)) => worker::run(*config, link, None, None),
        // The server has parsed the same text before it asked for a worker.
        Ok(Parsed::Help(_)) | Err(_) => 1,
    }
}
