//! `remuda cpu`: CPU models for operators, without a guest.
//!
//! ```text
//! remuda cpu list       [--host HOST]                   models, and which of them the host can run
//! remuda cpu show       MODEL [--host HOST] [--full]    a model spelt out
//! remuda cpu compare    A B                             how one model or host relates to another
//! remuda cpu baseline   A B...                          the largest model that all of them can run
//! remuda cpu explain    MODEL [--host HOST]             what keeps a host from running a model, and why
//! remuda cpu migratable --from HOST --to HOST [--cpu MODEL]
//!                                                       whether a guest can move, and what is in the way
//! ```
//!
//! A model is written as for `-cpu`. A host is a file that describes one ([`crate::accel::hostfile`]); where a model
//! or a host may stand, a text with a `/` in it or with the ending `.json` is a file. Without `--host`, the host is this one.
//! `--target` names the architecture where no file tells it, `--machine` the machine type whose rules hold, and
//! `--json` asks for replies in the form QMP gives them.

mod answer;
mod request;
mod s390x;
mod x86;

use std::io::Write;
use std::process::ExitCode;

use request::Request;

use crate::target::Target;

/// Runs `remuda cpu` with the arguments that follow it.
#[must_use]
pub(super) fn main(args: &[String]) -> ExitCode {
    let mut out = Vec::new();
    let outcome = run(args, &mut out);
    // A reader that has gone away wants no more output.
    let _ = std::io::stdout().write_all(&out);
    match outcome {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("remuda cpu: {error}");
            ExitCode::from(2)
        }
    }
}

/// The answer to a question that has one: the exit status 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
}

/// A question that cannot be answered: the exit status 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ToolError {
    #[error("{0}\nusage: remuda cpu list|show|compare|baseline|explain|migratable ..., see remuda(1)")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

impl ToolError {
    /// A failure with the errors that led to it.
    fn failed(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        Self::Failed(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}

fn run(args: &[String], out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let request = Request::parse(args)?;
    match request.target()? {
        Target::S390x => s390x::run(&request, out),
        Target::X86_64 => x86::run(&request, out),
    }
}
