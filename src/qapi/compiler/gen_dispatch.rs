//! Commands: table, handler traits, typed calls and their dispatch.

use std::fmt::Write;

use super::gen_types::{doc_comment, policed, rust_type};
use super::names::{camel, snake};
use super::schema::{Arch, Command, Data, Run, Schema};

/// Everything about the commands of `schema`, whose generated files start with `name`.
pub(crate) fn generate(schema: &Schema, name: &str) -> String {
    let mut out = String::new();
    let mut commands: Vec<&Command> = schema.commands.iter().collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    command_table(&mut out, &commands);
    api(&mut out, name);
    let monitor = side(&mut out, &commands, Run::Monitor);
    let worker = side(&mut out, &commands, Run::Worker);
    if monitor && worker {
        any_call(&mut out, &commands);
    }
    out
}

fn command_table(out: &mut String, commands: &[&Command]) {
    out.push_str(
        "/// A command of this schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandId {
",
    );
    for command in commands {
        let _ = writeln!(out, "    /// `{}`.\n    {},", command.name, camel(&command.name));
    }
    out.push_str(
        "}
impl CommandId {
    /// What the schema says about the command.
    #[must_use]
    pub fn info(self) -> &'static CommandSpec {
        &COMMANDS[self as usize]
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }
}
/// What the schema says about a command.
pub type CommandSpec = crate::qapi::command::CommandSpec<CommandId>;
/// Every command, sorted by name.
",
    );
    let _ = writeln!(out, "pub static COMMANDS: [CommandSpec; {}] = [", commands.len());
    for command in commands {
        let _ = writeln!(
            out,
            "    CommandSpec {{ name: {:?}, id: CommandId::{}, run: crate::qapi::command::Run::{:?}, allow_oob: {}, \
             allow_preconfig: {}, success_response: {}, features: &[{}], targets: {} }},",
            command.name,
            camel(&command.name),
            command.run,
            command.allow_oob,
            command.allow_preconfig,
            command.success_response,
            policed(&command.features)
                .map(|feature| feature.replace("visit", "crate::qapi::visit"))
                .collect::<Vec<_>>()
                .join(", "),
            targets(&command.archs),
        );
    }
    out.push_str(
        "];
/// The command of this name, if `target` has it.
#[must_use]
pub fn find_command(target: crate::target::Target, name: &str) -> Option<&'static CommandSpec> {
    let index = COMMANDS.binary_search_by(|command| command.name.cmp(name)).ok()?;
    Some(&COMMANDS[index]).filter(|command| command.targets.contains(&target))
}
",
    );
}

fn targets(archs: &[Arch]) -> String {
    let targets: Vec<_> = archs
        .iter()
        .map(|arch| format!("crate::target::Target::{}", arch.target()))
        .collect();
    format!("&[{}]", targets.join(", "))
}

fn api(out: &mut String, name: &str) {
    for (function, what) in [("schema", "query-qmp-schema"), ("commands", "query-commands")] {
        let _ = writeln!(
            out,
            "/// The reply of `{what}` on `target`.
#[must_use]
pub const fn {function}_json(target: crate::target::Target) -> &'static [u8] {{
    match target {{"
        );
        for arch in Arch::ALL {
            let _ = writeln!(
                out,
                "        crate::target::Target::{} => include_bytes!(concat!(env!(\"OUT_DIR\"), \
                 \"/qapi_{name}_{}_{function}.json\")),",
                arch.target(),
                arch.name()
            );
        }
        out.push_str("    }\n}\n");
    }
    out.push_str(
        "/// What a session needs to know of this schema.
pub static API: crate::qapi::command::Api<CommandId> =
    crate::qapi::command::Api { find_command, schema_json, commands_json };
",
    );
}

/// The Rust type of a command's arguments.
fn arguments(command: &Command) -> Option<String> {
    match &command.data {
        _ if !command.typed => Some("serde_json::Map<String, serde_json::Value>".to_owned()),
        Data::None => None,
        Data::Inline(_) => Some(format!("{}Args", camel(&command.name))),
        Data::Named(name) => Some(name.clone()),
    }
}

/// Trait, calls and dispatch for the commands that run at `run`; whether there are any.
fn side(out: &mut String, all: &[&Command], run: Run) -> bool {
    let (here, elsewhere): (Vec<&Command>, Vec<&Command>) = all.iter().partition(|command| command.run == run);
    if here.is_empty() {
        return false;
    }
    handler_trait(out, &here, run);
    call_enum(out, &here, run);
    call_impl(out, &here, &elsewhere, run);
    dispatch(out, &here, run);
    true
}

fn handler_trait(out: &mut String, commands: &[&Command], run: Run) {
    let _ = write!(
        out,
        "/// Handlers of the commands that run in the {}.
pub trait {run:?}Commands {{
    /// What a handler needs to know of where the command came from.
    type Context;
",
        place(run)
    );
    for command in commands {
        doc_comment(out, "    ", &command.doc.text);
        if !command.doc.returns.is_empty() {
            out.push_str("    ///\n");
            doc_comment(out, "    ", &format!("Returns {}", command.doc.returns));
        }
        let arguments = arguments(command).map(|ty| format!(", args: {ty}"));
        let returns = command.returns.as_ref().map_or("()".to_owned(), rust_type);
        let _ = writeln!(
            out,
            "    fn {}(&self, cx: &Self::Context{}) -> impl Future<Output = Result<{returns}, Error>>;",
            snake(&command.name),
            arguments.unwrap_or_default()
        );
    }
    out.push_str("}\n");
}

fn place(run: Run) -> &'static str {
    match run {
        Run::Monitor => "monitor",
        Run::Worker => "worker",
        Run::Session => "session",
    }
}

fn call_enum(out: &mut String, commands: &[&Command], run: Run) {
    let _ = write!(
        out,
        "/// A command that runs in the {}, with its arguments checked.
#[derive(Clone, Debug, PartialEq)]
pub enum {run:?}Call {{
",
        place(run)
    );
    for command in commands {
        let payload = arguments(command).map(|ty| format!("({ty})"));
        let _ = writeln!(
            out,
            "    /// `{}`.\n    {}{},",
            command.name,
            camel(&command.name),
            payload.unwrap_or_default()
        );
    }
    out.push_str("}\n");
}

fn call_impl(out: &mut String, here: &[&Command], elsewhere: &[&Command], run: Run) {
    let mut decode = String::new();
    let mut command_arms = String::new();
    let mut encode = String::new();
    for command in here {
        let variant = camel(&command.name);
        let _ = match arguments(command) {
            None => writeln!(
                decode,
                "            CommandId::{variant} => visit::no_arguments(arguments).map(|()| Self::{variant}),"
            ),
            Some(_) if !command.typed => {
                writeln!(
                    decode,
                    "            CommandId::{variant} => Ok(Self::{variant}(arguments)),"
                )
            }
            Some(_) => writeln!(
                decode,
                "            CommandId::{variant} => visit::decode_arguments(arguments, policy).map(Self::{variant}),"
            ),
        };
        let ignored = arguments(command).map_or("", |_| "(_)");
        let _ = writeln!(
            command_arms,
            "            Self::{variant}{ignored} => CommandId::{variant},"
        );
        let _ = match arguments(command) {
            None => writeln!(
                encode,
                "            Self::{variant} => out.extend_from_slice(b\"{{}}\"),"
            ),
            Some(_) => writeln!(
                encode,
                "            Self::{variant}(args) => visit::Encode::encode(args, out),"
            ),
        };
    }
    if !elsewhere.is_empty() {
        let ids: Vec<_> = elsewhere
            .iter()
            .map(|command| format!("CommandId::{}", camel(&command.name)))
            .collect();
        let _ = writeln!(
            decode,
            "            {} => Err(visit::command_not_found(id.name())),",
            ids.join(" | ")
        );
    }
    let _ = write!(
        out,
        "impl {run:?}Call {{
    /// Checks the arguments of a command.
    ///
    /// # Errors
    /// The command does not run in the {place}, or the first argument that is missing, unexpected, of the wrong kind or
    /// against `policy`.
    pub fn decode(
        id: CommandId,
        arguments: serde_json::Map<String, serde_json::Value>,
        policy: visit::Policy,
    ) -> Result<Self, Error> {{
        match id {{
{decode}        }}
    }}

    /// The command.
    #[must_use]
    pub const fn command(&self) -> CommandId {{
        match self {{
{command_arms}        }}
    }}

    /// Appends the arguments as a JSON object, which [`Self::decode`] takes back.
    pub fn encode_arguments(&self, out: &mut Vec<u8>) {{
        match self {{
{encode}        }}
    }}
}}
",
        place = place(run)
    );
}

fn dispatch(out: &mut String, commands: &[&Command], run: Run) {
    let place = place(run);
    let _ = write!(
        out,
        "/// Runs a command and encodes what it returns; `{{}}` if that is nothing.
///
/// # Errors
/// What the handler says.
pub async fn dispatch_{place}<H: {run:?}Commands>(
    handlers: &H,
    cx: &H::Context,
    call: {run:?}Call,
) -> Result<Vec<u8>, Error> {{
    match call {{
"
    );
    for command in commands {
        let variant = camel(&command.name);
        let handler = snake(&command.name);
        let (pattern, argument) = match arguments(command) {
            Some(_) => ("(args)", ", args"),
            None => ("", ""),
        };
        let encode = match command.returns {
            Some(_) => "|value| visit::encoded(&value)",
            None => "|()| visit::encoded_nothing()",
        };
        let _ = writeln!(
            out,
            "        {run:?}Call::{variant}{pattern} => Box::pin(handlers.{handler}(cx{argument})).await.map({encode}),"
        );
    }
    out.push_str("    }\n}\n");
}

fn any_call(out: &mut String, commands: &[&Command]) {
    let mut arms = String::new();
    for run in [Run::Monitor, Run::Worker] {
        let ids: Vec<_> = commands
            .iter()
            .filter(|command| command.run == run)
            .map(|command| format!("CommandId::{}", camel(&command.name)))
            .collect();
        let _ = writeln!(
            arms,
            "            {} => {run:?}Call::decode(id, arguments, policy).map(Self::{run:?}),",
            ids.join(" | ")
        );
    }
    let session: Vec<_> = commands
        .iter()
        .filter(|command| command.run == Run::Session)
        .map(|command| format!("CommandId::{}", camel(&command.name)))
        .collect();
    if !session.is_empty() {
        let _ = writeln!(
            arms,
            "            {} => Err(visit::command_not_found(id.name())),",
            session.join(" | ")
        );
    }
    let _ = write!(
        out,
        "/// A command with its arguments checked, told apart by where it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {{
    /// It runs in the monitor.
    Monitor(MonitorCall),
    /// It runs in the worker.
    Worker(WorkerCall),
}}
impl Call {{
    /// Checks the arguments of a command.
    ///
    /// # Errors
    /// The session answers the command itself, or the first argument that is missing, unexpected, of the wrong kind or
    /// against `policy`.
    pub fn decode(
        id: CommandId,
        arguments: serde_json::Map<String, serde_json::Value>,
        policy: visit::Policy,
    ) -> Result<Self, Error> {{
        match id {{
{arms}        }}
    }}
}}
"
    );
}
