//! The guests of a server.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::cmdline::{self, Config, Parsed};
use crate::host::inherited::Inherited;
use crate::monitor;
use crate::qapi::Error;
use crate::qapi::remuda::{Event, GuestCreateArgs, GuestExitReason, GuestExitedEvent, GuestInfo};
use crate::report;
use crate::server::zygote::Fate;

use super::nursery::Nursery;
use super::options::Options;

/// Every guest by id, and whoever wants to hear of their ends.
pub(super) struct Registry {
    options: Options,
    nursery: Nursery,
    guests: RefCell<BTreeMap<String, Guest>>,
    clients: RefCell<Vec<mpsc::UnboundedSender<Rc<Event>>>>,
    next_id: Cell<u64>,
    quit: Notify,
}

struct Guest {
    pid: i32,
    qmp: PathBuf,
    monitor: JoinHandle<u8>,
    destroyed: bool,
}

impl Registry {
    /// A server without guests. Makes its directory.
    pub(super) fn new(options: Options, nursery: Nursery) -> Result<Self, String> {
        let failed = |error| format!("{}: {}", options.directory.display(), report::reason(&error));
        std::fs::create_dir_all(&options.directory).map_err(failed)?;
        Ok(Self {
            options,
            nursery,
            guests: RefCell::default(),
            clients: RefCell::default(),
            next_id: Cell::new(1),
            quit: Notify::new(),
        })
    }

    /// The architecture of the guests.
    pub(super) fn target(&self) -> crate::target::Target {
        self.options.target
    }

    /// Binds the control socket, which only the server's own user may use.
    pub(super) fn listen(&self) -> Result<UnixListener, String> {
        let path = &self.options.control;
        let failed = |error: std::io::Error| format!("{}: {}", path.display(), report::reason(&error));
        if UnixStream::connect(path).is_ok() {
            return Err(format!("{}: another server listens there", path.display()));
        }
        // A socket that nobody listens on is what a former server left behind.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(listener)
    }

    /// Events from now on.
    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<Rc<Event>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.clients.borrow_mut().push(sender);
        receiver
    }

    /// Creates a guest.
    pub(super) async fn create(&self, args: GuestCreateArgs) -> Result<GuestInfo, Error> {
        let id = self.choose_id(args.id)?;
        let qmp = self.options.directory.join(format!("{id}.qmp"));
        let mut arguments = args.arguments;
        if let Some(name) = args.name {
            arguments.extend(["-name".to_owned(), format!("guest={}", name.replace(',', ",,"))]);
        }
        let path = qmp
            .to_str()
            .ok_or_else(|| Error::generic("the server's directory is not UTF-8"))?;
        arguments.extend([
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", path.replace(',', ",,")),
        ]);
        let config = self.understand(&arguments)?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Error::generic(format!("cannot make a socket pair: {error}")))?;
        let pid = self.nursery.spawn(theirs).await?;
        let (outcome, started) = oneshot::channel();
        let start = monitor::Start { arguments, outcome };
        let monitor = tokio::task::spawn_local(monitor::serve_worker(config, ours, Inherited::default(), Some(start)));
        let guest = Guest {
            pid,
            qmp,
            monitor,
            destroyed: false,
        };
        let info = guest.info(&id);
        self.guests.borrow_mut().insert(id.clone(), guest);
        match started.await {
            Ok(Ok(())) => Ok(info),
            Ok(Err(error)) => {
                // The client learns of the failure here; the end of the worker is no news.
                self.guests.borrow_mut().remove(&id);
                Err(error)
            }
            Err(_) => Err(Error::generic(format!("the worker process of guest '{id}' has ended"))),
        }
    }

    /// Ends a guest.
    pub(super) fn destroy(&self, id: &str) -> Result<(), Error> {
        let mut guests = self.guests.borrow_mut();
        let guest = guests
            .get_mut(id)
            .ok_or_else(|| Error::device_not_found(format!("Guest '{id}' not found")))?;
        guest.destroyed = true;
        guest.terminate();
        Ok(())
    }

    /// Every guest.
    pub(super) fn list(&self) -> Vec<GuestInfo> {
        self.guests.borrow().iter().map(|(id, guest)| guest.info(id)).collect()
    }

    /// A worker has ended.
    pub(super) fn ended(&self, pid: i32, fate: Fate) {
        let mut guests = self.guests.borrow_mut();
        let Some(id) = guests
            .iter()
            .find(|(_, guest)| guest.pid == pid)
            .map(|(id, _)| id.clone())
        else {
            return;
        };
        let Some(guest) = guests.remove(&id) else {
            return;
        };
        let (status, signal) = match fate {
            Fate::Exited(status) => (Some(i64::from(status)), None),
            Fate::Signaled(signal) => (None, Some(i64::from(signal))),
        };
        let reason = match fate {
            _ if guest.destroyed => GuestExitReason::Destroyed,
            Fate::Exited(_) => GuestExitReason::Exited,
            Fate::Signaled(signal) => {
                report::error(format!("guest '{id}': its worker {pid} was ended by signal {signal}"));
                GuestExitReason::Crashed
            }
        };
        let event = GuestExitedEvent {
            id,
            pid: i64::from(pid),
            reason,
            status,
            signal,
        };
        let event = Rc::new(Event::GuestExited(event));
        self.clients
            .borrow_mut()
            .retain(|client| client.send(Rc::clone(&event)).is_ok());
    }

    /// `quit`.
    pub(super) fn quit(&self) {
        self.quit.notify_one();
    }

    /// Waits for `quit`.
    pub(super) async fn told_to_quit(&self) {
        self.quit.notified().await;
    }

    /// Ends every guest, and takes the sockets away.
    pub(super) async fn close(&self) {
        let guests = self.guests.take();
        guests.values().for_each(Guest::terminate);
        for guest in guests.into_values() {
            // A monitor ends with its worker.
            let _ = guest.monitor.await;
        }
        // Somebody may have tidied up.
        let _ = std::fs::remove_file(&self.options.control);
    }

    fn choose_id(&self, id: Option<String>) -> Result<String, Error> {
        let guests = self.guests.borrow();
        let Some(id) = id else {
            loop {
                let number = self.next_id.get();
                self.next_id.set(number + 1);
                let id = format!("guest{number}");
                if !guests.contains_key(&id) {
                    return Ok(id);
                }
            }
        };
        if !crate::qapi::text::is_well_formed_id(&id) {
            return Err(Error::generic("Parameter 'id' expects an identifier"));
        }
        if guests.contains_key(&id) {
            return Err(Error::generic(format!("Duplicate ID '{id}' for guest")));
        }
        Ok(id)
    }

    /// Reads a guest's command line, to refuse a wrong one before there is a process for it.
    fn understand(&self, arguments: &[String]) -> Result<Config, Error> {
        let words = arguments.iter().map(Into::into);
        let parsed = cmdline::parse(self.options.target, words, &|path| std::fs::read_to_string(path));
        match parsed {
            Ok(Parsed::Run(config)) if config.is_probe() => {
                Err(Error::generic("a machine without a guest needs no server"))
            }
            Ok(Parsed::Run(config)) if config.daemonize => {
                Err(Error::generic("-daemonize: makes no sense for a guest of a server"))
            }
            Ok(Parsed::Run(config)) if config.log.is_asked_for() => {
                Err(Error::generic("-D, -d and -trace: the log is the server's"))
            }
            Ok(Parsed::Run(config)) => Ok(*config),
            Ok(Parsed::Help(_)) => Err(Error::generic("the command line asks for help, not for a guest")),
            Err(error) => Err(Error::generic(error.to_string())),
        }
    }
}

impl Guest {
    fn info(&self, id: &str) -> GuestInfo {
        GuestInfo {
            id: id.to_owned(),
            pid: i64::from(self.pid),
            qmp: self.qmp.display().to_string(),
        }
    }

    fn terminate(&self) {
        // It may have ended by itself in this instant.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
    }
}
