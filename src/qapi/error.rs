//! QMP errors: a class that clients act on and a text that people read.

use std::fmt;

use super::visit::{EncodeMembers, ObjectWriter};

/// The error classes of QMP. Clients choose what to do by these, so a handler picks one on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Everything that has no class of its own.
    GenericError,
    /// The command does not exist, or not in this phase of the guest's life.
    CommandNotFound,
    /// A device, type or node of that name does not exist.
    DeviceNotFound,
    /// The device exists but the guest has not activated it.
    DeviceNotActive,
    /// The host's KVM lacks a capability the request needs.
    KvmMissingCap,
}

impl ErrorClass {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::KvmMissingCap => "KVMMissingCap",
        }
    }

    /// The class with this spelling.
    #[must_use]
    pub fn from_wire(name: &str) -> Option<Self> {
        [
            Self::GenericError,
            Self::CommandNotFound,
            Self::DeviceNotFound,
            Self::DeviceNotActive,
            Self::KvmMissingCap,
        ]
        .into_iter()
        .find(|class| class.as_str() == name)
    }
}

/// An error as a QMP client sees it. A command line error is the same value, printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What clients act on.
    pub class: ErrorClass,
    /// What people read: names the thing and says what is wrong with it.
    pub desc: String,
}

impl Error {
    /// An error of class `GenericError`.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }

    /// An error of class `DeviceNotFound`.
    pub fn device_not_found(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::DeviceNotFound, desc)
    }

    /// An error of class `CommandNotFound`.
    pub fn command_not_found(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::CommandNotFound, desc)
    }

    /// An error of any class.
    pub fn new(class: ErrorClass, desc: impl Into<String>) -> Self {
        Self {
            class,
            desc: desc.into(),
        }
    }
}

/// An error of one of the rooms, as a client is told of it: its text is what it displays.
pub trait QmpError: std::error::Error {
    /// What clients act on.
    fn class(&self) -> ErrorClass {
        ErrorClass::GenericError
    }
}

impl<E: QmpError> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl std::error::Error for Error {}

impl EncodeMembers for Error {
    fn encode_members(&self, object: &mut ObjectWriter<'_>) {
        object.member("class", self.class.as_str());
        object.member("desc", &self.desc);
    }
}
