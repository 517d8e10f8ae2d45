//! What generated code says about commands.

use super::visit::Feature;
use crate::target::Target;

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// In the monitor process.
    Monitor,
    /// In the worker process of the guest.
    Worker,
    /// In the protocol session, which needs nobody's help for it.
    Session,
}

/// What the schema says about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSpec<Id: 'static> {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its id in the generated code.
    pub id: Id,
    /// Where it runs.
    pub run: Run,
    /// Whether it may run out of band.
    pub allow_oob: bool,
    /// Whether it may run before the machine is made.
    pub allow_preconfig: bool,
    /// Whether it answers at all when it succeeds.
    pub success_response: bool,
    /// What makes its use a matter of policy.
    pub features: &'static [Feature],
    /// The targets that have it.
    pub targets: &'static [Target],
}

/// What a session needs to know of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Api<Id: 'static> {
    /// Finds the command of a name.
    pub find_command: fn(Target, &str) -> Option<&'static CommandSpec<Id>>,
    /// The reply of `query-qmp-schema`.
    pub schema_json: fn(Target) -> &'static [u8],
    /// The reply of `query-commands`.
    pub commands_json: fn(Target) -> &'static [u8],
}
