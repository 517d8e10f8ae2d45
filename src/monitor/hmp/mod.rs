//! The human monitor: a line is a command, and every command is QMP commands and a text made of their replies.
//!
//! [`execute`] runs one line (`human-monitor-command`), [`Person`] is somebody who types lines. The commands
//! are declared in [`table`], once, with their arguments and their help.

mod arguments;
mod commands;
mod controllers;
mod editor;
mod expression;
mod format;
mod info;
mod keys;
mod log;
mod memory;
mod paging;
mod pci;
mod session;
mod stats;
mod table;

pub use editor::History;
pub use session::{Answer, Line, Person};

use std::future::Future;

use serde_json::{Map, Value};

use crate::ipc::message::LogChange;
use crate::qapi::Error;
use crate::worker::inspect::Inspect;
use format::Format;
use table::Command;

/// What runs the QMP commands behind the human ones.
pub trait HmpHost {
    /// Runs a QMP command with arguments as a client would send them.
    fn qmp(&self, command: &str, arguments: Map<String, Value>) -> impl Future<Output = Result<Value, Error>>;
    /// Asks what no QMP command tells.
    fn inspect(&self, question: Inspect) -> impl Future<Output = Result<Value, Error>>;
    /// Lets gdb debug the guest on a device, written as for `-gdb`; `none` ends that. Returns the path of a new terminal.
    fn debugger(&self, device: &str) -> impl Future<Output = Result<Option<String>, Error>>;
    /// Changes what is logged.
    fn change_log(&self, change: LogChange) -> impl Future<Output = Result<(), Error>>;
    /// Logs to the end of this file from now on.
    fn log_to(&self, path: &str) -> impl Future<Output = Result<(), Error>>;
    /// The list of devices that users may make, as `-device help` has it.
    fn devices_help(&self) -> String;
}

/// What one monitor remembers between two lines.
#[derive(Clone, Debug, Default)]
pub struct MonitorState {
    /// The index of the vCPU that commands about a vCPU mean; none is the first.
    pub cpu: Option<i64>,
    /// How numbers were shown the last time.
    format: Format,
}

impl MonitorState {
    /// For a monitor whose commands mean this vCPU; none is the first.
    #[must_use]
    pub fn of_cpu(cpu: Option<i64>) -> Self {
        Self { cpu, ..Self::default() }
    }
}

/// Runs one line. The result is what a terminal shows: its lines end in CR LF, and errors are among them.
pub async fn execute(host: &impl HmpHost, state: &mut MonitorState, line: &str) -> String {
    let mut text = match run(host, state, line).await {
        Ok(text) => text,
        Err(Failure::Usage(text)) => text,
        Err(Failure::Qmp(error)) => format!("Error: {error}"),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.replace('\n', "\r\n")
}

/// Why a command did not do what was asked.
#[derive(Debug)]
enum Failure {
    /// The line is wrong: what to tell.
    Usage(String),
    /// A QMP command failed.
    Qmp(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Qmp(error)
    }
}

async fn run(host: &impl HmpHost, state: &mut MonitorState, line: &str) -> Result<String, Failure> {
    let (name, rest) = split_name(line);
    if name.is_empty() {
        return Ok(String::new());
    }
    let command = table::find(table::COMMANDS, name).ok_or_else(|| unknown(name))?;
    if !matches!(command.run, table::Run::Info) {
        return run_command(host, state, command, name, rest).await;
    }
    let (topic, topic_rest) = split_name(rest);
    if topic.is_empty() {
        return Ok(table::help_all(table::TOPICS, "info "));
    }
    let full = format!("{name} {topic}");
    let command = table::find(table::TOPICS, topic).ok_or_else(|| unknown(&full))?;
    run_command(host, state, command, &full, topic_rest).await
}

async fn run_command(
    host: &impl HmpHost,
    state: &mut MonitorState,
    command: &Command,
    typed: &str,
    rest: &str,
) -> Result<String, Failure> {
    let registers = match rest.contains('$') {
        true => registers(host, state).await,
        false => Map::new(),
    };
    let arguments = arguments::parse(command, rest, &registers)
        .map_err(|complaint| Failure::Usage(format!("{complaint}\nTry \"help {typed}\" for more information\n")))?;
    commands::run(host, state, command.run, arguments).await
}

/// The registers of the vCPU that was chosen; none where there is no vCPU.
async fn registers(host: &impl HmpHost, state: &MonitorState) -> Map<String, Value> {
    let cpu = memory::cpu(state);
    match host.inspect(Inspect::RegisterValues { cpu }).await {
        Ok(Value::Object(registers)) => registers,
        _ => Map::new(),
    }
}

/// The first word of a line, which a space or a format (`print/x`) ends, and what follows.
fn split_name(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let end = line
        .find(|character: char| character.is_whitespace() || character == '/')
        .unwrap_or(line.len());
    line.split_at(end)
}

fn unknown(name: &str) -> Failure {
    Failure::Usage(format!("unknown command: '{name}'\n"))
}

#[cfg(test)]
mod tests;
