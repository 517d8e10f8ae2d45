//! Classes: what a type of device is, and how one comes to be on its bus, at the machine's start and later alike.
//!
//! A class knows the machine only as a [`Site`]. It makes the device; whatever holds for every device of a bus (finding a
//! place, properties that all have, the object tree, the list that is reset and paused) is the machine's business.

use std::error::Error;
use std::io;
use std::sync::Arc;

use super::characters::{Input, Sink};
use super::pci::{PciPlace, SharedFunction};
use super::virtio::console::PortBus;
use super::virtio::rng::EntropySource;
use super::{Clock, Notifier, SharedDevice};
use crate::block::Graph;
use crate::io::Handle;
use crate::irq::{IrqLine, MsiSource, NoSuchLine};
use crate::mem::{AddressSpace, MapError, Region};
use crate::net::Networks;
use crate::qapi;
use crate::qom::{TypeInfo, Values};

/// A type of device, as [`super::classes`] lists it.
pub struct DeviceClass {
    /// Its QOM type, with its properties and its bus.
    pub info: &'static TypeInfo,
    /// How a device of it is made.
    pub realize: Realize,
}

/// How a device is made. Either all of it is there afterwards, or nothing.
#[derive(Clone, Copy)]
pub enum Realize {
    /// Machines have it from the start, by themselves.
    WithMachine,
    /// A card on the ISA bus.
    Isa(RealizeIsa),
    /// A function in a place of a PCI bus.
    Pci(RealizePci),
    /// A port on the bus of a virtio-serial device.
    Port(RealizePort),
}

/// Makes a card of the ISA bus from the values of its properties.
pub type RealizeIsa = fn(&Values, &mut dyn Site) -> Result<SharedDevice, RealizeError>;
/// Makes a function in its place from the values of its properties.
pub type RealizePci = fn(&Values, PciPlace, &mut dyn Site) -> Result<SharedFunction, RealizeError>;

/// Makes a port in its place from the values of its properties.
pub type RealizePort = fn(&Values, PortPlace<'_>, &mut dyn Site) -> Result<SharedDevice, RealizeError>;

/// Where a port is plugged in.
#[derive(Clone, Copy)]
pub struct PortPlace<'a> {
    /// The bus.
    pub bus: &'a Arc<PortBus>,
    /// The port's id.
    pub id: Option<&'a str>,
    /// Whether some port of the machine has this name.
    pub has_name: &'a dyn Fn(&str) -> bool,
}

/// A bus that a device has for others.
#[derive(Clone)]
pub enum ChildBus {
    /// For ports.
    Ports(Arc<PortBus>),
}

impl ChildBus {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ports(_) => "virtio-serial-bus",
        }
    }

    /// What it is below of its device, in the tree of objects.
    #[must_use]
    pub fn below(&self) -> &'static str {
        match self {
            Self::Ports(_) => "virtio-backend",
        }
    }
}

impl DeviceClass {
    /// A class whose devices come with the machine.
    #[must_use]
    pub const fn built_in(info: &'static TypeInfo) -> Self {
        Self {
            info,
            realize: Realize::WithMachine,
        }
    }

    /// Whether machines have such devices by themselves.
    #[must_use]
    pub const fn is_built_in(&self) -> bool {
        matches!(self.realize, Realize::WithMachine)
    }
}

/// What a machine offers to the device that is made. What it hands out belongs to the device and ends with it.
pub trait Site {
    /// Where the device says what concerns the machine as a whole.
    fn notifier(&self) -> Notifier;
    /// The guest's clock.
    fn clock(&self) -> Arc<dyn Clock>;
    /// Memory as the device reads and writes it.
    fn memory(&self) -> &Arc<AddressSpace>;
    /// Where vectors come from.
    fn msi(&self) -> Arc<dyn MsiSource>;
    /// A driver of an interrupt line.
    ///
    /// # Errors
    /// There is no such line.
    fn line(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, RealizeError>;
    /// Shows ports of the device from `start` on, for as long as there is the device.
    ///
    /// # Errors
    /// They do not fit.
    fn map_ports(&mut self, start: u16, ports: &Region) -> Result<(), RealizeError>;
    /// Connects the device to the character device of this id, or to none.
    ///
    /// # Errors
    /// [`RealizeError::NoChardev`] where there is none of that id, or it has a user.
    fn characters(&mut self, chardev: Option<&str>) -> Result<Characters, RealizeError>;
    /// Says what takes the characters that come in over this connection.
    fn set_input(&mut self, connection: usize, input: Box<dyn Input>);
    /// The source of random bytes that is the object of this id.
    fn entropy(&self, id: &str) -> Option<EntropySource>;
    /// The back ends of network cards, and the list of the cards.
    fn networks(&self) -> &Networks;
    /// The device's id, if it has one.
    fn id(&self) -> Option<&str>;
    /// The device's path in the tree of objects.
    fn path(&self) -> &str;
    /// The nodes that disks are made of.
    fn graph(&self) -> &Graph;
    /// How many vCPUs the machine has.
    fn cpus(&self) -> u32;
    /// The loop that devices work on which have no thread of their own.
    fn event_loop(&self) -> Handle;
    /// How many devices of this type there are already.
    fn count(&self, type_name: &str) -> usize;
}

/// A device's connection to a character device.
pub struct Characters {
    /// Its number, for [`Site::set_input`].
    pub connection: usize,
    /// Where characters go.
    pub sink: Box<dyn Sink>,
    /// Whether there is anything at the other end.
    pub is_connected: bool,
}

/// Why a device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RealizeError {
    /// It cannot have the character device of this id.
    #[error("character device '{0}': {1}")]
    NoChardev(String, #[source] qapi::Error),
    /// There is no object of this id that would do.
    #[error("Device '{0}' not found")]
    NoObject(String),
    /// The host has no room for what serves its character device.
    #[error("character devices: {0}")]
    NoStream(io::Error),
    /// The host has no room for a thread.
    #[error("cannot start the thread of devices: {0}")]
    NoThread(io::Error),
    /// A property is beyond the last port.
    #[error("Parameter '{property}': there is no port 0x{number:x}")]
    NoPort {
        /// Name of the property.
        property: &'static str,
        /// What it was set to.
        number: u64,
    },
    /// It asks for an interrupt that there is none of.
    #[error(transparent)]
    NoLine(#[from] NoSuchLine),
    /// Its registers cannot be shown where they belong.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Its own reason.
    #[error("{0}")]
    Device(Box<dyn Error + Send + Sync>),
}

impl RealizeError {
    /// A reason that only this device has.
    pub fn of(reason: impl Error + Send + Sync + 'static) -> Self {
        Self::Device(Box::new(reason))
    }
}

/// The port that a property names.
///
/// # Errors
/// There is no port of that number.
pub fn port(values: &Values, property: &'static str) -> Result<u16, RealizeError> {
    let number = values.uint(property).unwrap_or_default();
    u16::try_from(number).map_err(|_| RealizeError::NoPort { property, number })
}
