//! What a question is about: models and hosts.

use std::path::{Path, PathBuf};

use super::ToolError;
use super::libvirt::{self, Document};
use crate::accel::hostfile::{self, HostDescription};
use crate::target::Target;

/// What the machine that the tool runs on is called.
pub(super) const HERE: &str = "this host";

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostRef {
    /// The machine that the tool runs on.
    Here,
    /// One that a file describes.
    File(PathBuf),
}

impl HostRef {
    /// `host` is this machine, everything else a file.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "host" => Self::Here,
            path => Self::File(path.into()),
        }
    }

    /// The file that describes the host, if one does.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Here => None,
            Self::File(path) => Some(path),
        }
    }
}

/// A model or a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// A model, as for `-cpu`.
    Model(String),
    /// A host.
    Host(HostRef),
    /// libvirt's XML, which holds either.
    Document(PathBuf),
}

impl Operand {
    /// A text with a slash in it or with the ending `.json` or `.xml` is a file; `host` is this machine.
    pub(super) fn parse(text: &str) -> Self {
        match Path::new(text).extension() {
            Some(extension) if extension == "xml" => Self::Document(text.into()),
            Some(extension) if extension == "json" => Self::Host(HostRef::File(text.into())),
            _ if text == "host" => Self::Host(HostRef::Here),
            _ if text.contains('/') => Self::Host(HostRef::File(text.into())),
            _ => Self::Model(text.to_owned()),
        }
    }

    /// The file that it stands in, if it stands in one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Model(_) => None,
            Self::Host(host) => host.path(),
            Self::Document(path) => Some(path),
        }
    }

    /// What a document holds; everything else stays what it is.
    pub(super) fn resolved(&self) -> Result<Self, ToolError> {
        let Self::Document(path) = self else {
            return Ok(self.clone());
        };
        Ok(match read_document(path)? {
            Document::Host(_) => Self::Host(HostRef::File(path.clone())),
            Document::Model { text, .. } => Self::Model(text),
        })
    }
}

/// The architecture that a file is about.
pub(super) fn target_of(path: &Path) -> Result<Target, ToolError> {
    if !is_document(path) {
        return Ok(read_host(path)?.target());
    }
    Ok(match read_document(path)? {
        Document::Host(host) => host.target(),
        Document::Model { target, .. } => target,
    })
}

/// Reads the description of a host: a host file, or what libvirt says of a host.
pub(super) fn read_host(path: &Path) -> Result<HostDescription, ToolError> {
    if !is_document(path) {
        return hostfile::read(path).map_err(|error| ToolError::failed(&error));
    }
    match read_document(path)? {
        Document::Host(host) => Ok(*host),
        Document::Model { .. } => Err(ToolError::Failed(format!(
            "{}: a CPU model, not a host: a host is in the output of virsh domcapabilities",
            path.display()
        ))),
    }
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "xml")
}

fn read_document(path: &Path) -> Result<Document, ToolError> {
    libvirt::read(path).map_err(|error| ToolError::failed(&error))
}

/// Short names of hosts: those of their files without the ending, or the whole paths where two would have the same.
pub(super) fn labels(hosts: &[HostRef]) -> Vec<String> {
    let short = |host: &HostRef| match host {
        HostRef::Here => HERE.to_owned(),
        HostRef::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let all: Vec<String> = hosts.iter().map(short).collect();
    let is_unique = |label: &String| {
        let same = all.iter().zip(hosts).filter(|(other, _)| *other == label);
        same.map(|(_, host)| host)
            .collect::<Vec<_>>()
            .windows(2)
            .all(|pair| pair[0] == pair[1])
    };
    let label = |(label, host): (&String, &HostRef)| match host.path() {
        Some(path) if !is_unique(label) => path.display().to_string(),
        _ => label.clone(),
    };
    all.iter().zip(hosts).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_called_by_what_tells_them_apart() {
        let hosts = ["a/z15.json", "b/z16.json", "host"].map(HostRef::parse);
        assert_eq!(labels(&hosts), ["z15", "z16", "this host"]);
        let hosts = ["a/sim.json", "b/sim.json", "z16.json"].map(HostRef::parse);
        assert_eq!(labels(&hosts), ["a/sim.json", "b/sim.json", "z16"]);
        let twice = ["a/sim.json", "a/sim.json"].map(HostRef::parse);
        assert_eq!(labels(&twice), ["sim", "sim"]);
    }
}
