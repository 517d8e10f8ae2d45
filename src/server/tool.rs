//! The `remuda` command.

use std::process::ExitCode;

/// Runs the command named by this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    eprintln!("remuda: nothing to run");
    ExitCode::FAILURE
}
