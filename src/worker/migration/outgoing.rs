//! A guest leaves.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt::SockType};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::{Migration, Opened, address, open, spawn};
use crate::io::run_blocking;
use crate::ipc::message::MonitorRequest;
use crate::machine::saved::Migratable;
use crate::machine::types;
use crate::migration::{Cancel, Channel, MigrationError, News, Options, Outgoing};
use crate::qapi::Error;
use crate::qapi::qmp::{MigrateArgs, MigrationAddress, MigrationStatus, RunState, SocketAddress};
use crate::report::reason;
use crate::worker::core::Core;
use crate::worker::runstate::Before;

/// The first release whose machines know that a guest is told to have stopped.
const TELLS_SWITCHOVER: (u16, u16) = (10, 0);

impl Migration {
    /// `migrate`. Returns once the other side can be reached, as far as that is known at once.
    ///
    /// # Errors
    /// The guest cannot leave now, or there is no such place.
    pub async fn migrate(&self, core: &Core, args: MigrateArgs) -> Result<(), Error> {
        if args.resume.unwrap_or(false) {
            return Err(Error::generic("Cannot resume if there is no paused migration"));
        }
        let address = address(args.uri.as_deref(), args.channels)?;
        self.check_departure(core)?;
        let surroundings = self.surroundings()?;
        let core = surroundings
            .core
            .upgrade()
            .ok_or_else(|| Error::generic("the guest is ending"))?;
        self.begin(&core, false);
        let mut opened = open(surroundings, MonitorRequest::OpenMigration, &address);
        if !is_far(&address) {
            match opened.await {
                Ok(fd) => opened = Box::pin(std::future::ready(Ok(fd))),
                Err(error) => {
                    self.end(&core, MigrationStatus::Failed, Some(error.desc.clone()));
                    return Err(error);
                }
            }
        }
        spawn(surroundings, async move { core.migration.leave(&core, opened).await });
        Ok(())
    }

    fn check_departure(&self, core: &Core) -> Result<(), Error> {
        if self.is_leaving() {
            return Err(Error::generic("There's a migration process in progress"));
        }
        match core.state() {
            RunState::Inmigrate => return Err(Error::generic("Guest is waiting for an incoming migration")),
            RunState::Postmigrate => {
                return Err(Error::generic(
                    "Can't migrate the vm that was paused due to previous migration",
                ));
            }
            _ => {}
        }
        core.guest()?;
        match core.migration_blockers().into_iter().next() {
            Some(blocker) => Err(Error::generic(blocker)),
            None => Ok(()),
        }
    }

    /// From when the other side is being reached to the end.
    async fn leave(&self, core: &Rc<Core>, opened: Opened) {
        let mut before = None;
        let (status, error) = match self.send(core, opened, &mut before).await {
            Ok(()) => (MigrationStatus::Completed, None),
            // It did not matter any more why it failed.
            Err(_) if self.job.borrow().status == MigrationStatus::Cancelling => (MigrationStatus::Cancelled, None),
            Err(error) => (MigrationStatus::Failed, Some(error.desc)),
        };
        match before {
            Some(_) if status == MigrationStatus::Completed => core.has_left(),
            Some(before) => {
                self.end(core, status, error);
                return core.go_back(before);
            }
            None => {}
        }
        self.end(core, status, error);
    }

    /// `before` is what the guest was doing, once it was stopped for this.
    async fn send(&self, core: &Rc<Core>, opened: Opened, before: &mut Option<Before>) -> Result<(), Error> {
        let cancelled = Rc::clone(&self.job.borrow().cancelled);
        let fd = tokio::select! {
            opened = opened => opened?,
            () = cancelled.notified() => return Err(failed(&MigrationError::Cancelled)),
        };
        let outgoing = self.precopy(core, fd).await?;
        let state = core.stop_to_leave()?;
        *before = Some(state);
        self.job.borrow_mut().stopped = Some(Instant::now());
        self.pause_before_switchover(core).await?;
        if self.job.borrow().status == MigrationStatus::Cancelling {
            return Err(failed(&MigrationError::Cancelled));
        }
        self.step(core, MigrationStatus::Device);
        let sections = migratable(core)?.save(state.name());
        let sections = sections.map_err(|error| Error::generic(error.to_string()))?;
        let finished = run_blocking(move || outgoing.finish(&sections)).await?;
        outgoing_result(finished)
    }

    /// Sends memory while the guest runs.
    async fn precopy(&self, core: &Rc<Core>, fd: OwnedFd) -> Result<Outgoing, Error> {
        let options = self.options(core, &fd)?;
        let memory = migratable(core)?.memory()?;
        let cancel = Cancel::new().map_err(|error| Error::generic(reason(&error)))?;
        let channel = Channel::new(fd, cancel.clone());
        let channel = channel.map_err(|error| Error::generic(format!("the channel: {}", reason(&error))))?;
        let progress = {
            let mut job = self.job.borrow_mut();
            job.cancel = Some(cancel);
            Arc::clone(&job.progress)
        };
        let limits = Arc::clone(&self.limits);
        let (sender, mut news) = unbounded_channel();
        let work = run_blocking(move || {
            let mut outgoing = Outgoing::start(channel, memory, options, limits, progress, sender)?;
            outgoing.precopy()?;
            Ok(outgoing)
        });
        let mut work = std::pin::pin!(work);
        let outgoing = loop {
            tokio::select! {
                biased;
                Some(news) = news.recv() => self.hear(core, news),
                outgoing = &mut work => break outgoing?,
            }
        };
        self.hear_rest(core, &mut news);
        outgoing_result(outgoing)
    }

    fn options(&self, core: &Core, fd: &OwnedFd) -> Result<Options, Error> {
        let return_path = self.capabilities.borrow().return_path;
        if return_path && getsockopt(fd, SockType).is_err() {
            return Err(Error::generic(
                "Unable to open return-path: the channel has one direction only",
            ));
        }
        let machine = types::of(core.target, core.config.machine.machine_type.as_deref())?;
        Ok(Options {
            machine: machine.name.to_owned(),
            tells_switchover: machine.release().is_some_and(|release| release >= TELLS_SWITCHOVER),
            return_path,
        })
    }

    fn hear(&self, core: &Core, news: News) {
        match news {
            News::Active => {
                {
                    let mut job = self.job.borrow_mut();
                    job.setup = Some(job.started.elapsed());
                }
                if self.job.borrow().status == MigrationStatus::Setup {
                    self.step(core, MigrationStatus::Active);
                }
            }
            News::Pass(pass) => self.passed(core, pass),
        }
    }

    fn hear_rest(&self, core: &Core, news: &mut UnboundedReceiver<News>) {
        while let Ok(news) = news.try_recv() {
            self.hear(core, news);
        }
    }

    /// Waits for `migrate-continue`, if that is wanted.
    async fn pause_before_switchover(&self, core: &Core) -> Result<(), Error> {
        if !self.capabilities.borrow().pause_before_switchover
            || self.job.borrow().status == MigrationStatus::Cancelling
        {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        self.job.borrow_mut().go_on = Some(sender);
        self.step(core, MigrationStatus::PreSwitchover);
        receiver.await.map_err(|_| failed(&MigrationError::Cancelled))
    }
}

/// Whether reaching the place may take long: then nobody waits for it.
fn is_far(address: &MigrationAddress) -> bool {
    matches!(
        address,
        MigrationAddress::Socket(SocketAddress::Inet(_) | SocketAddress::Unix(_))
    )
}

fn migratable(core: &Core) -> Result<&dyn Migratable, Error> {
    let none = || Error::generic("this machine's guests cannot be saved");
    core.guest()?.migratable().ok_or_else(none)
}

fn outgoing_result<T>(result: Result<T, MigrationError>) -> Result<T, Error> {
    result.map_err(|error| failed(&error))
}

fn failed(error: &MigrationError) -> Error {
    Error::generic(error.to_string())
}
