//! One QMP connection, without the connection: bytes in, replies and commands to run out.
//!
//! ```text
//!            feed(bytes)                          complete(ticket, result)
//!                |                                          |
//!     json::Stream: values                                  |
//!                |                                          |
//!     request: execute / exec-oob ----- out of band ----+   |
//!                |                                      v   v
//!             queue  -- one at a time, in order --> next_output(): Run, Send
//! ```
//!
//! Nothing is worked out before it is asked for, so that what a client costs is bounded by how much it reads.
//!
//! A session starts in capability negotiation: only `qmp_capabilities` is accepted, and no events are sent. Replies
//! to in-band commands come in the order of the commands; a client may send the next before it has read the last.

mod message;
mod queue;
mod request;
mod schema;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Error;
use super::command::{Api, CommandSpec, Run};
use super::json::Stream;
use super::qmp::{QMPCapability, QmpCapabilitiesArgs};
use super::visit::{self, Policy, WireEvent};
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
    /// What the client may use, and is told of.
    pub compat: Compat,
}

/// `-compat`: what clients are to do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compat {
    /// What they may use.
    pub input: Policy,
    /// Whether they are told nothing that will go away. Of what is served here, that is in the reply of `query-qmp-schema`
    /// alone.
    pub hides_deprecated: bool,
}

impl Default for Compat {
    fn default() -> Self {
        Self {
            input: Policy::ACCEPT_ALL,
            hides_deprecated: false,
        }
    }
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
pub enum Output<R> {
    /// Send these bytes to the client.
    Send(Vec<u8>),
    /// Run this, and say how it went.
    Run(R),
}

/// One QMP connection.
#[derive(Debug)]
pub struct Session<Id: 'static> {
    config: Config<Id>,
    stream: Stream,
    phase: Phase,
    queue: Queue,
    /// What is to be handed out before anything of the queue.
    ready: VecDeque<Output<Request<Id>>>,
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
    /// A session whose client has said nothing yet. The greeting is its first output.
    #[must_use]
    pub fn new(config: Config<Id>) -> Self {
        let capabilities: &[QMPCapability] = if config.oob { QMPCapability::ALL } else { &[] };
        let greeting = message::greeting(&config.version, capabilities);
        let mut session = Self {
            config,
            stream: Stream::default(),
            phase: Phase::Negotiation,
            queue: Queue::default(),
            ready: VecDeque::new(),
            running: Vec::new(),
            next_ticket: 0,
        };
        session.ready.push_back(Output::Send(session.finish(greeting)));
        session
    }

    /// Takes bytes from the client, however they are split.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut values = Vec::new();
        self.stream.feed(bytes, |result| values.push(result));
        for value in values {
            self.accept(value);
        }
    }

    /// What is to be done next; none until something comes from the client or a command is done.
    pub fn next_output(&mut self) -> Option<Output<Request<Id>>> {
        while self.ready.is_empty() && !self.in_band_is_running() {
            let parsed = self.queue.pop()?;
            self.start(parsed);
        }
        self.ready.pop_front()
    }

    /// Takes the result of a command: the encoded return value, or the error. A ticket can be used once.
    pub fn complete(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) {
        let Some(index) = self.running.iter().position(|running| running.ticket == ticket) else {
            return;
        };
        let Running {
            id, success_response, ..
        } = self.running.swap_remove(index);
        if success_response || result.is_err() {
            let reply = self.reply(id.as_ref(), result);
            self.ready.push_back(reply);
        }
    }

    /// Whether more bytes are welcome. While they are not, the client is to wait: leave them in the socket.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let oob = matches!(self.phase, Phase::Command { oob: true });
        let room = self.queue.has_room(oob, self.in_band_is_running());
        room && self.ready.is_empty() && self.running.len() <= MOST_RUNNING
    }

    /// Whether everything that was asked for is done and handed out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.ready.is_empty() && self.running.is_empty()
    }

    /// Whether no request has come in part.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.stream.is_between_values()
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
    fn accept(&mut self, value: Result<Value, Error>) {
        let oob_is_on = matches!(self.phase, Phase::Command { oob: true });
        let parsed = match value {
            Ok(value) => request::parse(value, oob_is_on),
            Err(error) => Parsed::bad(None, error),
        };
        match parsed.oob {
            true => self.start(parsed),
            false => self.queue.push(parsed),
        }
    }

    fn in_band_is_running(&self) -> bool {
        self.running.iter().any(|running| !running.oob)
    }

    /// Answers a request, or hands it out.
    fn start(&mut self, parsed: Parsed) {
        let Parsed { id, oob, pending } = parsed;
        let found = pending.and_then(|pending| {
            let command = self.find(&pending.command, oob)?;
            Ok((command, pending))
        });
        let output = match found {
            Err(error) => self.reply(id.as_ref(), Err(error)),
            Ok((command, Pending { arguments, .. })) if command.run == Run::Session => {
                let result = self.run_here(command.name, arguments);
                self.reply(id.as_ref(), result)
            }
            Ok((command, Pending { arguments, .. })) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.running.push(Running {
                    ticket,
                    id,
                    oob,
                    success_response: command.success_response,
                });
                Output::Run(Request {
                    ticket,
                    command,
                    arguments,
                    oob,
                })
            }
        };
        self.ready.push_back(output);
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
        for feature in command.features {
            self.config.compat.input.check(*feature, "command", name)?;
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
                let schema = (self.config.api.schema_json)(self.config.target);
                match self.config.compat.hides_deprecated {
                    true => schema::without_deprecated(schema),
                    false => Ok(schema.to_vec()),
                }
            }
            other => Err(visit::command_not_found(other)),
        }
    }

    fn negotiate(&mut self, arguments: Map<String, Value>) -> Result<Vec<u8>, Error> {
        let QmpCapabilitiesArgs { enable } = visit::decode_arguments(arguments, self.config.compat.input)?;
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

    fn reply(&self, id: Option<&Value>, result: Result<Vec<u8>, Error>) -> Output<Request<Id>> {
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

/// How many commands may run out of band before the client is to wait.
const MOST_RUNNING: usize = 8;

/// The command that ends the negotiation.
const NEGOTIATE: &str = "qmp_capabilities";

#[cfg(test)]
mod tests;
