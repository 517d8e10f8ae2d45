//! Why an accelerator cannot be used.

use std::io;

use super::kvm::KvmError;
use crate::report::reason;

/// An error of an accelerator.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// There is no accelerator of this name that runs guests.
    #[error("invalid accelerator {name}")]
    Invalid {
        /// The name.
        name: String,
    },
    /// KVM says why.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The host refuses a thread.
    #[error("vCPU thread: {}", reason(.0))]
    Thread(#[source] io::Error),
}

impl AccelError {
    /// The text for a guest that cannot be started because of it.
    #[must_use]
    pub fn startup_text(&self) -> String {
        match self {
            Self::Kvm(error @ KvmError::TooManyVcpus { .. }) => error.to_string(),
            Self::Kvm(error) => format!("{error}\nfailed to initialize kvm: {}", error.os_text()),
            Self::Invalid { .. } | Self::Thread(_) => self.to_string(),
        }
    }
}
