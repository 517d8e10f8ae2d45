//! A device that somebody plugged in: its class, what it was made from, and its place.

use std::sync::{Arc, PoisonError};

use super::fixture::bus;
use crate::devices::class::{ChildBus, DeviceClass};
use crate::devices::virtio::console::PortBus;
use crate::devices::{AcpiDevice, SharedDevice};
use crate::machine::guest::{GuestObject, RemovedDevice};
use crate::machine::pc::pci::Place;
use crate::machine::streams::Connection;
use crate::mem::Mapping;
use crate::qom::{Object, Values};

/// A device of a `-device` or `device_add`.
pub(super) struct Instance {
    pub(super) class: &'static DeviceClass,
    pub(super) id: Option<String>,
    /// Its path in the tree of objects.
    pub(super) path: String,
    /// Name of the bus that it is on.
    pub(super) bus: String,
    /// What its properties were set to.
    pub(super) values: Values,
    pub(super) device: SharedDevice,
    pub(super) object: Arc<dyn Object>,
    /// Devices that it is made of.
    pub(super) parts: Vec<(&'static str, Arc<dyn Object>)>,
    /// Where it is, if that is on a PCI bus.
    pub(super) place: Option<Place>,
    /// The bus behind it, if there is one.
    pub(super) bus_behind: Option<OwnBus>,
    /// The guest has been asked to let it go, and may be asked again at this time of its clock, in nanoseconds.
    pub(super) unplugging: Option<u64>,
    /// What the guest reaches it by, beside base address registers.
    pub(super) _mappings: Vec<Mapping>,
    /// Its connections to character devices.
    pub(super) _connections: Vec<Connection>,
}

/// A bus that a device has for others.
pub(super) struct OwnBus {
    pub(super) name: String,
    /// Its type.
    pub(super) kind: &'static str,
    /// Its path in the tree of objects.
    pub(super) path: String,
    /// The bus itself, unless it is one of PCI.
    pub(super) child: Option<ChildBus>,
}

impl Instance {
    /// The bus behind it, if that is of this name.
    pub(super) fn own_bus(&self, name: &str) -> Option<&OwnBus> {
        self.bus_behind.as_ref().filter(|own| own.name == name)
    }

    /// The ports' bus behind it.
    pub(super) fn port_bus(&self) -> Option<&Arc<PortBus>> {
        let child = self.bus_behind.as_ref()?.child.as_ref()?;
        let ChildBus::Ports(bus) = child;
        Some(bus)
    }

    /// How firmware's tables tell of it.
    pub(super) fn acpi(&self) -> Option<AcpiDevice> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).acpi()
    }

    /// What the tree of objects gets.
    pub(super) fn shown(&self) -> Vec<GuestObject> {
        let below = |name: &str, object: &Arc<dyn Object>| GuestObject {
            path: format!("{}/{name}", self.path),
            object: Arc::clone(object),
        };
        let itself = GuestObject {
            path: self.path.clone(),
            object: Arc::clone(&self.object),
        };
        let parts = self.parts.iter().map(|(name, part)| below(name, part));
        let behind = self.bus_behind.iter().map(|own| GuestObject {
            path: own.path.clone(),
            object: bus(own.kind),
        });
        std::iter::once(itself).chain(parts).chain(behind).collect()
    }

    /// Ends the device, of which nothing reaches the guest any more.
    pub(super) fn end(self) -> RemovedDevice {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).unrealize();
        let parts = self.parts.iter().map(|(name, _)| format!("{}/{name}", self.path));
        RemovedDevice {
            parts: parts.collect(),
            id: self.id,
            path: self.path,
        }
    }
}
