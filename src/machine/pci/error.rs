//! Why a function has no place on a PCI bus, in QEMU's words.

use crate::qapi::QmpError;

/// A place that is not there, taken, or one where no guest would look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// There is no bus of this name.
    #[error("Bus '{0}' not found")]
    NoBus(String),
    /// The bus has no slot left for this driver.
    #[error("PCI: no slot/function available for {0}, all in use or reserved")]
    NoSlot(String),
    /// There is a function.
    #[error("PCI: slot {slot} function {function} not available for {driver}, in use by {by},id={id}")]
    Taken {
        /// Its slot.
        slot: u8,
        /// Its number.
        function: u8,
        /// Whose place it was to be.
        driver: String,
        /// Whose it is.
        by: String,
        /// Whose id is this, or nothing.
        id: String,
    },
    /// The guest has looked at the slot, and would not look again.
    #[error("PCI: slot 0 function 0 already occupied by {by}, new func {driver} cannot be exposed to guest.")]
    Hidden {
        /// What is there.
        by: String,
        /// What was to come.
        driver: String,
    },
    /// Function 0 of the slot says that it is the only one.
    #[error("PCI: single function device can't be populated in function {slot:x}.{function:x}")]
    BesideSingle {
        /// The slot.
        slot: u8,
        /// The function that was to come.
        function: u8,
    },
    /// It would say that it is the only one, and is not.
    #[error("PCI: {slot:x}.0 indicates single function, but {slot:x}.{other:x} is already populated.")]
    SingleAmongOthers {
        /// The slot.
        slot: u8,
        /// A function that is there.
        other: u8,
    },
}

impl QmpError for PlaceError {}
