//! The drop-in: the process libvirt starts as `qemu-system-*`.

use std::process::ExitCode;

use crate::target::Target;

/// Runs the emulator for `target` with this process's arguments.
#[must_use]
pub fn main(target: Target) -> ExitCode {
    eprintln!("{}: nothing to run", target.binary());
    ExitCode::FAILURE
}
