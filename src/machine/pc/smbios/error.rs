//! Why there are no such tables, in QEMU's words where it has some.

use std::io;

use crate::machine::fields::FieldError;
use crate::qapi::QmpError;
use crate::report::reason;

/// A `-smbios` option that cannot be followed, or tables that cannot be made of all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmbiosError {
    /// A parameter by itself.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is a structure of this type from a file.
    #[error("can't add fields, binary file already loaded!")]
    FieldsAfterFile,
    /// Fields of a structure of this type were given.
    #[error("can't load type {0} struct, fields already specified!")]
    FileAfterFields(u8),
    /// The file of a structure cannot be read.
    #[error("Cannot read SMBIOS file {path}: {}", reason(error))]
    Unreadable {
        /// Its path.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file has less than a structure begins with.
    #[error("Cannot read SMBIOS file {0}")]
    TooShort(String),
    /// The file of an OEM string cannot be read.
    #[error("Could not open '{path}': {}", reason(error))]
    UnreadableText {
        /// Its path.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file of an OEM string has a zero in it, or is not UTF-8.
    #[error("'{0}' holds no text")]
    NoText(String),
    /// A byte counts them.
    #[error("there cannot be more than 255 OEM strings")]
    TooManyStrings,
    /// A release is not two numbers.
    #[error("Invalid release")]
    Release,
    /// Two bytes hold a processor's speed.
    #[error("SMBIOS CPU speed is too large (> 65535)")]
    Speed,
    /// No such kind of on-board device.
    #[error("invalid parameter value: {0}")]
    OnboardKind(String),
    /// There is no PCI device of that id.
    #[error("No PCI device {id} for SMBIOS type {kind} entry {designation}")]
    NoDevice {
        /// The structure's type.
        kind: u8,
        /// The id.
        id: String,
        /// What the structure is called.
        designation: String,
    },
    /// Firmware decides the number of the bus that the PCI device is on.
    #[error("Cannot create type {kind} entry for PCI device {id}: not attached to the root bus")]
    NotOnRootBus {
        /// The structure's type.
        kind: u8,
        /// The device's id.
        id: String,
    },
    /// The older form of tables has two bytes for this.
    #[error("SMBIOS 2.1 table length {0} exceeds {max}", max = u16::MAX)]
    TooLong(usize),
    /// Files hold another number of processors than there are sockets.
    #[error("Expected {sockets} SMBIOS Type 4 tables, got {processors} instead")]
    Processors {
        /// The sockets.
        sockets: usize,
        /// The processors.
        processors: usize,
    },
}

impl QmpError for SmbiosError {}
