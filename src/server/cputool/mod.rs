//! `remuda cpu`: CPU models for operators, without a guest.
//!
//! ```text
//! remuda cpu list       [--host HOST]... [--features]     models, and which of them run on which host
//! remuda cpu show       MODEL [--host HOST] [--full]      a model spelt out
//! remuda cpu compare    A B...                            how models and hosts relate to one another
//! remuda cpu baseline   A... [--xml]                      the largest model that all of them can run
//! remuda cpu explain    MODEL [--host HOST]...            whether hosts run a model, and what is in the way
//! remuda cpu migratable --from HOST... --to HOST... [--cpu MODEL]
//!                                                         whether a guest can move, and what is in the way
//! ```
//!
//! A model is written as for `-cpu`. A host is a file that describes one ([`crate::accel::hostfile`]), or `host` for this one;
//! where a model or a host may stand, a text with a `/` in it or with the ending `.json` or `.xml` is a file. XML is libvirt's:
//! what `virsh domcapabilities` says is a host, a domain or its `<cpu>` a model. Without `--host`, the host is this one.
//! `--target` names the architecture where no file tells it, `--machine` the machine type whose rules hold, and
//! `--json` asks for replies in the form QMP gives them.

mod answer;
mod libvirt;
mod operand;
mod request;
mod s390x;
mod table;
mod x86;

use std::process::ExitCode;

use request::{Parsed, Request};

use super::output;
use crate::target::Target;

/// Runs `remuda cpu` with the arguments that follow it.
#[must_use]
pub(super) fn main(args: &[String]) -> ExitCode {
    let mut out = Vec::new();
    let outcome = run(args, &mut out);
    if let Err(error) = output::write(&out) {
        eprintln!("remuda cpu: {error}");
        return ExitCode::from(2);
    }
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
    #[error(
        "{0}\nusage: remuda cpu list|show|compare|baseline|explain|migratable ..., see remuda cpu --help and remuda(1)"
    )]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

impl ToolError {
    /// A failure with the errors that led to it.
    fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(crate::report::with_causes(error))
    }
}

fn run(args: &[String], out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let request = match Request::parse(args)? {
        Parsed::Ask(request) => request,
        Parsed::Help(text) => {
            out.extend_from_slice(text.as_bytes());
            return Ok(Verdict::Yes);
        }
    };
    match request.target()? {
        Target::S390x => s390x::run(&request, out),
        Target::X86_64 => x86::run(&request, out),
    }
}
