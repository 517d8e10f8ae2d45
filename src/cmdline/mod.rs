//! QEMU's command line.
//!
//! One table of options ([`options`]) holds every option with its help and what it does. [`parse`] walks the arguments
//! by it and ends in a [`Config`], a plain value; the help text ([`help`]) and the reply to `query-command-line-options`
//! ([`introspect`]) are views of the same table.

mod absent;
mod accel;
pub(crate) mod boot;
mod builder;
mod character;
mod compat;
mod config;
pub(crate) mod debugger;
mod error;
pub mod help;
pub mod introspect;
pub mod keyval;
mod legacy_chardev;
mod machine;
mod memory;
mod netdev;
mod objects;
mod option;
mod opts;
mod parser;
mod process;
mod readconfig;
mod rtc;
mod run_with;
mod smbios;
pub mod smp;
mod table;

pub use config::{
    Actions, AddFd, ChardevConfig, Config, ElevatePrivileges, HelpRequest, Incoming, LogConfig, MonitorConfig,
    MonitorMode, Parsed, Sandbox, Warning,
};
pub use error::Error;
pub use option::{Group, OptionInfo, Parameter, ParameterKind, Section, Targets};
pub use opts::Opts;
pub use parser::parse;
pub use table::options;

#[cfg(test)]
mod tests;
