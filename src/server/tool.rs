//! The `remuda` command.

use std::process::ExitCode;

use super::{cputool, serve};

/// Runs the command named by this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((command, rest)) if command == "cpu" => cputool::main(rest),
        Some((command, rest)) if command == "serve" => serve::main(rest),
        Some((command, _)) => refuse(&format!("'{command}' is none of its commands")),
        None => refuse("a command is missing"),
    }
}

fn refuse(what: &str) -> ExitCode {
    eprintln!("remuda: {what}");
    ExitCode::from(2)
}
