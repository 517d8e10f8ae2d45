//! A device that has been made: its class, what it was made from, and its place.

use std::sync::PoisonError;

use serde_json::{Value, json};

use crate::devices::class::DeviceClass;
use crate::devices::{AcpiDevice, SharedDevice};
use crate::machine::info::DeviceInfo;
use crate::machine::pc::pci::Place;
use crate::mem::Mapping;
use crate::qom::{Registry, Values};

/// The device behind one that is but the way to it, with those of its values that its own type declares.
pub(super) fn backend(registry: &Registry, device: &SharedDevice, path: &str, values: &Values) -> Option<DeviceInfo> {
    let qom_type = device.lock().unwrap_or_else(PoisonError::into_inner).backend()?;
    let declared = registry.properties(qom_type).into_iter().filter(|known| known.settable);
    let value = |name: &'static str| Some((name.to_owned(), values.get(name)?.clone()));
    Some(DeviceInfo {
        id: None,
        qom_type,
        path: format!("{path}/virtio-backend"),
        properties: declared.filter_map(|known| value(known.name)).collect(),
    })
}

/// A device of a `-device` or `device_add`.
pub(super) struct Instance {
    pub(super) class: &'static DeviceClass,
    pub(super) id: Option<String>,
    /// Its path in the object tree.
    pub(super) path: String,
    /// What its properties were set to.
    pub(super) values: Values,
    pub(super) device: SharedDevice,
    /// The device behind it, if it is but the way to another.
    pub(super) backend: Option<DeviceInfo>,
    /// Where it is, if that is on a PCI bus.
    pub(super) place: Option<Place>,
    /// What the guest reaches it by, beside base address registers.
    pub(super) _mappings: Vec<Mapping>,
}

impl Instance {
    /// How firmware's tables tell of it.
    pub(super) fn acpi(&self) -> Option<AcpiDevice> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).acpi()
    }

    /// The device as the tree of objects shows it.
    pub(super) fn info(&self) -> DeviceInfo {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |name: &str| match (name, self.place) {
            ("addr", Some((_, addr))) => Some(json!(addr.byte())),
            _ => device.property(name),
        };
        let declared = self.values.names();
        let value = |name: &'static str| own(name).or_else(|| self.values.get(name).cloned());
        let properties = declared.filter_map(|name| Some((name.to_owned(), value(name)?)));
        DeviceInfo {
            id: self.id.clone(),
            qom_type: self.class.info.name,
            path: self.path.clone(),
            properties: properties.collect::<serde_json::Map<String, Value>>(),
        }
    }
}
