//! A worker's life: build the guest, serve the monitor, end.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::block::Graph;
use crate::cmdline::{Config, Incoming};
use crate::devices::{Notice, Notifier};
use crate::host::daemon::DaemonStatus;
use crate::host::guard::{self, Asked, Then, Watch, sender};
use crate::host::pidfile::PidFile;
use crate::host::process::Process;
use crate::io::{EventLoop, Handle, block_on};
use crate::ipc::channel::ChannelError;
use crate::ipc::message::{FromWorker, MonitorRequest, ToWorker, WorkerRequest};
use crate::machine;
use crate::machine::chardevs::{Chardevs, User};
use crate::machine::config::NetdevOption;
use crate::machine::entropy::EntropySources;
use crate::net::{Networks, Opened};
use crate::qapi::Error;
use crate::qapi::qmp::{ShutdownCause, dispatch_worker};
use crate::report;

use super::core::{Asker, Core, Outside, blockers};
use super::executor::Executor;
use super::gdb::{self, Debugger};
use super::inspect;
use super::link::{Link, chardev_request};
use super::mainloop::{Broken, Handler, Sources};
use super::migration::Surroundings;
use super::opener::AskMonitor;
use super::sandbox;

/// How long the monitor may take to pass on the last events: a little longer than it gives its clients.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Runs a guest until it ends, and returns the exit status of the process. `monitor` is the monitor if it is a child of
/// this process; `daemon` is told once the guest is up.
#[must_use]
pub fn run(config: Config, link: Link, monitor: Option<Process>, daemon: Option<DaemonStatus>) -> u8 {
    let link = Rc::new(link);
    let is_server = monitor.is_none();
    let status = match Worker::new(config, Rc::clone(&link), daemon) {
        Ok((mut worker, sources)) => {
            let ended = sources.run(&mut worker);
            let gone = matches!(ended, Err(Broken::NoMonitor));
            let status = ended.unwrap_or_else(|broken| {
                let fate = monitor.as_ref().filter(|_| gone).and_then(fate).unwrap_or_default();
                report::error(format!("{broken}{fate}"));
                1
            });
            worker.end(status);
            status
        }
        Err(reason) => {
            // A server tells the client that asked for the guest. libvirt reads what was printed as soon as the monitor has
            // closed its sockets, and so before.
            if !is_server {
                reason.lines().for_each(report::error);
            }
            link.send(FromWorker::Failed(reason));
            // A monitor that still waits for a file notices that.
            link.finish();
            1
        }
    };
    link.wait_for_end(FAREWELL);
    if let Some(monitor) = monitor {
        // It closes its end once its clients have read everything, and then has nothing to do.
        if !monitor.wait_for_end(FAREWELL) {
            monitor.kill();
        }
        monitor.reap();
    }
    status
}

/// How the monitor ended, which closed its socket and so is ending.
fn fate(monitor: &Process) -> Option<String> {
    if !monitor.wait_for_end(FAREWELL) {
        monitor.kill();
    }
    monitor.reap().map(|fate| format!(": {fate}"))
}

struct Worker {
    core: Rc<Core>,
    executor: Rc<Executor>,
    link: Rc<Link>,
    daemon: Option<DaemonStatus>,
    pidfile: SharedPidFile,
    debugger: Rc<RefCell<Option<Debugger>>>,
}

/// The pid file; whoever ends the process takes it away.
type SharedPidFile = Arc<Mutex<Option<PidFile>>>;

fn take(pidfile: &SharedPidFile) -> Option<PidFile> {
    // A panic while the lock was held cannot leave half a value.
    pidfile.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Tells the main loop of signals.
struct Signals {
    told_to_end: Arc<AtomicBool>,
    main: Handle,
    pidfile: SharedPidFile,
    was_asked: bool,
}

impl Watch for Signals {
    fn asked(&mut self, asked: Asked) -> Then {
        // Once is enough; more come where a service manager ends all processes at once.
        if !std::mem::replace(&mut self.was_asked, true) {
            report::error(format!("terminating on signal {}{}", asked.signal, sender(asked.pid)));
            self.told_to_end.store(true, Ordering::Release);
            self.main.wake();
        }
        Then::End
    }

    fn give_up(&mut self) {
        drop(take(&self.pidfile));
    }
}

impl Worker {
    fn new(config: Config, link: Rc<Link>, daemon: Option<DaemonStatus>) -> Result<(Self, Sources), String> {
        sandbox::enter(&config.sandbox)?;
        let main = EventLoop::of_caller();
        let main = main.map_err(|error| format!("cannot make an event loop: {}", report::reason(&error)))?;
        let executor = Rc::new(Executor::new(main.handle().clone()));
        let told_to_end = Arc::new(AtomicBool::new(false));
        let pidfile = SharedPidFile::default();
        let monitor = link.as_fd().try_clone_to_owned();
        let guarded = monitor.and_then(|monitor| {
            let signals = Signals {
                told_to_end: Arc::clone(&told_to_end),
                main: main.handle().clone(),
                pidfile: Arc::clone(&pidfile),
                was_asked: false,
            };
            guard::start(Some(monitor), signals)
        });
        guarded.map_err(|error| format!("cannot wait for signals: {}", report::reason(&error)))?;
        if let Some(path) = &config.pidfile {
            let created = PidFile::create(path)?;
            *pidfile.lock().unwrap_or_else(PoisonError::into_inner) = Some(created);
        }
        let (sender, notices) = mpsc::channel();
        let woken = main.handle().clone();
        let notifier: Notifier = Arc::new(move |notice| {
            // The main loop outlives every device; a notice after its end has no one to act on it.
            let _ = sender.send(notice);
            woken.wake();
        });
        let (chardevs, mut unheard) = connect_chardevs(&config, &link, main.handle())?;
        let networks = Networks::default();
        let (alarm, bell) = (main.handle(), Arc::clone(&notifier));
        networks.on_news(move || bell(Notice::NetworkNews));
        for netdev in &config.machine.netdevs {
            let added = add_netdev(netdev, &networks, &link, alarm, &mut unheard);
            added.map_err(|reason| match reason.is_empty() {
                true => reason,
                false => format!("{}: {reason}", netdev.location),
            })?;
        }
        let machine = machine::types::of(config.target, config.machine.machine_type.as_deref())
            .map_err(|error| error.to_string())?;
        let mut registry = machine::registry(config.target, true);
        registry.set_compat(machine::compat::of(machine));
        let entropy = EntropySources::default();
        let opened = entropy.open_all(&registry, &config.machine.objects);
        opened.map_err(|error| error.to_string())?;
        let graph = Graph::default();
        let opener = AskMonitor(Rc::clone(&link));
        for blockdev in &config.machine.blockdevs {
            let added = graph.add(&opener, &blockdev.options);
            let pumped = link
                .wait_on(added, &main, &told_to_end)
                .map_err(|error| no_monitor(&error))?;
            // Only a signal comes between; it was told of. A monitor that gives up has said why.
            let (added, others) = pumped.ok_or_else(String::new)?;
            unheard.extend(others);
            added.map_err(|error| format!("{}: {}", blockdev.location, error.desc))?;
        }
        let back_ends = machine::BackEnds {
            chardevs,
            entropy: &entropy,
            networks: &networks,
            graph: &graph,
        };
        let guest = machine::create(
            config.target,
            &config.machine,
            config.only_migratable,
            back_ends,
            &notifier,
        )
        .map_err(|error| error.desc)?;
        let blocker = blockers(&*guest).into_iter().next().filter(|_| config.only_migratable);
        if let Some(blocker) = blocker {
            return Err(format!(
                "-only-migratable: disallowing migration blocker (--only-migratable) for: {blocker}"
            ));
        }
        let outbox = Rc::clone(&link);
        let outbox = Box::new(move |message: FromWorker| outbox.send(message));
        let outside = Outside {
            entropy,
            graph,
            opener: Box::new(opener),
            outbox,
        };
        let core = Core::new(config, Some(guest), registry, machine, outside).map_err(|error| error.desc)?;
        let asked = Rc::clone(&link);
        let asker: Asker = Box::new(move |request| asked.ask(request));
        // The core is made once.
        drop(core.asker.set(asker));
        drop(core.networks.set(networks));
        let core = Rc::new(core);
        core.migration.set_runs_on_arrival(!core.config.stopped);
        core.migration.connect(Surroundings {
            core: Rc::downgrade(&core),
            link: Rc::clone(&link),
            executor: Rc::clone(&executor),
        });
        // What a monitor has to know of a guest that exists; one that comes later learns it the same way.
        core.send(FromWorker::RunState(core.state()));
        core.send(FromWorker::Ready);
        let debugger = Rc::default();
        let sources = Sources {
            link: Rc::clone(&link),
            main,
            executor: Rc::clone(&executor),
            notices,
            told_to_end,
            debugger: Rc::clone(&debugger),
        };
        let mut worker = Self {
            core,
            executor,
            link,
            daemon,
            pidfile,
            debugger,
        };
        unheard.into_iter().try_for_each(|message| worker.message(message))?;
        Ok((worker, sources))
    }

    /// All monitors listen. A guest that was not to wait but cannot start is of no use: the process ends.
    fn proceed(&mut self) {
        if let Some(error) = self.daemon.take().and_then(|daemon| daemon.ready().err()) {
            report::error(format!("cannot leave the terminal: {}", report::reason(&error)));
        }
        if let Some(incoming) = self.core.config.incoming.clone() {
            return self.await_guest(&incoming);
        }
        if self.core.config.stopped {
            return;
        }
        if let Err(error) = self.core.cont() {
            report::error(format!("the guest cannot start: {error}"));
            return self.core.abort();
        }
        let waits = |debugger: &Debugger| debugger.has_client();
        if self.debugger.borrow().as_ref().is_some_and(waits) {
            // As if gdb had come right after the start.
            if let Err(error) = self.core.stop() {
                report::error(format!("gdbstub: {error}"));
            }
        }
    }

    /// Lets a guest come from where the command line says. Without that it is of no use.
    fn await_guest(&self, incoming: &Incoming) {
        let Incoming::From(address) = incoming else { return };
        let (core, address) = (Rc::clone(&self.core), address.clone());
        self.executor.spawn(async move {
            if let Err(error) = core.migration.await_guest(&address, true).await {
                report::error(format!("-incoming: {error}"));
                core.abort();
            }
        });
    }

    fn describe_host(&self) -> Result<Vec<u8>, Error> {
        match self.core.guest.as_deref() {
            Some(guest) => guest.describe_host(),
            None => Err(Error::generic("there is no guest")),
        }
    }

    fn answer(&mut self, id: u64, request: WorkerRequest) {
        match request {
            WorkerRequest::Call(call) => {
                let core = Rc::clone(&self.core);
                self.executor.spawn(async move {
                    let result = dispatch_worker(&*core, &(), call).await;
                    core.send(FromWorker::Answer { id, result });
                });
            }
            WorkerRequest::Inspect(question) => {
                let question = serde_json::from_str(&question)
                    .map_err(|error| Error::generic(format!("a question that cannot be understood: {error}")));
                let answer = question.and_then(|question| inspect::answer(&self.core, &question));
                self.core.send(FromWorker::Answer {
                    id,
                    result: answer.map(|value| value.to_string().into_bytes()),
                });
            }
            WorkerRequest::DescribeHost => self.core.send(FromWorker::Answer {
                id,
                result: self.describe_host(),
            }),
            WorkerRequest::Proceed => {
                self.proceed();
                // A guest that cannot start has no clients.
                if self.core.exit_status().is_none() {
                    self.core.send(done(id));
                }
            }
            WorkerRequest::StartDebugger(chardev) => self.start_debugger(id, chardev),
            WorkerRequest::StopDebugger => {
                if let Some(debugger) = self.debugger.take() {
                    debugger.leave();
                }
                self.core.send(done(id));
            }
            WorkerRequest::End(cause) => {
                self.core.terminate(cause);
                self.core.send(done(id));
            }
            WorkerRequest::ChangeLog(change) => {
                change.apply();
                self.core.send(done(id));
            }
        }
    }

    /// Answers once gdb may connect.
    fn start_debugger(&self, id: u64, chardev: String) {
        let core = Rc::clone(&self.core);
        if core.guest().is_ok_and(|guest| guest.debug().is_none()) {
            let result = Err(Error::generic(gdb::NO_DEBUGGING));
            return core.send(FromWorker::Answer { id, result });
        }
        let debugger = Rc::clone(&self.debugger);
        let line = self.link.ask(MonitorRequest::OpenConversation(chardev));
        self.executor.spawn(async move {
            let line = line.await.map_err(|_| Error::generic("the monitor did not answer"));
            let result = line.and_then(|line| line).map(|line| {
                let former = debugger.replace(Some(Debugger::new(Rc::clone(&core), line)));
                former.into_iter().for_each(Debugger::leave);
                Vec::new()
            });
            core.send(FromWorker::Answer { id, result });
        });
    }

    /// Says the last word, with which the monitor ends.
    fn end(self, status: u8) {
        if let Some(debugger) = self.debugger.take() {
            debugger.end(status);
        }
        drop(take(&self.pidfile));
        self.core.objects.borrow_mut().end();
        block_on(self.core.graph.close_all());
        self.link.send(FromWorker::Ending(status));
    }
}

/// The answer that holds nothing.
fn done(id: u64) -> FromWorker {
    let result = Ok(Vec::new());
    FromWorker::Answer { id, result }
}

impl Handler for Worker {
    fn message(&mut self, message: ToWorker) -> Result<(), String> {
        match message {
            ToWorker::Ask { id, request } => self.answer(id, request),
            ToWorker::Answer { id, result } => self.link.answered(id, result),
            ToWorker::Terminate(cause) => self.core.terminate(cause),
            // No device tells its guest who is at the other end of the line.
            ToWorker::Abort => self.core.abort(),
            // The link has read it.
            ToWorker::Hello(_) => {}
            ToWorker::Start(_) => return Err("a second start".into()),
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        if let Notice::DebugStop(index, stop) = notice {
            let mut debugger = self.debugger.borrow_mut();
            match debugger.as_mut().filter(|debugger| debugger.has_client()) {
                Some(debugger) => debugger.stopped(index, stop),
                None => return self.core.run_on(),
            }
        }
        self.core.notice(notice);
    }

    fn terminate(&mut self, cause: ShutdownCause) {
        self.core.terminate(cause);
    }

    fn exit_status(&self) -> Option<u8> {
        self.core.exit_status()
    }
}

/// Asks the monitor for the guest's side of every character device that a device of the command line uses. Returns the
/// lines, and what the monitor said beside its answers.
fn connect_chardevs(config: &Config, link: &Link, main: &Handle) -> Result<(Chardevs, Vec<ToWorker>), String> {
    let users = User::all(&config.machine);
    let asked: Vec<_> = users.map(|user| (user, link.ask(chardev_request(user)))).collect();
    let (mut chardevs, mut unheard) = (Chardevs::default(), Vec::new());
    for (user, answer) in asked {
        let Some((answer, others)) = link.wait_for(answer, main).map_err(|error| no_monitor(&error))? else {
            // So far only a signal rings, and it was told of; a monitor that gives up has said why.
            return Err(String::new());
        };
        unheard.extend(others);
        let line = answer.map_err(|error| user.refusal(&error).desc)?;
        chardevs.add(user.chardev(), Ok(line));
    }
    Ok((chardevs, unheard))
}

/// Adds a back end of the command line, with the descriptors that the monitor has for it.
fn add_netdev(
    netdev: &NetdevOption,
    networks: &Networks,
    link: &Link,
    main: &Handle,
    unheard: &mut Vec<ToWorker>,
) -> Result<(), String> {
    let mut fds = Vec::new();
    for name in netdev.config.descriptors() {
        let asked = link.ask(MonitorRequest::TakeDescriptor(name.to_owned()));
        let answer = link.wait_for(asked, main).map_err(|error| no_monitor(&error))?;
        // As where character devices are asked for.
        let Some((answer, others)) = answer else {
            return Err(String::new());
        };
        unheard.extend(others);
        fds.push(answer.map_err(|error| error.desc)?);
    }
    let opened = Opened::new(&netdev.config, fds);
    opened
        .and_then(|opened| networks.add(opened))
        .map_err(|error| error.to_string())
}

fn no_monitor(error: &ChannelError) -> String {
    format!("the monitor process is gone: {error}")
}
