//! Why KVM cannot be used, or what it refused.

use std::io;

use crate::report::reason;

/// An error of the KVM accelerator.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// `/dev/kvm` cannot be opened.
    #[error("Could not access KVM kernel module: {}", reason(.0))]
    Access(#[source] io::Error),
    /// The kernel speaks another version of the interface than 12.
    #[error("kvm version {0} not supported, 12 is needed")]
    Version(i32),
    /// The kernel lacks something no guest can do without.
    #[error("kvm does not support {0}")]
    MissingCapability(&'static str),
    /// More vCPUs than KVM can run.
    #[error("Number of hotpluggable cpus requested ({requested}) exceeds the maximum cpus supported by KVM ({limit})")]
    TooManyVcpus {
        /// vCPUs there may ever be.
        requested: u32,
        /// What KVM allows.
        limit: usize,
    },
    /// The host cannot give a guest's time stamp counter this rate.
    #[error("TSC frequency mismatch between VM ({asked} kHz) and host ({host} kHz), and TSC scaling unavailable")]
    TscRate {
        /// The rate asked for, in kHz.
        asked: u32,
        /// The host's, in kHz.
        host: u32,
    },
    /// KVM does not take a value of a model specific register.
    #[error("error: failed to set MSR {index:#x} to {value:#x}")]
    Msr {
        /// The register.
        index: u32,
        /// The value.
        value: u64,
    },
    /// A request to the kernel failed.
    #[error("{what}: {}", reason(.source))]
    Request {
        /// The request, in KVM's terms.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl KvmError {
    /// The error number, as the text that follows `failed to initialize kvm: `.
    #[must_use]
    pub fn os_text(&self) -> String {
        match self {
            Self::Access(source) | Self::Request { source, .. } => reason(source),
            Self::Version(_) | Self::MissingCapability(_) => nix::errno::Errno::EINVAL.desc().into(),
            Self::TooManyVcpus { .. } | Self::TscRate { .. } | Self::Msr { .. } => {
                nix::errno::Errno::EINVAL.desc().into()
            }
        }
    }

    pub(crate) fn request(what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Request {
            what,
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_reads_as_in_c() {
        let error = KvmError::Access(io::Error::from_raw_os_error(2));
        assert_eq!(
            error.to_string(),
            "Could not access KVM kernel module: No such file or directory"
        );
        assert_eq!(error.os_text(), "No such file or directory");
    }
}
