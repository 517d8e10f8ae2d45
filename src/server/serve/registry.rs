//! The guests of a server.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::rc::Rc;

use tokio::sync::{Notify, oneshot};

use crate::chardev::FdTable;
use crate::monitor::events::{EventBus, EventReader};
use crate::qapi::Error;
use crate::qapi::remuda::{Event, GuestCreateArgs, GuestInfo};
use crate::report;
use crate::target::Target;

use super::guest::Guest;
use super::lock::Lock;
use super::nursery::Nursery;
use super::options::Options;
use super::order::Wish;

/// Every guest by id, and whoever wants to hear of their ends.
pub(super) struct Registry {
    options: Options,
    nursery: Nursery,
    guests: RefCell<BTreeMap<String, Rc<Guest>>>,
    events: EventBus<Event>,
    next_id: Cell<u64>,
    quit: Notify,
    closing: Cell<bool>,
    _directory: Lock,
}

impl Registry {
    /// A server without guests. Makes its directory, which no other server may use.
    pub(super) fn new(options: Options, nursery: Nursery) -> Result<Self, String> {
        let directory = &options.directory;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| format!("{}: {}", directory.display(), report::reason(&error)))?;
        let lock = Lock::take(directory.join("server.lock"))?;
        Ok(Self {
            options,
            nursery,
            guests: RefCell::default(),
            events: EventBus::default(),
            next_id: Cell::new(1),
            quit: Notify::new(),
            closing: Cell::new(false),
            _directory: lock,
        })
    }

    /// The architecture of the guests.
    pub(super) fn target(&self) -> Target {
        self.options.target
    }

    /// Waits until there can be no more guests.
    pub(super) async fn orphaned(&self) {
        self.nursery.closed().await;
    }

    /// Events from now on.
    pub(super) fn subscribe(&self) -> EventReader<Event> {
        self.events.subscribe()
    }

    /// Sends the events that come too often for their clients. Never returns.
    pub(super) async fn send_events(&self) {
        self.events.run().await;
    }

    /// Creates a guest, which gets the descriptors `fds`.
    pub(super) async fn create(self: &Rc<Self>, args: GuestCreateArgs, fds: FdTable) -> Result<GuestInfo, Error> {
        if self.closing.get() {
            return Err(Error::generic("the server is about to end"));
        }
        let id = self.choose_id(args.id)?;
        let qmp = self.options.directory.join(format!("{id}.qmp"));
        let wish = Wish {
            target: self.options.target,
            id: id.clone(),
            name: args.name,
            arguments: args.arguments,
            fds,
            qmp: qmp.clone(),
        };
        let name = wish.name.clone().unwrap_or_else(|| id.clone());
        let guest = Rc::new(Guest::new(id.clone(), name, qmp));
        // From here on the identifier is taken, and whatever happens it is given back.
        self.guests.borrow_mut().insert(id, Rc::clone(&guest));
        let registry = Rc::clone(self);
        let (outcome, made) = oneshot::channel();
        // The guest goes on if the client that asked for it does not wait.
        tokio::task::spawn_local(async move { registry.live(guest, wish, outcome).await });
        made.await
            .unwrap_or_else(|_| Err(Error::generic("the guest could not be made")))
    }

    /// Ends a guest, and returns when it is gone.
    pub(super) async fn destroy(&self, id: &str) -> Result<(), Error> {
        let not_found = || Error::device_not_found(format!("Guest '{id}' not found"));
        let guest = self.guests.borrow().get(id).cloned().ok_or_else(not_found)?;
        let first = guest.stop();
        guest.wait_until_gone(Guest::deadline()).await?;
        if first { Ok(()) } else { Err(not_found()) }
    }

    /// Every guest.
    pub(super) fn list(&self) -> Vec<GuestInfo> {
        self.guests.borrow().values().map(|guest| guest.info()).collect()
    }

    /// `quit`.
    pub(super) fn quit(&self) {
        self.quit.notify_one();
    }

    /// Waits for `quit`.
    pub(super) async fn told_to_quit(&self) {
        self.quit.notified().await;
    }

    /// Ends every guest, within a limit, and then the events.
    pub(super) async fn close(&self) {
        self.closing.set(true);
        let guests: Vec<_> = self.guests.borrow().values().cloned().collect();
        let deadline = Guest::deadline();
        for guest in &guests {
            guest.stop();
        }
        for guest in &guests {
            if let Err(error) = guest.wait_until_gone(deadline).await {
                report::error(error.desc);
            }
        }
        self.events.close();
    }

    /// One guest from its first moment to its last.
    async fn live(&self, guest: Rc<Guest>, wish: Wish, outcome: oneshot::Sender<Result<GuestInfo, Error>>) {
        let forget = || drop(self.guests.borrow_mut().remove(&guest.id));
        let exited = guest.live(&self.nursery, wish.understand(), outcome, forget).await;
        if let Some(event) = exited {
            self.events.emit(Event::GuestExited(event));
        }
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
}
