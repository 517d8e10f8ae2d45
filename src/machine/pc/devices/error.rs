//! Why a device cannot be put in or taken out, in QEMU's words where it has some.

use crate::devices::class::RealizeError;
use crate::devices::pci::UnplugError;
use crate::irq::NoSuchLine;
use crate::machine::chardevs;
use crate::machine::pci::PlaceError;
use crate::machine::registry::DriverError;
use crate::qapi::{Error, ErrorClass, QmpError};
use crate::qom::PropertyError;

/// A device that has no place, is not as asked, or stays where it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlugError {
    /// There is no such driver.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A property by itself.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// It has no place on its PCI bus.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its slot has no line.
    #[error(transparent)]
    Line(#[from] NoSuchLine),
    /// It cannot have its character device.
    #[error("{}", chardevs::refusal(driver, id, error).desc)]
    NoChardev {
        /// The driver.
        driver: String,
        /// The character device's id.
        id: String,
        /// Why not.
        error: Error,
    },
    /// Its class does not make it.
    #[error(transparent)]
    Realize(RealizeError),
    /// The bus keeps what it has while the guest is there.
    #[error("Bus '{0}' does not support hotplugging")]
    ColdBus(String),
    /// Such a device is there from the start, or not at all.
    #[error("Device '{0}' does not support hotplugging")]
    ColdDevice(String),
    /// The id is none that anybody may choose.
    #[error("Invalid qdev ID '{0}'")]
    MalformedId(String),
    /// A device has this id.
    #[error("Duplicate device ID '{0}'")]
    Taken(String),
    /// The machine has no bus of the kind.
    #[error("No '{wanted}' bus found for device '{driver}'")]
    NoBusOfKind {
        /// The kind.
        wanted: String,
        /// The driver.
        driver: String,
    },
    /// There is no bus of this name.
    #[error("Bus '{0}' not found")]
    NoBus(String),
    /// The bus is of another kind.
    #[error("Device '{driver}' can't go on {kind} bus")]
    OtherBus {
        /// The driver.
        driver: String,
        /// The kind that the bus is of.
        kind: &'static str,
    },
    /// A port of the same chassis has this slot's number.
    #[error("Can't add chassis slot, error -{0}")]
    ChassisSlot(i32),
    /// Firmware has no such number for operating systems.
    #[error("acpi-index should be less or equal to {0}")]
    AcpiIndexRange(u64),
    /// Another device has that number.
    #[error("a PCI device with acpi-index = {0} already exist")]
    AcpiIndexTaken(u64),
    /// Firmware starts from another device first, or later.
    #[error("The bootindex {0} has already been used")]
    BootIndexTaken(i64),
    /// A register cannot tell that size.
    #[error("ROM size {0} is not a power of two")]
    RomSize(u64),
    /// There is no such file.
    #[error("failed to find romfile \"{0}\"")]
    NoRom(String),
    /// Functions have no ROMs here.
    #[error("romfile={0}: option ROMs are not supported")]
    Rom(String),
    /// The guest has been asked to let this device go.
    #[error("Device {0} is already in the process of unplug")]
    UnplugUnderWay(String),
    /// The port does not ask the guest.
    #[error(transparent)]
    Unplug(UnplugError),
}

impl QmpError for PlugError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Realize(RealizeError::NoObject(_)) => ErrorClass::DeviceNotFound,
            _ => ErrorClass::GenericError,
        }
    }
}

impl PlugError {
    /// What the class of `driver` says.
    pub(super) fn of(driver: &str, error: RealizeError) -> Self {
        match error {
            RealizeError::NoChardev(id, error) => Self::NoChardev {
                driver: driver.to_owned(),
                id,
                error,
            },
            other => Self::Realize(other),
        }
    }
}
