//! How one option is declared.

use serde_json::{Map, Value};

use super::builder::Builder;
use super::error::Error;
use super::opts::Opts;
use crate::target::Target;

/// One option of the command line. The parser, the help text and `query-command-line-options` all read this.
#[derive(Debug)]
pub struct OptionInfo {
    /// Its name without dashes.
    pub name: &'static str,
    /// Its argument as the help text shows it; empty for an option without argument.
    pub argument: &'static str,
    /// What it does, in one or more lines.
    pub help: &'static str,
    /// The part of the help text it is listed in.
    pub section: Section,
    /// Where it exists.
    pub targets: Targets,
    /// Whether it makes sense when the host is only probed and no guest will run.
    pub in_probe: bool,
    /// The group of parameters it fills in.
    pub group: Option<&'static Group>,
    /// Whether it answers `...,help` itself, as its parameters depend on the first.
    pub(super) own_help: bool,
    /// What it does to the configuration.
    pub(super) action: Action,
}

/// A group of parameters: what `query-command-line-options` and `-readconfig` know an option by.
#[derive(Debug)]
pub struct Group {
    /// Its name, not always that of the option: `-m` fills in `memory`.
    pub name: &'static str,
    /// The key that the first value stands for when it is given without one.
    pub implied: Option<&'static str>,
    /// What it knows. Empty: any key is taken, and checked by whoever uses the value.
    pub parameters: &'static [Parameter],
}

/// One parameter of a group.
#[derive(Debug)]
pub struct Parameter {
    /// Its key.
    pub name: &'static str,
    /// The form of its value.
    pub kind: ParameterKind,
    /// What it is for; may be empty.
    pub help: &'static str,
}

/// The form of a parameter's value: QAPI's `CommandLineParameterType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    String,
    /// `on` or `off`.
    Boolean,
    /// An unsigned number.
    Number,
    /// A size in bytes, with suffixes.
    Size,
}

impl ParameterKind {
    /// Its QAPI name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Size => "size",
        }
    }
}

/// The parts of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Machine, processors, memory, names.
    Standard,
    /// Disks.
    Block,
    /// What the guest shows.
    Display,
    /// Only for x86 guests.
    X86,
    /// Character devices, serial ports, monitors.
    Character,
    /// Firmware and kernel.
    Boot,
    /// Running, logging, confining.
    Debug,
    /// Objects by type and properties.
    Generic,
}

impl Section {
    /// All of them, in the order of the help text.
    pub const ALL: [Self; 8] = [
        Self::Standard,
        Self::Block,
        Self::Display,
        Self::X86,
        Self::Character,
        Self::Boot,
        Self::Debug,
        Self::Generic,
    ];

    /// Its heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Standard => "Standard options",
            Self::Block => "Block device options",
            Self::Display => "Display options",
            Self::X86 => "x86 guests only",
            Self::Character => "Character device options",
            Self::Boot => "Firmware and kernel options",
            Self::Debug => "Run, log and debug options",
            Self::Generic => "Object creation",
        }
    }
}

/// Where an option exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// In every binary.
    All,
    /// In one.
    Only(Target),
}

impl Targets {
    /// Whether the binary for `target` has the option.
    #[must_use]
    pub fn include(self, target: Target) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == target,
        }
    }
}

/// What an option does.
pub(super) enum Action {
    /// Takes no argument.
    Flag(fn(&mut Builder) -> Result<(), Error>),
    /// Takes its argument as it is.
    Text(fn(&mut Builder, &str) -> Result<(), Error>),
    /// Takes its argument as it is, or `key=value,...` from a configuration file.
    TextOrOpts {
        /// What to do with an argument.
        text: fn(&mut Builder, &str) -> Result<(), Error>,
        /// What to do with the parameters of a file.
        opts: fn(&mut Builder, &Opts) -> Result<(), Error>,
    },
    /// Takes `key=value,...`, checked against the group.
    Opts(fn(&mut Builder, &Opts) -> Result<(), Error>),
    /// Takes `key=value,...` with dotted keys, or JSON where `json` says so.
    Keyval {
        /// Whether an argument that starts with `{` is JSON.
        json: bool,
        /// What to do with the result.
        apply: fn(&mut Builder, Map<String, Value>) -> Result<(), Error>,
    },
    /// Takes `key=value,...` with flat keys that only the object's type can check, or JSON.
    Properties {
        /// Whether a key given more than once makes a list.
        lists: bool,
        /// What to do with the result.
        apply: fn(&mut Builder, Map<String, Value>) -> Result<(), Error>,
    },
    /// An option of QEMU that has no counterpart here; says what is missing.
    Refuse(&'static str),
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flag(_) => "Flag",
            Self::Text(_) => "Text",
            Self::TextOrOpts { .. } => "TextOrOpts",
            Self::Opts(_) => "Opts",
            Self::Keyval { .. } => "Keyval",
            Self::Properties { .. } => "Properties",
            Self::Refuse(_) => "Refuse",
        })
    }
}

impl OptionInfo {
    /// An option without argument.
    pub(super) const fn flag(
        name: &'static str,
        section: Section,
        help: &'static str,
        apply: fn(&mut Builder) -> Result<(), Error>,
    ) -> Self {
        Self::with_action(name, "", section, help, Action::Flag(apply))
    }

    /// An option that takes its argument as it is.
    pub(super) const fn text(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        apply: fn(&mut Builder, &str) -> Result<(), Error>,
    ) -> Self {
        Self::with_action(name, argument, section, help, Action::Text(apply))
    }

    /// An option with the parameters of `group`.
    pub(super) const fn opts(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        group: &'static Group,
        apply: fn(&mut Builder, &Opts) -> Result<(), Error>,
    ) -> Self {
        let mut option = Self::with_action(name, argument, section, help, Action::Opts(apply));
        option.group = Some(group);
        option
    }

    /// An option with dotted keys.
    pub(super) const fn keyval(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        group: &'static Group,
        apply: fn(&mut Builder, Map<String, Value>) -> Result<(), Error>,
    ) -> Self {
        let mut option = Self::with_action(name, argument, section, help, Action::Keyval { json: false, apply });
        option.group = Some(group);
        option
    }

    /// An option that reads its argument itself, though it has parameters.
    pub(super) const fn global(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        group: &'static Group,
        text: fn(&mut Builder, &str) -> Result<(), Error>,
        opts: fn(&mut Builder, &Opts) -> Result<(), Error>,
    ) -> Self {
        let mut option = Self::with_action(name, argument, section, help, Action::TextOrOpts { text, opts });
        option.group = Some(group);
        option
    }

    /// An option that describes an object by its type's properties.
    pub(super) const fn properties(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        group: &'static Group,
        apply: fn(&mut Builder, Map<String, Value>) -> Result<(), Error>,
    ) -> Self {
        let mut option = Self::with_action(
            name,
            argument,
            section,
            help,
            Action::Properties { lists: false, apply },
        );
        option.group = Some(group);
        option
    }

    /// An option that only exists in QEMU. Help texts leave it out.
    pub(super) const fn refused(name: &'static str, argument: bool, reason: &'static str) -> Self {
        let argument = if argument { "..." } else { "" };
        Self::with_action(name, argument, Section::Standard, "", Action::Refuse(reason))
    }

    const fn with_action(
        name: &'static str,
        argument: &'static str,
        section: Section,
        help: &'static str,
        action: Action,
    ) -> Self {
        Self {
            name,
            argument,
            help,
            section,
            targets: Targets::All,
            in_probe: false,
            group: None,
            own_help: false,
            action,
        }
    }

    /// The same, for one target only.
    pub(super) const fn only(mut self, target: Target) -> Self {
        self.targets = Targets::Only(target);
        self
    }

    /// The same, also of use when probing.
    pub(super) const fn in_probe(mut self) -> Self {
        self.in_probe = true;
        self
    }

    /// The same, with JSON as a second form of the argument. Only for options with dotted keys.
    pub(super) const fn or_json(mut self) -> Self {
        if let Action::Keyval { apply, .. } = self.action {
            self.action = Action::Keyval { json: true, apply };
        }
        self
    }

    /// The same, with lists by repetition. Only for options that describe an object.
    pub(super) const fn with_lists(mut self) -> Self {
        if let Action::Properties { apply, .. } = self.action {
            self.action = Action::Properties { lists: true, apply };
        }
        self
    }

    /// The same, answering `...,help` itself.
    pub(super) const fn with_own_help(mut self) -> Self {
        self.own_help = true;
        self
    }

    /// Whether an argument follows.
    #[must_use]
    pub const fn has_argument(&self) -> bool {
        !self.argument.is_empty()
    }

    /// Whether it is known only to be turned down.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.action, Action::Refuse(_))
    }
}

impl Parameter {
    /// A text.
    pub(super) const fn string(name: &'static str, help: &'static str) -> Self {
        Self::of(name, ParameterKind::String, help)
    }

    /// `on` or `off`.
    pub(super) const fn boolean(name: &'static str, help: &'static str) -> Self {
        Self::of(name, ParameterKind::Boolean, help)
    }

    /// An unsigned number.
    pub(super) const fn number(name: &'static str, help: &'static str) -> Self {
        Self::of(name, ParameterKind::Number, help)
    }

    /// A size in bytes.
    pub(super) const fn size(name: &'static str, help: &'static str) -> Self {
        Self::of(name, ParameterKind::Size, help)
    }

    const fn of(name: &'static str, kind: ParameterKind, help: &'static str) -> Self {
        Self { name, kind, help }
    }
}
