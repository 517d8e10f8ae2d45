//! What goes wrong with back ends. The texts are those that clients are told.

use std::io;

use crate::report::reason;

/// Why there is no such back end, or nothing can be done with it.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// There is one of this id.
    #[error("Duplicate ID '{0}'")]
    Duplicate(String),
    /// A text that cannot be an id.
    #[error("Parameter 'id' expects an identifier")]
    MalformedId,
    /// Parameters that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A parameter without which the others mean nothing.
    #[error("{0}")]
    Incomplete(&'static str),
    /// A number that is out of range.
    #[error("Parameter '{name}' expects {expected}")]
    Range {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A program would have to be run.
    #[error("tap: a {0} cannot be run, only '{0}=no' is supported")]
    Script(&'static str),
    /// The kernel is to move the frames.
    #[error("tap: vhost-net requested but could not be initialized")]
    Vhost,
    /// A descriptor that is no tap interface, or a file that cannot be opened.
    #[error("{what}: {}", reason(source))]
    Host {
        /// What was done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The queues of an interface do not agree.
    #[error("vnet_hdr={0} requested, but no kernel support for IFF_VNET_HDR available")]
    NoHeader(&'static str),
    /// A text that is no address.
    #[error("{what} '{text}' is no address: {why}")]
    Address {
        /// The parameter.
        what: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no back end of this id.
    #[error("Device '{0}' not found")]
    NotFound(String),
    /// There is no card of this name.
    #[error("invalid net client name: {0}")]
    NoClient(String),
    /// A name that is not a card's.
    #[error("net client({0}) isn't a NIC")]
    NotNic(String),
}

impl NetError {
    /// What the system said while `what` was done.
    pub(super) fn host(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Host {
            what: what.into(),
            source: source.into(),
        }
    }
}
