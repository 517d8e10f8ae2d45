//! One QMP connection, without the connection: bytes in, replies and commands to run out.
//!
//! ```text
//!            feed(bytes)                          complete(ticket, result)
//!                |                                          |
//!     json::Stream: values                                  |
//!                |                                          |
//!     request: execute / exec-oob ----- out of band -----> Output::Run
//!                |                                          |
//!             queue  -- one at a time, in order ---------> Output::Run
//!                |                                          |
//!                +---- what the session answers itself --> Output::Send
//! ```
//!
//! A session starts in capability negotiation: only `qmp_capabilities` is accepted, and no events are sent. Replies
//! to in-band commands come in the order of the commands; a client may send the next before it has read the last.

mod message;
mod queue;
mod request;

use std::time::Duration;

use serde_json::{Map, Value};

use super::Error;
use super::command::{Api, CommandSpec, Run};
use super::json::Stream;
use super::qmp::{QMPCapability, QmpCapabilitiesArgs};
use super::visit::{self, WireEvent};
use crate::target::Target;
use queue::{Pending, Queue};
use request::Parsed;

/// What a session is told at its start.
#[derive(Clone, Debug)]
pub struct Config<Id: 'static> {
    /// The commands there are.
    pub api: Api<Id>,
    /// The architecture of the guest.
    pub target: Target,
    /// The reply of `query-version`, which is part of the greeting.
    pub version: Vec<u8>,
    /// Whether out-of-band commands are offered.
    pub oob: bool,
    /// Whether messages are broken into lines and indented.
    pub pretty: bool,
}

/// Names a command that was handed out to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A command to run.
#[derive(Clone, Debug)]
pub struct Request<Id: 'static> {
    /// What [`Session::complete`] wants to hear.
    pub ticket: Ticket,
    /// The command.
    pub command: &'static CommandSpec<Id>,
    /// Its arguments, not yet checked.
    pub arguments: Map<String, Value>,
    /// Whether it was sent out of band, to be run ahead of everything else.
    pub oob: bool,
}

/// What a session wants done.
#[derive(Clone, Debug)]
pub enum Output<Id: 'static> {
    /// Send these bytes to the client.
    Send(Vec<u8>),
    /// Run this command, and say how it went.
    Run(Request<Id>),
}

/// One QMP connection.
#[derive(Debug)]
pub struct Session<Id: 'static> {
    config: Config<Id>,
    stream: Stream,
    phase: Phase,
    queue: Queue,
    /// Commands that are being run.
    running: Vec<Running>,
    next_ticket: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until `qmp_capabilities` has succeeded.
    Negotiation,
    /// From then on.
    Command {
        /// Whether the client switched out-of-band commands on.
        oob: bool,
    },
}

#[derive(Debug)]
struct Running {
    ticket: Ticket,
    id: Option<Value>,
    oob: bool,
    success_response: bool,
}

impl<Id: Copy> Session<Id> {
    /// A session whose client has said nothing yet.
    #[must_use]
    pub fn new(config: Config<Id>) -> Self {
        Self {
            config,
            stream: Stream::default(),
            phase: Phase::Negotiation,
            queue: Queue::default(),
            running: Vec::new(),
            next_ticket: 0,
        }
    }

    /// What the client is sent first.
    #[must_use]
    pub fn greeting(&self) -> Vec<u8> {
        let capabilities: &[QMPCapability] = if self.config.oob { QMPCapability::ALL } else { &[] };
        self.finish(message::greeting(&self.config.version, capabilities))
    }

    /// Takes bytes from the client, however they are split.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Output<Id>> {
        let mut values = Vec::new();
        self.stream.feed(bytes, |result| values.push(result));
        let mut outputs = Vec::new();
        for value in values {
            self.accept(value, &mut outputs);
            self.run_next(&mut outputs);
        }
        outputs
    }

    /// Takes the result of a command: the encoded return value, or the error. A ticket can be used once.
    pub fn complete(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) -> Vec<Output<Id>> {
        let mut outputs = Vec::new();
        let Some(index) = self.running.iter().position(|running| running.ticket == ticket) else {
            return outputs;
        };
        let Running {
            id, success_response, ..
        } = self.running.swap_remove(index);
        if success_response || result.is_err() {
            outputs.push(self.reply(id.as_ref(), result));
        }
        self.run_next(&mut outputs);
        outputs
    }

    /// Whether more bytes are welcome. While they are not, the client is to wait: leave them in the socket.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let oob = matches!(self.phase, Phase::Command { oob: true });
        self.queue.has_room(oob, self.in_band_is_running())
    }

    /// Whether every request is answered and no other has begun.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty() && self.stream.is_between_values()
    }

    /// The bytes that tell the client of an event at `time` since 1970-01-01 00:00 UTC; none before the negotiation
    /// is over.
    #[must_use]
    pub fn event(&self, event: &impl WireEvent, time: Duration) -> Option<Vec<u8>> {
        match self.phase {
            Phase::Negotiation => None,
            Phase::Command { .. } => Some(self.finish(message::event(event, time))),
        }
    }

    /// Takes one value from the client.
    fn accept(&mut self, value: Result<Value, Error>, outputs: &mut Vec<Output<Id>>) {
        let oob_is_on = matches!(self.phase, Phase::Command { oob: true });
        let parsed = match value {
            Ok(value) => request::parse(value, oob_is_on),
            Err(error) => Parsed::bad(None, error),
        };
        if parsed.oob {
            return self.start(parsed, outputs);
        }
        self.queue.push(parsed);
    }

    /// Hands out what is first in the queue, as long as nothing in band is running.
    fn run_next(&mut self, outputs: &mut Vec<Output<Id>>) {
        while !self.in_band_is_running() {
            let Some(parsed) = self.queue.pop() else {
                return;
            };
            self.start(parsed, outputs);
        }
    }

    fn in_band_is_running(&self) -> bool {
        self.running.iter().any(|running| !running.oob)
    }

    /// Answers a request, or hands it out.
    fn start(&mut self, parsed: Parsed, outputs: &mut Vec<Output<Id>>) {
        let Parsed { id, oob, pending } = parsed;
        let found = pending.and_then(|pending| {
            let command = self.find(&pending.command, oob)?;
            Ok((command, pending))
        });
        let (command, Pending { arguments, .. }) = match found {
            Ok(found) => found,
            Err(error) => return outputs.push(self.reply(id.as_ref(), Err(error))),
        };
        if command.run == Run::Session {
            let result = self.run_here(command.name, arguments);
            return outputs.push(self.reply(id.as_ref(), result));
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.running.push(Running {
            ticket,
            id,
            oob,
            success_response: command.success_response,
        });
        outputs.push(Output::Run(Request {
            ticket,
            command,
            arguments,
            oob,
        }));
    }

    /// The command of this name, if it may be run now and in this way.
    fn find(&self, name: &str, oob: bool) -> Result<&'static CommandSpec<Id>, Error> {
        if self.phase == Phase::Negotiation && name != NEGOTIATE {
            return Err(Error::command_not_found(
                "Expecting capabilities negotiation with 'qmp_capabilities'",
            ));
        }
        let Some(command) = (self.config.api.find_command)(self.config.target, name) else {
            return Err(visit::command_not_found(name));
        };
        if oob && !command.allow_oob {
            return Err(Error::generic(format!("The command {name} does not support OOB")));
        }
        Ok(command)
    }

    /// Runs a command of the protocol itself.
    fn run_here(&mut self, name: &str, arguments: Map<String, Value>) -> Result<Vec<u8>, Error> {
        match name {
            NEGOTIATE => self.negotiate(arguments),
            "query-commands" => {
                visit::no_arguments(arguments)?;
                Ok((self.config.api.commands_json)(self.config.target).to_vec())
            }
            "query-qmp-schema" => {
                visit::no_arguments(arguments)?;
                Ok((self.config.api.schema_json)(self.config.target).to_vec())
            }
            other => Err(visit::command_not_found(other)),
        }
    }

    fn negotiate(&mut self, arguments: Map<String, Value>) -> Result<Vec<u8>, Error> {
        let QmpCapabilitiesArgs { enable } = visit::decode_arguments(arguments)?;
        if self.phase != Phase::Negotiation {
            return Err(Error::command_not_found(
                "Capabilities negotiation is already complete, command ignored",
            ));
        }
        let oob = enable.is_some_and(|enable| enable.contains(&QMPCapability::Oob));
        if oob && !self.config.oob {
            return Err(Error::generic(format!(
                "Capability {} not available",
                QMPCapability::Oob
            )));
        }
        self.phase = Phase::Command { oob };
        Ok(visit::encoded_nothing())
    }

    fn reply(&self, id: Option<&Value>, result: Result<Vec<u8>, Error>) -> Output<Id> {
        Output::Send(self.finish(match result {
            Ok(value) => message::success(id, &value),
            Err(error) => message::failure(id, &error),
        }))
    }

    /// Makes a message ready to be sent.
    fn finish(&self, message: Vec<u8>) -> Vec<u8> {
        let mut message = if self.config.pretty {
            message::pretty(&message)
        } else {
            message
        };
        message.extend_from_slice(b"\r\n");
        message
    }
}

/// The command that ends the negotiation.
const NEGOTIATE: &str = "qmp_capabilities";

#[cfg(test)]
mod tests;
