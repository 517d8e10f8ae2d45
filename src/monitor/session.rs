//! QMP: what is said on a control monitor, of a guest or of the server.

use std::rc::Rc;

use super::events::{EventReader, Happened};
use super::guest::Guest;
use super::pump::{CallContext, Conversation, Service, Task};
use crate::qapi::Error;
use crate::qapi::qmp::{API, Call, CommandId, Event};
use crate::qapi::session::{Config, Output, Request, Session, Ticket};
use crate::qapi::visit::encoded;

/// How a command went.
pub struct Done {
    /// Which one.
    pub ticket: Ticket,
    /// Its encoded return value, or its error.
    pub result: Result<Vec<u8>, Error>,
}

impl<Id: Copy> Conversation for Session<Id> {
    type Request = Request<Id>;
    type Done = Done;

    fn feed(&mut self, bytes: &[u8]) {
        self.feed(bytes);
    }

    fn next_output(&mut self) -> Option<Output<Request<Id>>> {
        self.next_output()
    }

    fn complete(&mut self, done: Done) {
        self.complete(done.ticket, done.result);
    }

    fn wants_input(&self) -> bool {
        self.wants_input()
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn is_between_requests(&self) -> bool {
        self.is_between_requests()
    }

    /// A program does not care who else uses its line.
    fn focus(&mut self, _: bool) {}
}

/// One control monitor of a guest.
pub(super) struct QmpService {
    guest: Rc<Guest>,
    pretty: bool,
}

impl QmpService {
    /// A monitor of `guest`; `pretty` is whether its messages are broken into lines.
    pub(super) fn new(guest: Rc<Guest>, pretty: bool) -> Self {
        Self { guest, pretty }
    }
}

impl Service for QmpService {
    type Talk = Session<CommandId>;
    type Event = Event;

    fn begin(&self) -> Session<CommandId> {
        Session::new(Config {
            api: API,
            target: self.guest.target(),
            version: encoded(&super::version()),
            oob: true,
            pretty: self.pretty,
            compat: self.guest.compat(),
        })
    }

    fn events(&self) -> EventReader<Event> {
        self.guest.news.events.subscribe()
    }

    fn tell(&self, talk: &Session<CommandId>, happened: &Happened<Event>) -> Option<Vec<u8>> {
        talk.event(&happened.event, happened.at)
    }

    fn start(&self, context: &CallContext, request: Request<CommandId>) -> Task<Done> {
        let (guest, context) = (Rc::clone(&self.guest), context.clone());
        let ticket = request.ticket;
        Box::pin(async move {
            let result = match Call::decode(request.command.id, request.arguments, guest.compat().input) {
                Ok(call) => guest.run(&context, call).await,
                Err(error) => Err(error),
            };
            Done { ticket, result }
        })
    }
}
