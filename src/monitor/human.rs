//! The human monitor of a guest: its commands are QMP commands of the same guest.

use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::chardev::ChardevOptions;
use crate::cmdline::debugger::{self, Device};
use crate::ipc::message::{LogChange, WorkerRequest};
use crate::logging;
use crate::qapi::Error;
use crate::qapi::command::Run;
use crate::qapi::qmp::{Call, Event, commands_json, find_command, schema_json};
use crate::qapi::visit::Policy;

use super::VersionTriple;
use super::events::{EventReader, Happened};
use super::guest::Guest;
use super::hmp::{self, Answer, History, HmpHost, Line, MonitorState, Person};
use super::pump::{CallContext, Service, Task};
use crate::worker::inspect::Inspect;

impl HmpHost for Guest {
    async fn qmp(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        let spec = find_command(self.target(), command)
            .ok_or_else(|| Error::command_not_found(format!("The command {command} has not been found")))?;
        let bytes = match (spec.run, command) {
            (Run::Session, "query-commands") => commands_json(self.target()).to_vec(),
            (Run::Session, "query-qmp-schema") => schema_json(self.target()).to_vec(),
            _ => {
                let call = Call::decode(spec.id, arguments, Policy::ACCEPT_ALL)?;
                // A command that asks for a human command again is bounded by the length of its line.
                Box::pin(self.run(&CallContext::default(), call)).await?
            }
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::generic(format!("the reply of {command}: {error}")))
    }

    async fn inspect(&self, question: Inspect) -> Result<Value, Error> {
        let link = self.link().ok_or_else(|| Error::generic("this machine has no guest"))?;
        let question = serde_json::json!(question).to_string();
        let answer = link.ask(WorkerRequest::Inspect(question)).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::generic(format!("the worker's answer: {error}")))
    }

    async fn debugger(&self, device: &str) -> Result<Option<String>, Error> {
        let link = self.link().ok_or_else(|| Error::generic(debugger::NO_CPU))?;
        let own = debugger::CHARDEV_ID;
        if device == debugger::NONE {
            link.ask(WorkerRequest::StopDebugger).await?;
            if self.chardevs.query().iter().any(|chardev| chardev.label == own) {
                self.chardevs.remove(own).await?;
            }
            return Ok(None);
        }
        let options = match debugger::device(device).map_err(Error::generic)? {
            Device::Reference(id) => {
                link.ask(WorkerRequest::StartDebugger(id)).await?;
                return Ok(None);
            }
            Device::Own(options, _) => ChardevOptions::from_monitor(&options)?,
        };
        let added = self.chardevs.add(options).await?;
        self.chardevs.ready(own).await;
        if let Err(error) = link.ask(WorkerRequest::StartDebugger(own.to_owned())).await {
            // Nobody uses it.
            let _ = self.chardevs.remove(own).await;
            return Err(error);
        }
        Ok(added.pty)
    }

    async fn change_log(&self, change: LogChange) -> Result<(), Error> {
        Guest::change_log(self, change).await
    }

    async fn log_to(&self, path: &str) -> Result<(), Error> {
        if self.chardevs.fds().is_one_among_many() {
            return Err(Error::generic("the log of a guest goes where its server's messages go"));
        }
        let path = PathBuf::from(path);
        // Whatever lies there may be slow to open.
        let opened = tokio::task::spawn_blocking(move || logging::open(&path, false)).await;
        let opened = opened.map_err(|_| Error::generic("the log file could not be opened"))?;
        let file = opened.map_err(|error| Error::generic(error.to_string()))?;
        Guest::change_log(self, LogChange::File(file.into())).await
    }

    fn devices_help(&self) -> String {
        self.registry.devices_help()
    }
}

/// Talks to people at one human monitor.
pub(super) struct HumanService {
    guest: Rc<Guest>,
    history: History,
}

impl HumanService {
    /// A monitor nobody has been at.
    pub(super) fn new(guest: Rc<Guest>) -> Self {
        Self {
            guest,
            history: History::default(),
        }
    }
}

impl Service for HumanService {
    type Talk = Person;
    type Event = Event;

    fn begin(&self) -> Person {
        let VersionTriple { major, minor, micro } = super::version().qemu;
        Person::new(format!("{major}.{minor}.{micro}"), History::clone(&self.history))
    }

    fn events(&self) -> EventReader<Event> {
        self.guest.news.events.subscribe()
    }

    /// People are not told of events.
    fn tell(&self, _: &Person, _: &Happened<Event>) -> Option<Vec<u8>> {
        None
    }

    fn start(&self, _: &CallContext, request: Line) -> Task<Answer> {
        let guest = Rc::clone(&self.guest);
        Box::pin(async move {
            let Line { text, mut state } = request;
            let text = hmp::execute(&*guest, &mut state, &text).await;
            Answer { text, state }
        })
    }
}

/// Checks that there is a vCPU of this index.
///
/// # Errors
/// There is none.
pub(super) async fn check_cpu(guest: &Guest, index: i64) -> Result<(), Error> {
    let cpus = guest.qmp("query-cpus-fast", Map::new()).await?;
    let exists = cpus
        .as_array()
        .into_iter()
        .flatten()
        .any(|cpu| cpu["cpu-index"] == index);
    match exists {
        true => Ok(()),
        false => Err(Error::generic("Parameter 'cpu-index' expects a CPU number")),
    }
}

/// Runs one line, as `human-monitor-command` does.
pub(super) async fn run(guest: &Guest, line: &str, cpu: Option<i64>) -> String {
    hmp::execute(guest, &mut MonitorState::of_cpu(cpu), line).await
}
