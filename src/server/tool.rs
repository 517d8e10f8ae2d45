//! The `remuda` command.

use std::process::ExitCode;

use super::{cputool, output, serve};
use crate::accel::describe::this_host;

const USAGE: &str = "\
usage: remuda serve [--control PATH] [--directory PATH] [--target x86_64|s390x]
                                        serve many guests
       remuda cpu COMMAND ...           answer questions about CPU models (remuda cpu --help)
       remuda host-describe             write this host's description, as -accel hostfile reads it
       remuda --version
remuda(1) says more.
";

/// Runs the command named by this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        return refuse("a command is missing");
    };
    let wants_help = rest.iter().any(|arg| is_help(arg));
    match (command.as_str(), rest) {
        ("help" | "--help" | "-h", _) => output::print("remuda", USAGE.as_bytes()),
        ("--version" | "-V" | "version", []) => output::print("remuda", version().as_bytes()),
        ("cpu", _) => cputool::main(rest),
        ("serve" | "host-describe", _) if wants_help => output::print("remuda", USAGE.as_bytes()),
        ("serve", _) => serve::main(rest),
        ("host-describe", []) => host_describe(),
        ("host-describe" | "--version" | "-V" | "version", [stray, ..]) => {
            refuse(&format!("{command}: '{stray}' is none of its options"))
        }
        _ => refuse(&format!("'{command}' is none of its commands")),
    }
}

fn is_help(arg: &str) -> bool {
    arg == "--help" || arg == "-h"
}

fn version() -> String {
    format!("remuda {}\n", env!("CARGO_PKG_VERSION"))
}

fn host_describe() -> ExitCode {
    match this_host() {
        Ok(mut text) => {
            text.push(b'\n');
            output::print("remuda: host-describe", &text)
        }
        Err(reason) => {
            eprintln!("remuda: host-describe: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(what: &str) -> ExitCode {
    eprint!("remuda: {what}\n{USAGE}");
    ExitCode::from(2)
}
