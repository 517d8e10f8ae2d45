//! A monitor's life: open the character devices, wait for the guest, serve the clients, end.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::process::id;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use crate::block::Graph;
use crate::chardev::{ChardevEvent, ChardevRegistry, FdTable, FrontEnd};
use crate::cmdline::{Config, MonitorConfig};
use crate::host::daemon::{DaemonStatus, detach_standard_streams};
use crate::host::guard::{self, Asked, END_LIMIT, Then, Watch};
use crate::host::inherited::Inherited;
use crate::host::process::Process;
use crate::ipc::message::{FromWorker, ToWorker, WorkerRequest};
use crate::machine;
use crate::machine::entropy::EntropySources;
use crate::qapi::Error;
use crate::qapi::qmp::{ShutdownCause, WorkerCall};
use crate::report;
use crate::worker::core::{Core, Outside};
use crate::worker::sandbox;

use super::cpu::Hosts;
use super::guest::{Guest, News, Worker, open_chardevs, wait_for_clients};
use super::images::OwnFiles;
use super::link::WorkerLink;

/// How long the clients may take to read the last events.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a client that handed down a listening socket may take to connect to a guest that cannot start.
const FIRST_CLIENT: Duration = Duration::from_secs(1);
/// How long a worker may take to end that was asked to; it gives itself less.
const WORKER_END: Duration = END_LIMIT.saturating_add(Duration::from_secs(2));

/// Runs the monitor of a guest whose worker, the parent of this process, is at the other end of `socket`. Returns the
/// exit status.
#[must_use]
pub fn run_for_worker(config: Config, socket: UnixStream, inherited: Inherited) -> u8 {
    if let Err(reason) = sandbox::enter(&config.sandbox) {
        return fail(&reason);
    }
    let worker = Process::parent();
    let guarded = socket
        .try_clone()
        .and_then(|worker_end| guard::start(Some(worker_end.into()), WorkerSignals { worker }));
    if let Err(error) = guarded {
        return fail(&format!("cannot wait for signals: {}", report::reason(&error)));
    }
    in_runtime(serve_worker(config, socket, inherited, None))
}

/// Whoever sends the monitor of a guest a signal, perhaps to all processes of a service, wants the guest to end, which the
/// worker does in good order. What a terminal sends goes to the worker too.
struct WorkerSignals {
    worker: Option<Process>,
}

impl Watch for WorkerSignals {
    fn asked(&mut self, asked: Asked) -> Then {
        match &self.worker {
            Some(worker) if asked.signal == Signal::SIGTERM as u32 => {
                worker.terminate();
                Then::Look(WORKER_END)
            }
            _ => Then::GoOn,
        }
    }

    fn look(&mut self) -> Then {
        if let Some(worker) = &self.worker {
            worker.kill();
        }
        Then::GoOn
    }
}

/// For a worker that waits for its command line.
pub struct Start {
    /// The command line.
    pub arguments: Vec<String>,
    /// Its character devices, none of which is open yet, and what happens at them.
    pub chardevs: (ChardevRegistry, mpsc::UnboundedReceiver<ChardevEvent>),
    /// Told once whether there is a guest, or why there is none.
    pub outcome: oneshot::Sender<Result<(), Error>>,
}

/// Serves one guest whose worker is at the other end of `socket`, and whose command line may name the descriptors
/// `inherited`. Returns when the guest has ended, with the exit status of its worker.
pub async fn serve_worker(config: Config, socket: UnixStream, inherited: Inherited, start: Option<Start>) -> u8 {
    let voice = start
        .as_ref()
        .map(|start| start.chardevs.0.fds().voice())
        .unwrap_or_default();
    let news = Rc::new(News::of(voice.clone()));
    let heard = Rc::clone(&news);
    let (link, mut messages) = match WorkerLink::start(socket, Box::new(move |message| heard.hear(message)), voice) {
        Ok(started) => started,
        Err(error) => {
            return fail(&format!(
                "cannot watch the socket to the worker: {}",
                report::reason(&error)
            ));
        }
    };
    let ((chardevs, mut line_events), mut outcome) = match start {
        Some(start) => {
            link.send(ToWorker::Start(start.arguments));
            (start.chardevs, Some(start.outcome))
        }
        None => (ChardevRegistry::new(FdTable::with_inherited(inherited)), None),
    };
    // A back end may be slow to open, or never: the worker is not to be outlived for that.
    let opened = tokio::select! {
        opened = open_chardevs(&config, &chardevs) => opened,
        () = link.closed() => return 1,
    };
    if let Err(error) = opened {
        let status = refuse(outcome, error);
        first_clients(&config, &chardevs).await;
        // The worker ends as well, and does not say that it was left alone.
        link.send(ToWorker::Abort);
        link.flushed().await;
        link.close();
        return status;
    }
    let registry = machine::registry(config.target, true);
    let hosts = Hosts::of_worker(link.clone());
    let guest = Rc::new(Guest::new(
        config,
        chardevs,
        registry,
        hosts,
        news,
        Worker::Process(link),
    ));
    let throttle = tokio::task::spawn_local(throttle(Rc::clone(&guest)));
    let is_one_among_many = guest.chardevs.fds().is_one_among_many();
    let status = loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(FromWorker::Ready) => drop(tokio::task::spawn_local(open(Rc::clone(&guest), outcome.take()))),
                Some(FromWorker::Failed(reason)) => {
                    // Where nobody waits for the outcome, the worker itself says why.
                    if let Some(outcome) = outcome.take() {
                        let _ = outcome.send(Err(Error::generic(reason)));
                    }
                    first_clients(&guest.config, &guest.chardevs).await;
                    break 1;
                }
                Some(message) => {
                    if let Some(status) = guest.heard(message) {
                        break status;
                    }
                }
                // A server knows how it ended, and says that.
                None if is_one_among_many => break 1,
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
pub fn run_without_guest(config: Config, inherited: Inherited, daemon: Option<DaemonStatus>) -> u8 {
    // Before anything here can have an influence on what the probes find.
    let hosts = Hosts::probed(&config);
    if let Err(reason) = sandbox::enter(&config.sandbox) {
        return fail(&reason);
    }
    let told_to_end = Arc::new(Notify::new());
    if let Err(error) = guard::start(None, OwnSignals(Arc::clone(&told_to_end))) {
        return fail(&format!("cannot wait for signals: {}", report::reason(&error)));
    }
    in_runtime(async move {
        let (chardevs, _line_events) = ChardevRegistry::new(FdTable::with_inherited(inherited));
        if let Err(error) = open_chardevs(&config, &chardevs).await {
            return fail(&error.desc);
        }
        let (guest, mut messages) = match without_guest(config, chardevs, hosts).await {
            Ok(made) => made,
            Err(error) => return fail(&error.desc),
        };
        tokio::task::spawn_local(probe_accelerators(Rc::clone(&guest)));
        tokio::task::spawn_local(throttle(Rc::clone(&guest)));
        let claimed = match guest.claim_monitors().await {
            Ok(claimed) => claimed,
            Err(error) => return fail(&error.desc),
        };
        if let Some(error) = daemon.and_then(|daemon| daemon.ready().err()) {
            report::error(format!("cannot leave the terminal: {}", report::reason(&error)));
        }
        tokio::task::spawn_local(begin_without_guest(Rc::clone(&guest), claimed));
        loop {
            tokio::select! {
                Some(message) = messages.recv() => drop(guest.heard(message)),
                () = guest.terminated() => break,
                () = told_to_end.notified() => guest.terminate(ShutdownCause::HostSignal),
            }
        }
        while let Ok(message) = messages.try_recv() {
            guest.heard(message);
        }
        farewell(&guest).await;
        0
    })
}

/// Waits for the clients that are to be there, starts what there is, and lets everybody in.
async fn begin_without_guest(guest: Rc<Guest>, claimed: Vec<(MonitorConfig, FrontEnd)>) {
    wait_for_clients(&guest.config, &guest.chardevs).await;
    if !guest.config.stopped {
        if let Err(error) = guest.run_in_worker(WorkerCall::Cont).await {
            report::error(error.desc);
        }
    }
    guest.serve_monitors(claimed);
}

/// Initialises every accelerator, whose answers are there once a client has introduced itself.
async fn probe_accelerators(guest: Rc<Guest>) {
    guest.hosts.all().await;
}

/// A signal to a process without a guest ends it.
struct OwnSignals(Arc<Notify>);

impl Watch for OwnSignals {
    fn asked(&mut self, _: Asked) -> Then {
        self.0.notify_one();
        Then::End
    }
}

/// A guest object with nothing behind it; the worker's commands run in this process.
async fn without_guest(
    config: Config,
    chardevs: ChardevRegistry,
    hosts: Result<Hosts, Error>,
) -> Result<(Rc<Guest>, mpsc::UnboundedReceiver<FromWorker>), Error> {
    let (sender, messages) = mpsc::unbounded_channel();
    let machine = machine::types::of(config.target, Some("none"))?;
    let with_host_cpu = config.machine.has_host_cpu(config.target);
    let registry = machine::registry(config.target, with_host_cpu);
    machine::check_properties(&registry, machine, &config.machine.machine_props)?;
    machine::refuse_devices(&registry, &config.machine.devices)?;
    if let Some(netdev) = config.machine.netdevs.first() {
        return Err(Error::generic(format!(
            "{}: this machine has no guest",
            netdev.location
        )));
    }
    let news = Rc::new(News::default());
    let heard = Rc::clone(&news);
    let outbox = Box::new(move |message| {
        if let Some(message) = heard.hear(message) {
            // The receiver lives as long as the guest.
            let _ = sender.send(message);
        }
    });
    let core = Core::new(
        config.clone(),
        None,
        machine::registry(config.target, with_host_cpu),
        machine,
        Outside {
            entropy: EntropySources::default(),
            graph: Graph::default(),
            opener: Box::new(OwnFiles(chardevs.clone())),
            outbox,
        },
    )?;
    for blockdev in &config.machine.blockdevs {
        let added = core.graph.add(&*core.opener, &blockdev.options).await;
        added.map_err(|error| Error::generic(format!("{}: {}", blockdev.location, error.desc)))?;
    }
    let guest = Guest::new(config, chardevs, registry, hosts?, news, Worker::Here(Rc::new(core)));
    Ok((Rc::new(guest), messages))
}

/// The guest is built: let clients in, and let it start.
async fn open(guest: Rc<Guest>, outcome: Option<oneshot::Sender<Result<(), Error>>>) {
    let Some(link) = guest.link() else {
        return;
    };
    let claimed = match guest.claim_monitors().await {
        Ok(claimed) => claimed,
        Err(error) => {
            refuse(outcome, error);
            first_clients(&guest.config, &guest.chardevs).await;
            link.send(ToWorker::Abort);
            return;
        }
    };
    if let Some(chardev) = guest.config.debugger.clone() {
        if let Err(error) = link.ask(WorkerRequest::StartDebugger(chardev)).await {
            refuse(outcome, error);
            first_clients(&guest.config, &guest.chardevs).await;
            link.send(ToWorker::Abort);
            return;
        }
    }
    if let Some(outcome) = outcome {
        // Whoever asked for the guest may be gone; the guest stays.
        let _ = outcome.send(Ok(()));
    }
    wait_for_clients(&guest.config, &guest.chardevs).await;
    if guest.config.daemonize {
        // Before the daemon's parent goes: nobody who waits for the end of its output waits for this process.
        if let Err(error) = detach_standard_streams() {
            report::error(format!("cannot leave the terminal: {}", report::reason(&error)));
        }
    }
    // A guest that cannot start ends, with its reason on standard error and an end of file for whoever has connected.
    if link.ask(WorkerRequest::Proceed).await.is_ok() {
        guest.serve_monitors(claimed);
    }
}

async fn throttle(guest: Rc<Guest>) {
    guest.news.events.run().await;
}

async fn farewell(guest: &Guest) {
    if tokio::time::timeout(FAREWELL, guest.close()).await.is_err() {
        tracing::info!("a client did not read its last events");
    }
}

/// A guest cannot start, and that has been said. Whoever handed down the listening socket of a monitor is about to connect
/// to it, and is to find an end rather than nothing.
async fn first_clients(config: &Config, chardevs: &ChardevRegistry) {
    let connected = async {
        for chardev in config.inherited_monitors() {
            chardevs.connected(chardev).await;
        }
    };
    if tokio::time::timeout(FIRST_CLIENT, connected).await.is_err() {
        tracing::info!("nobody connected to the monitor");
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
        Err(error) => fail(&format!(
            "process {}: cannot start the monitor: {}",
            id(),
            report::reason(&error)
        )),
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
