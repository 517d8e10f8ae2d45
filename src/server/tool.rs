//! The `remuda` command.

use std::io::Write;
use std::process::ExitCode;

use super::{cputool, serve};
use crate::accel::describe::this_host;

const USAGE: &str = "\
usage: remuda serve [--control PATH] [--directory PATH] [--target x86_64|s390x]
                                        serve many guests
       remuda cpu COMMAND ...           answer questions about CPU models
       remuda host-describe             write this host's description, as -accel hostfile reads it
       remuda --version                 print the version
remuda(1) says more.
";

/// Runs the command named by this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((_, [flag, ..])) if is_help(flag) => print(USAGE.as_bytes()),
        Some((command, rest)) if command == "cpu" => cputool::main(rest),
        Some((command, rest)) if command == "serve" => serve::main(rest),
        Some((command, [])) if command == "host-describe" => host_describe(),
        Some((command, [stray, ..])) if command == "host-describe" => {
            refuse(&format!("host-describe: '{stray}' is none of its options"))
        }
        Some((command, _)) if command == "help" || is_help(command) => print(USAGE.as_bytes()),
        Some((command, [])) if command == "--version" || command == "-V" => {
            print(concat!("remuda ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
        Some((command, _)) => refuse(&format!("'{command}' is none of its commands")),
        None => refuse("a command is missing"),
    }
}

fn is_help(word: &str) -> bool {
    word == "--help" || word == "-h"
}

fn host_describe() -> ExitCode {
    match this_host() {
        Ok(mut text) => {
            text.push(b'\n');
            print(&text)
        }
        Err(reason) => {
            eprintln!("remuda: host-describe: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(what: &str) -> ExitCode {
    eprint!("remuda: {what}\n{USAGE}");
    ExitCode::from(2)
}
