//! A guest arrives.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;

use rustix::event::PollFlags;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Migration, Opened, address, open, spawn};
use crate::io::run_blocking;
use crate::ipc::message::MonitorRequest;
use crate::ipc::socket;
use crate::machine::saved::{Migratable, StateLoader};
use crate::machine::types;
use crate::migration::{Cancel, Channel, Devices, MigrationError, receive, report};
use crate::qapi::Error;
use crate::qapi::qmp::{MigrateIncomingArgs, MigrationAddress, MigrationStatus, RunState};
use crate::report::{self as say, reason};
use crate::vmstate::{ReceivedSection, StateError, StateErrorKind};
use crate::worker::core::Core;

/// A section of a device, on its way from the thread that reads to the one that has the guest.
struct Asked {
    name: String,
    instance: u32,
    version: u32,
    bytes: Vec<u8>,
    end: Vec<u8>,
    answer: std_mpsc::Sender<Result<Option<usize>, StateError>>,
}

/// The guest as the thread that reads sees it.
struct Far(UnboundedSender<Asked>);

impl Devices for Far {
    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError> {
        let (answer, answered) = std_mpsc::channel();
        let asked = Asked {
            name: section.name.to_owned(),
            instance: section.instance,
            version: section.version,
            bytes: section.bytes.to_vec(),
            end: end.to_vec(),
            answer,
        };
        self.0.send(asked).map_err(|_| MigrationError::Ending)?;
        Ok(answered.recv().map_err(|_| MigrationError::Ending)??)
    }
}

impl Migration {
    /// `migrate-incoming`. Returns once the source can reach this side.
    ///
    /// # Errors
    /// No guest is awaited, one is on its way already, or there is no such place.
    pub async fn migrate_incoming(&self, core: &Core, args: MigrateIncomingArgs) -> Result<(), Error> {
        let address = address(args.uri.as_deref(), args.channels)?;
        if core.state() != RunState::Inmigrate {
            return Err(Error::generic("'-incoming' was not specified on the command line"));
        }
        self.await_guest(&address, args.exit_on_error.unwrap_or(true)).await
    }

    /// Lets a guest come from there.
    ///
    /// # Errors
    /// One is on its way already, or there is no such place.
    pub async fn await_guest(&self, address: &MigrationAddress, exit_on_error: bool) -> Result<(), Error> {
        if self.arrival_began.replace(true) {
            return Err(Error::generic("The incoming migration has already been started"));
        }
        let surroundings = self.surroundings()?;
        let core = surroundings
            .core
            .upgrade()
            .ok_or_else(|| Error::generic("the guest is ending"))?;
        self.begin(&core, true);
        let opened: Opened = open(surroundings, MonitorRequest::ListenMigration, address);
        let ticket = match opened.await {
            Ok(ticket) => ticket,
            Err(error) => {
                // Another place may do.
                self.arrival_began.set(false);
                self.end(&core, MigrationStatus::Failed, Some(error.desc.clone()));
                return Err(error);
            }
        };
        spawn(surroundings, async move {
            core.migration.arrive(&core, ticket, exit_on_error).await;
        });
        Ok(())
    }

    async fn arrive(&self, core: &Rc<Core>, ticket: OwnedFd, exit_on_error: bool) {
        let error = match self.take_over(core, ticket).await {
            Ok(()) => return,
            Err(error) => error.desc,
        };
        self.end(core, MigrationStatus::Failed, Some(error.clone()));
        if exit_on_error {
            say::error(format!("load of migration failed: {error}"));
            core.abort();
        }
    }

    async fn take_over(&self, core: &Rc<Core>, ticket: OwnedFd) -> Result<(), Error> {
        let cancel = Cancel::new().map_err(|error| Error::generic(reason(&error)))?;
        self.job.borrow_mut().cancel = Some(cancel.clone());
        let channel = run_blocking(move || {
            let fd = redeem(&ticket, &cancel)?;
            Channel::new(fd, cancel)
        });
        let no_channel = |error: io::Error| Error::generic(format!("the channel: {}", reason(&error)));
        let mut channel = channel.await?.map_err(no_channel)?;
        self.step(core, MigrationStatus::Active);
        let guest = core.guest()?.migratable();
        let guest = guest.ok_or_else(|| Error::generic("this machine's guests cannot be saved"))?;
        let arrived = self.load(core, guest, &channel).await;
        match arrived {
            Ok((state, has_way_back)) => {
                // The source lets go of the guest before it runs here.
                if has_way_back {
                    run_blocking(move || report(&mut channel, true))
                        .await?
                        .map_err(|error| Error::generic(error.to_string()))?;
                }
                core.has_arrived(&state, self.runs_on_arrival.get())?;
                self.end(core, MigrationStatus::Completed, None);
                Ok(())
            }
            Err(error) => {
                // A source that waits to be told learns it; another one sees the channel closed.
                let told = run_blocking(move || report(&mut channel, false)).await?;
                if let Err(untold) = told {
                    tracing::debug!(%untold, "the source is not told of the failure");
                }
                Err(error)
            }
        }
    }

    /// Takes the guest over. Returns what it was doing, and whether the source waits to be told.
    async fn load(&self, core: &Core, guest: &dyn Migratable, channel: &Channel) -> Result<(String, bool), Error> {
        let memory = guest.memory()?;
        let refused = |error: StateError| Error::generic(error.to_string());
        let mut loader = guest.loader().map_err(refused)?;
        let machine = types::of(core.target, core.config.machine.machine_type.as_deref())?.name;
        let (sender, asked) = unbounded_channel();
        let channel = channel.try_clone().map_err(|error| Error::generic(reason(&error)))?;
        let work = run_blocking(move || receive(&channel, machine, &memory, &mut Far(sender)));
        let (received, ()) = tokio::join!(work, serve(&mut *loader, asked));
        let (has_way_back, _) = received?.map_err(|error| Error::generic(error.to_string()))?;
        Ok((loader.finish().map_err(refused)?, has_way_back))
    }
}

/// Takes sections over as they come.
async fn serve(loader: &mut (dyn StateLoader + '_), mut asked: UnboundedReceiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        // The thread waits for the answer.
        let _ = asked.answer.send(take_section(loader, &asked));
    }
}

fn take_section(loader: &mut dyn StateLoader, asked: &Asked) -> Result<Option<usize>, StateError> {
    let mut section = ReceivedSection {
        name: &asked.name,
        instance: asked.instance,
        version: asked.version,
        bytes: &asked.bytes,
    };
    let len = match loader.measure(&section) {
        Ok(len) => len,
        Err(error) if matches!(error.kind, StateErrorKind::Truncated { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (bytes, rest) = asked.bytes.split_at(len);
    if !rest.starts_with(&asked.end) {
        // What looks like the end may be the beginning of a subsection that has not come yet.
        const SUBSECTION: u8 = 5;
        let is_open =
            rest.len() < asked.end.len() || rest[0] == SUBSECTION && rest.len() < 2 + usize::from(rest[1]) + 4;
        return match is_open {
            true => Ok(None),
            false => Err(StateError::new(StateErrorKind::Refused(format!(
                "Missing section footer for {}",
                asked.name
            )))),
        };
    }
    section.bytes = bytes;
    loader.load(&section)?;
    Ok(Some(len))
}

/// Waits for the descriptor that the monitor sends once the source is there.
fn redeem(ticket: &OwnedFd, cancel: &Cancel) -> io::Result<OwnedFd> {
    loop {
        cancel.wait(ticket, PollFlags::IN)?;
        let mut fds = Vec::new();
        match socket::receive(ticket, &mut [0], &mut fds) {
            Ok(_) => {
                let lost = || io::Error::new(io::ErrorKind::UnexpectedEof, "the monitor has no channel");
                return fds.pop().ok_or_else(lost);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
