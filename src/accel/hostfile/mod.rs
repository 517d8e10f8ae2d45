//! Hosts described in a file: they answer CPU questions and run no guest.
//!
//! The file is a JSON object. Its member `target` says for which guests it is: `s390x` ([`s390x`]) or `x86_64` ([`x86`]).
//! Without it, a file with a `machine` or a `features` member describes an S390 host, and one with a `native_cpuid`
//! member an x86_64 one.

pub mod s390x;
pub mod x86;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::cpu;
use crate::target::Target;

/// The name of the accelerator.
pub const NAME: &str = "hostfile";

/// A host as a file describes it.
#[derive(Clone, Debug)]
pub enum HostDescription {
    /// For S390 guests.
    S390x(cpu::s390x::Host),
    /// For x86_64 guests.
    X86(Box<cpu::x86::Host>),
}

impl HostDescription {
    /// The guests it is for.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::S390x(_) => Target::S390x,
            Self::X86(_) => Target::X86_64,
        }
    }

    /// The host, if it is for S390 guests.
    #[must_use]
    pub fn into_s390x(self) -> Option<cpu::s390x::Host> {
        match self {
            Self::S390x(host) => Some(host),
            Self::X86(_) => None,
        }
    }

    /// The host, if it is for x86_64 guests.
    #[must_use]
    pub fn into_x86(self) -> Option<cpu::x86::Host> {
        match self {
            Self::S390x(_) => None,
            Self::X86(host) => Some(*host),
        }
    }
}

/// A host file that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: cannot read the host description")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{path}: the host description is not JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// The file is JSON, but does not describe a host.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The member, and what is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{member}' {what}")]
pub struct Problem {
    /// The member, with the names of those around it: `machine.cpuid`.
    pub member: String,
    /// What is wrong with it, to be read after its name.
    pub what: String,
}

impl Problem {
    /// `what` is wrong with `member`.
    pub fn new(member: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            member: member.into(),
            what: what.into(),
        }
    }
}

/// The properties of the accelerator: the file, and how replies call the accelerator if not by [`NAME`].
const PROPERTIES: [&str; 2] = ["path", "name"];

/// The longest file that can be a description; the longest there are have some ten thousand bytes.
const MAX_BYTES: u64 = 1 << 24;

/// The file that an accelerator with these properties reads.
///
/// # Errors
/// None is named.
pub fn path(props: &[(String, String)]) -> Result<&str, String> {
    let path = props.iter().rev().find(|(key, _)| key == "path");
    path.map(|(_, path)| path.as_str())
        .ok_or_else(|| "accelerator hostfile needs path=FILE".to_owned())
}

/// How replies call an accelerator with these properties.
#[must_use]
pub fn label(props: &[(String, String)]) -> &str {
    let name = props.iter().rev().find(|(key, _)| key == "name");
    name.map_or(NAME, |(_, name)| name)
}

/// Checks the properties of the accelerator.
///
/// # Errors
/// Names the one that is missing or unknown.
pub fn check_properties(props: &[(String, String)]) -> Result<(), String> {
    match props.iter().find(|(key, _)| !PROPERTIES.contains(&key.as_str())) {
        Some((key, _)) => Err(format!("Property 'hostfile-accel.{key}' not found")),
        None => path(props).map(drop),
    }
}

/// Reads the description of a host.
///
/// # Errors
/// Names the file, and the member that is wrong.
pub fn read(path: &Path) -> Result<HostDescription, Error> {
    read_text(path).map(|(_, description)| description)
}

/// Reads the description of a host, and gives its text as well.
///
/// # Errors
/// As [`read`].
pub fn read_text(path: &Path) -> Result<(String, HostDescription), Error> {
    let unreadable = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    let value = serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    let description = parse(&value).map_err(|problem| Error::Content {
        path: path.to_owned(),
        problem,
    })?;
    Ok((text, description))
}

/// Understands the description of a host.
///
/// # Errors
/// Names the member that is wrong.
pub fn parse(value: &Value) -> Result<HostDescription, Problem> {
    let target = match value.get("target").map(Value::as_str) {
        Some(Some("s390x")) => Target::S390x,
        Some(Some("x86_64")) => Target::X86_64,
        Some(_) => return Err(Problem::new("target", "must be \"s390x\" or \"x86_64\"")),
        None if value.get("machine").is_some() || value.get("features").is_some() => Target::S390x,
        None if value.get("native_cpuid").is_some() => Target::X86_64,
        None => return Err(Problem::new("target", "is missing")),
    };
    match target {
        Target::S390x => s390x::parse(value).map(HostDescription::S390x),
        Target::X86_64 => x86::parse(value).map(Box::new).map(HostDescription::X86),
    }
}
