//! A monitor's life: open the character devices, wait for the guest, serve the clients, end.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::process::id;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::chardev::{ChardevRegistry, FdTable};
use crate::cmdline::{Config, Sandbox};
use crate::machine;
use crate::qapi::Error;
use crate::qapi::qmp::ShutdownCause;
use crate::report;
use crate::worker::core::Core;
use crate::worker::message::{FromWorker, ToWorker};
use crate::worker::process::DaemonStatus;
use crate::worker::sandbox;

use super::cpu::Hosts;
use super::guest::{Guest, Worker, open_chardevs, wait_for_clients};
use super::link::WorkerLink;

/// How long the clients may take to read the last events.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the monitor of a guest whose worker is at the other end of `socket`. Returns the exit status.
#[must_use]
pub fn run_for_worker(config: Config, socket: UnixStream) -> u8 {
    if let Err(reason) = sandbox::enter(&config.sandbox) {
        return fail(&reason);
    }
    in_runtime(async move {
        let parent = getppid();
        let mut terminate = signal(SignalKind::terminate()).ok();
        // What the terminal sends goes to the worker too, which knows what to do.
        let _ignored = (signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
        let serving = tokio::task::spawn_local(serve_worker(config, socket, None));
        tokio::pin!(serving);
        loop {
            tokio::select! {
                status = &mut serving => break status.unwrap_or(1),
                () = received(&mut terminate) => {
                    // The signal also comes when the worker dies; the end of its socket then tells more. Else whoever
                    // sent it, perhaps to all processes of a service, wants the guest to end, which the worker does in
                    // good order. A worker that is gone in this instant needs no signal.
                    if getppid() == parent {
                        let _ = kill(parent, Signal::SIGTERM);
                    }
                }
            }
        }
    })
}

/// For a worker that waits for its command line.
pub struct Start {
    /// The command line.
    pub arguments: Vec<String>,
    /// Told once whether there is a guest, or why there is none.
    pub outcome: oneshot::Sender<Result<(), Error>>,
}

/// Serves one guest whose worker is at the other end of `socket`. Returns when the guest has ended, with the exit
/// status of its worker.
pub async fn serve_worker(config: Config, socket: UnixStream, start: Option<Start>) -> u8 {
    let (link, mut messages) = match WorkerLink::start(socket) {
        Ok(started) => started,
        Err(error) => return fail(&format!("cannot watch the socket to the worker: {error}")),
    };
    let mut outcome = None;
    if let Some(start) = start {
        link.send(ToWorker::Start(start.arguments), Vec::new());
        outcome = Some(start.outcome);
    }
    let (chardevs, mut line_events) = ChardevRegistry::new(FdTable::with_inherited(config.monitor_fds()));
    if let Err(error) = open_chardevs(&config, &chardevs).await {
        let status = refuse(outcome, error);
        // The worker ends as well, and does not say that it was left alone.
        link.send(ToWorker::Abort, Vec::new());
        while messages.recv().await.is_some() {}
        return status;
    }
    let registry = machine::registry(config.target, true);
    let hosts = Hosts::of_worker(link.clone());
    let guest = Rc::new(Guest::new(config, chardevs, registry, hosts, Worker::Process(link)));
    let throttle = tokio::task::spawn_local(throttle(Rc::clone(&guest)));
    let status = loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(FromWorker::Ready) => drop(tokio::task::spawn_local(open(Rc::clone(&guest), outcome.take()))),
                Some(FromWorker::Failed(reason)) => {
                    // Where nobody waits for the outcome, the worker itself says why.
                    if let Some(outcome) = outcome.take() {
                        let _ = outcome.send(Err(Error::generic(reason)));
                    }
                    break 1;
                }
                Some(message) => {
                    if let Some(status) = guest.heard(message).await {
                        break status;
                    }
                }
                None => break fail("the worker process is gone"),
            },
            Some(event) = line_events.recv() => guest.line_event(&event),
        }
    };
    throttle.abort();
    farewell(&guest).await;
    if let Some(link) = guest.link() {
        link.close();
    }
    status
}

/// Runs a monitor without a guest. Returns the exit status.
#[must_use]
pub fn run_without_guest(config: Config, daemon: Option<DaemonStatus>) -> u8 {
    if let Err(reason) = confine_probe(&config.sandbox) {
        return fail(&reason);
    }
    in_runtime(async move {
        let (chardevs, _line_events) = ChardevRegistry::new(FdTable::with_inherited(config.monitor_fds()));
        if let Err(error) = open_chardevs(&config, &chardevs).await {
            return fail(&error.desc);
        }
        let (guest, mut messages) = match without_guest(config, chardevs) {
            Ok(made) => made,
            Err(error) => return fail(&error.desc),
        };
        tokio::task::spawn_local(probe_accelerators(Rc::clone(&guest)));
        tokio::task::spawn_local(throttle(Rc::clone(&guest)));
        if let Err(error) = guest.open_monitors().await {
            return fail(&error.desc);
        }
        if let Some(error) = daemon.and_then(|daemon| daemon.ready().err()) {
            report::error(format!("cannot leave the terminal: {error}"));
        }
        tokio::task::spawn_local({
            let guest = Rc::clone(&guest);
            async move { wait_for_clients(&guest.config, &guest.chardevs).await }
        });
        let mut terminate = signal(SignalKind::terminate()).ok();
        let mut interrupt = signal(SignalKind::interrupt()).ok();
        loop {
            tokio::select! {
                Some(message) = messages.recv() => drop(guest.heard(message).await),
                () = guest.terminated() => break,
                () = received(&mut terminate) => guest.terminate(ShutdownCause::HostSignal),
                () = received(&mut interrupt) => guest.terminate(ShutdownCause::HostSignal),
            }
        }
        while let Ok(message) = messages.try_recv() {
            guest.heard(message).await;
        }
        farewell(&guest).await;
        0
    })
}

/// Initialises every accelerator, whose answers are there once a client has introduced itself.
async fn probe_accelerators(guest: Rc<Guest>) {
    guest.hosts.all().await;
}

/// Confines a process that starts one probe process for each accelerator.
fn confine_probe(sandbox: &Sandbox) -> Result<(), String> {
    if sandbox.enabled && sandbox.deny_spawn {
        report::warning("-sandbox spawn=deny: without a guest, accelerators are probed by processes of their own");
    }
    sandbox::enter(&Sandbox {
        deny_spawn: false,
        ..*sandbox
    })
}

/// A guest object with nothing behind it; the worker's commands run in this process.
fn without_guest(
    config: Config,
    chardevs: ChardevRegistry,
) -> Result<(Rc<Guest>, mpsc::UnboundedReceiver<FromWorker>), Error> {
    let (sender, messages) = mpsc::unbounded_channel();
    let machine = machine::types::of(config.target, Some("none"))?;
    let with_host_cpu = config.machine.has_host_cpu(config.target);
    let registry = machine::registry(config.target, with_host_cpu);
    machine::check_properties(&registry, machine, &config.machine.machine_props)?;
    machine::refuse_devices(&registry, &config.machine.devices)?;
    let outbox = Box::new(move |message| {
        // The receiver lives as long as the guest.
        let _ = sender.send(message);
    });
    let core = Core::new(
        config.clone(),
        None,
        machine::registry(config.target, with_host_cpu),
        machine,
        outbox,
    )?;
    let hosts = Hosts::probed(&config)?;
    let guest = Guest::new(config, chardevs, registry, hosts, Worker::Here(Rc::new(core)));
    Ok((Rc::new(guest), messages))
}

/// The guest is built: let clients in, and let it start.
async fn open(guest: Rc<Guest>, outcome: Option<oneshot::Sender<Result<(), Error>>>) {
    let Some(link) = guest.link() else {
        return;
    };
    if let Err(error) = guest.open_monitors().await {
        refuse(outcome, error);
        link.send(ToWorker::Abort, Vec::new());
        return;
    }
    if let Some(outcome) = outcome {
        // Whoever asked for the guest may be gone; the guest stays.
        let _ = outcome.send(Ok(()));
    }
    wait_for_clients(&guest.config, &guest.chardevs).await;
    link.send(ToWorker::Proceed, Vec::new());
}

async fn throttle(guest: Rc<Guest>) {
    guest.events.run().await;
}

async fn farewell(guest: &Guest) {
    if tokio::time::timeout(FAREWELL, guest.close()).await.is_err() {
        tracing::info!("a client did not read its last events");
    }
}

async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn in_runtime(work: impl Future<Output = u8>) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let status = LocalSet::new().block_on(&runtime, work);
            // A file that somebody still waits for, on a disk that is gone, keeps nobody here.
            runtime.shutdown_background();
            status
        }
        Err(error) => fail(&format!("process {}: cannot start the monitor: {error}", id())),
    }
}

/// Says why there is no guest, to whoever waits for it.
fn refuse(outcome: Option<oneshot::Sender<Result<(), Error>>>, error: Error) -> u8 {
    match outcome {
        Some(outcome) => {
            // Whoever asked for the guest may be gone.
            let _ = outcome.send(Err(error));
            1
        }
        None => fail(&error.desc),
    }
}

fn fail(reason: &str) -> u8 {
    reason.lines().for_each(report::error);
    1
}
