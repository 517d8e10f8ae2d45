//! `remuda serve`: one server for many guests, each a worker process with a QMP socket of its own.
//!
//! The server is the monitor of all its guests. Clients of the control socket create and destroy guests; a guest's own
//! clients use its QMP socket as they would use QEMU's.

mod control;
mod guest;
mod lock;
mod messages;
mod nursery;
mod options;
mod order;
mod registry;
mod socket;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::cmdline::{self, Parsed};
use crate::host::process::spawn;
use crate::ipc::message::ToWorker;
use crate::report;
use crate::target::Target;
use crate::worker;
use crate::worker::link::Link;

use super::{config_file, dropin, logging, zygote};
use lock::Lock;
use nursery::Nursery;
use options::Options;
use registry::Registry;

/// How long to wait when the host is out of descriptors or memory for a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long clients of the control socket may take to read their last replies and events.
const FAREWELL: Duration = Duration::from_secs(1);

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
    let (server_end, zygote_end) =
        UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {}", report::reason(&error)))?;
    spawn(vec![zygote_end.into()], options.target, be_zygote)
        .map_err(|error| format!("cannot fork the zygote: {}", report::reason(&error)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {}", report::reason(&error)))?;
    let status = LocalSet::new().block_on(&runtime, serve(options, server_end));
    // A file that never opens is no reason to stay.
    runtime.shutdown_background();
    status
}

/// The zygote's process.
fn be_zygote(fds: Vec<OwnedFd>, target: Target) -> u8 {
    match <[OwnedFd; 1]>::try_from(fds) {
        Ok([socket]) => zygote::serve(socket.into(), target, run_worker),
        Err(_) => 1,
    }
}

async fn serve(options: Options, zygote: UnixStream) -> Result<u8, String> {
    let watching = |error: std::io::Error| format!("cannot watch signals: {}", report::reason(&error));
    let mut terminate = signal(SignalKind::terminate()).map_err(watching)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(watching)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(watching)?;
    let nursery =
        Nursery::start(zygote).map_err(|error| format!("cannot watch the zygote: {}", report::reason(&error)))?;
    let control = options.control.clone();
    let registry = Rc::new(Registry::new(options, nursery)?);
    let _control_lock = Lock::take(with_ending(&control, ".lock"))?;
    let (listener, _file) = socket::listen(&control)?;
    let listener = UnixListener::from_std(listener)
        .map_err(|error| format!("{}: {}", control.display(), report::reason(&error)))?;
    report::info(format!("serve: listening on {}", control.display()));
    let mut clients = JoinSet::new();
    let status = loop {
        tokio::select! {
            client = listener.accept() => match client {
                Ok((stream, _)) => drop(clients.spawn_local(control::serve(Rc::clone(&registry), stream))),
                Err(error) => {
                    warn_of_connection(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = clients.join_next() => if let Ok(Err(error)) = ended {
                warn_of_connection(&error);
            },
            () = registry.orphaned() => {
                report::error("serve: the zygote is gone: there can be no more guests");
                break 1;
            }
            () = registry.send_events() => {}
            _ = terminate.recv() => break 0,
            _ = interrupt.recv() => break 0,
            _ = hangup.recv() => break 0,
            () = registry.told_to_quit() => break 0,
        }
    };
    drop(listener);
    registry.close().await;
    // What clients are still to read, the reply to `quit` among it. Who does not read loses it.
    let farewell = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL, farewell).await;
    Ok(status)
}

fn warn_of_connection(error: &std::io::Error) {
    report::warning(format!("serve: a control connection failed: {}", report::reason(error)));
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(ending);
    text.into()
}

/// A new worker: waits for its command line and runs that guest.
fn run_worker(socket: UnixStream, target: Target) -> u8 {
    let link = Link::new(socket);
    let Ok(ToWorker::Start(arguments)) = link.receive() else {
        return 1;
    };
    let parsed = cmdline::parse(target, arguments.into_iter().map(Into::into), &config_file::read);
    match parsed {
        Ok(Parsed::Run(config)) => {
            dropin::print_warnings(&config);
            if let Err(reason) = logging::start(&config.log, None) {
                report::error(reason);
                return 1;
            }
            worker::run(*config, link, None, None)
        }
        // The server has parsed the same text before it asked for a worker.
        Ok(Parsed::Help(_)) | Err(_) => 1,
    }
}
