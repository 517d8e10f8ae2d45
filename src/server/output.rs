//! What the tools print. Whoever cannot be told is not told that all is well.

use std::io;
use std::process::ExitCode;

/// Standard output does not take what is to be said.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {}", crate::report::reason(.0))]
pub(super) struct Unwritten(#[from] io::Error);

/// Writes all of a text to standard output.
///
/// # Errors
/// The reader has gone, or there is no room.
pub(super) fn write(text: &[u8]) -> Result<(), Unwritten> {
    Ok(crate::report::output(text)?)
}

/// Prints a text and ends with the status that tells whether it could; `program` says why on standard error if not.
pub(super) fn print(program: &str, text: &[u8]) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
