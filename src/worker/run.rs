//! A worker's life: build the guest, serve the monitor, end.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use nix::unistd::Pid;

use crate::cmdline::Config;
use crate::devices::Notifier;
use crate::machine;
use crate::qapi::Error;
use crate::qapi::qmp::{ShutdownCause, dispatch_worker};
use crate::report;

use super::channel::{Channel, ChannelError, Received};
use super::core::Core;
use super::executor::Executor;
use super::mainloop::{Handler, Sources, block_signals};
use super::message::{FromWorker, ToWorker};
use super::pidfile::PidFile;
use super::process::DaemonStatus;
use super::sandbox;

/// Runs a guest until it ends, and returns the exit status of the process. `monitor` is the monitor's process id if it
/// is a child of this one; `daemon` is told once the guest is up.
#[must_use]
pub fn run(config: Config, socket: UnixStream, monitor: Option<Pid>, daemon: Option<DaemonStatus>) -> u8 {
    let writer = match socket.try_clone() {
        Ok(writer) => Rc::new(Channel::new(writer)),
        Err(error) => return give_up(&format!("cannot copy the socket to the monitor: {error}")),
    };
    match Worker::new(config, Channel::new(socket), Rc::clone(&writer), daemon) {
        Ok((mut worker, mut sources)) => {
            sources.monitor = monitor;
            let status = sources.run(&mut worker);
            worker.end(status)
        }
        Err(reason) => {
            // A server tells the client that asked for the guest. libvirt reads what was printed as soon as the monitor has
            // closed its sockets, and so before.
            let status = if monitor.is_some() { give_up(&reason) } else { 1 };
            // The monitor may be gone as well.
            let _ = writer.send(&FromWorker::Failed(reason).into_frame());
            status
        }
    }
}

fn give_up(reason: &str) -> u8 {
    reason.lines().for_each(report::error);
    1
}

struct Worker {
    core: Rc<Core>,
    executor: Rc<Executor>,
    writer: Rc<Channel>,
    daemon: Option<DaemonStatus>,
    pidfile: Option<PidFile>,
}

impl Worker {
    fn new(
        config: Config,
        mut channel: Channel,
        writer: Rc<Channel>,
        daemon: Option<DaemonStatus>,
    ) -> Result<(Self, Sources), String> {
        sandbox::enter(&config.sandbox)?;
        let signals = block_signals().map_err(|errno| format!("cannot wait for signals: {errno}"))?;
        let executor = Rc::new(Executor::new().map_err(|errno| format!("cannot make an event descriptor: {errno}"))?);
        let pidfile = config.pidfile.as_deref().map(PidFile::create).transpose()?;
        let (sender, notices) = mpsc::channel();
        let alarm = Arc::clone(executor.alarm());
        let notifier: Notifier = Arc::new(move |notice| {
            // The main loop outlives every device; a notice after its end has no one to act on it.
            let _ = sender.send(notice);
            alarm.ring();
        });
        let chardevs = connect_chardevs(&config, &mut channel, &writer)?;
        let machine =
            machine::types::of(config.target, config.machine.machine_type.as_deref()).map_err(|error| error.desc)?;
        let guest = machine::create(
            config.target,
            &config.machine,
            config.only_migratable,
            chardevs,
            &notifier,
        )
        .map_err(|error| error.desc)?;
        let outbox = Rc::clone(&writer);
        let outbox = Box::new(move |message: FromWorker| {
            // The main loop notices the end of the monitor by itself.
            let _ = outbox.send(&message.into_frame());
        });
        let registry = machine::registry(config.target, true);
        let core = Core::new(config, Some(guest), registry, machine, outbox).map_err(|error| error.desc)?;
        let core = Rc::new(core);
        core.send(FromWorker::Ready);
        let sources = Sources {
            channel,
            executor: Rc::clone(&executor),
            notices,
            signals,
            monitor: None,
        };
        Ok((
            Self {
                core,
                executor,
                writer,
                daemon,
                pidfile,
            },
            sources,
        ))
    }

    /// All monitors listen. A guest that was not to wait but cannot start is of no use: the process ends.
    fn proceed(&mut self) {
        if let Some(error) = self.daemon.take().and_then(|daemon| daemon.ready().err()) {
            report::error(format!("cannot leave the terminal: {error}"));
        }
        if self.core.config.stopped {
            return;
        }
        if let Err(error) = self.core.cont() {
            report::error(format!("the guest cannot start: {error}"));
            self.core.abort();
        }
    }

    fn describe_host(&self) -> Result<Vec<u8>, Error> {
        match self.core.guest.as_deref() {
            Some(guest) => guest.describe_host(),
            None => Err(Error::generic("there is no guest")),
        }
    }

    fn answer(&self, id: u64, result: Result<Vec<u8>, Error>) {
        self.core.send(FromWorker::Reply { id, result });
    }

    /// Lets the monitor pass on the last events, and ends.
    fn end(self, status: u8) -> u8 {
        drop(self.pidfile);
        let farewell = self.writer.send(&FromWorker::Ending(status).into_frame());
        if farewell.is_ok() {
            // The monitor closes its end once its clients have read everything; it does not wait for slow ones.
            self.writer.wait_for_end();
        }
        status
    }
}

impl Handler for Worker {
    fn message(&mut self, received: Received) -> Result<(), String> {
        let id = received.frame.id;
        match ToWorker::from_frame(received.frame)? {
            ToWorker::Call(call) => {
                let core = Rc::clone(&self.core);
                self.executor.spawn(async move {
                    let result = dispatch_worker(&*core, &(), call).await;
                    core.send(FromWorker::Reply { id, result });
                });
            }
            ToWorker::Proceed => self.proceed(),
            ToWorker::Terminate(cause) => self.core.terminate(cause),
            ToWorker::DescribeHost => self.answer(id, self.describe_host()),
            // No device tells its guest who is at the other end of the line.
            ToWorker::ChardevState { .. } | ToWorker::ChardevBreak { .. } => {}
            ToWorker::Abort => self.core.abort(),
            ToWorker::Chardev | ToWorker::NoChardev(_) => return Err("a character device nobody asked for".into()),
            ToWorker::Start(_) => return Err("a second start".into()),
        }
        Ok(())
    }

    fn notice(&mut self, notice: crate::devices::Notice) {
        self.core.notice(notice);
    }

    fn terminate(&mut self, cause: ShutdownCause) {
        self.core.terminate(cause);
    }

    fn exit_status(&self) -> Option<u8> {
        self.core.exit_status()
    }
}

/// Asks the monitor for the guest's side of every character device that a device of the command line uses.
fn connect_chardevs(
    config: &Config,
    channel: &mut Channel,
    writer: &Channel,
) -> Result<HashMap<String, UnixStream>, String> {
    let mut streams = HashMap::new();
    let devices = config
        .machine
        .devices
        .iter()
        .filter_map(|device| device.get("chardev")?.as_str());
    let serials = config
        .machine
        .serials
        .iter()
        .map(String::as_str)
        .filter(|serial| *serial != "none");
    for label in devices.chain(serials) {
        if streams.contains_key(label) {
            return Err(format!("character device '{label}' is in use"));
        }
        let request = FromWorker::NeedChardev {
            id: 0,
            label: label.to_owned(),
        };
        writer.send(&request.into_frame()).map_err(|error| no_monitor(&error))?;
        streams.insert(label.to_owned(), wait_for_chardev(channel)?);
    }
    Ok(streams)
}

/// The stream that was asked for. What else happens at a character device meanwhile is no news for a guest that is not there.
fn wait_for_chardev(channel: &mut Channel) -> Result<UnixStream, String> {
    loop {
        let received = channel.receive().map_err(|error| no_monitor(&error))?;
        match (ToWorker::from_frame(received.frame)?, received.fds.into_iter().next()) {
            (ToWorker::Chardev, Some(stream)) => return Ok(UnixStream::from(stream)),
            (ToWorker::NoChardev(error), _) => return Err(error.desc),
            // The monitor has said why.
            (ToWorker::Abort, _) => return Err(String::new()),
            (ToWorker::ChardevState { .. } | ToWorker::ChardevBreak { .. }, _) => {}
            _ => return Err("the monitor answered out of turn".into()),
        }
    }
}

fn no_monitor(error: &ChannelError) -> String {
    format!("the monitor process is gone: {error}")
}
