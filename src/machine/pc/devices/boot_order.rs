//! What firmware starts from: the devices with a `bootindex`, by the names that Open Firmware has for them.

use std::sync::PoisonError;

use super::error::PlugError;
use super::instance::Instance;
use super::{Devices, Plugging};
use crate::devices::BootName;
use crate::machine::pc::pci::RootComplex;
use crate::machine::pci::Devfn;
use crate::qom::Values;

/// Where the PCI root bus is found.
const ROOT: &str = "/pci@i0cf8";
/// The property.
pub(super) const BOOT_INDEX: &str = "bootindex";

impl Devices {
    /// Paths of the devices that firmware is to start from, the first one first.
    pub(crate) fn boot_paths(&self) -> Vec<String> {
        let instances = self.instances();
        let path = |instance: &Instance| Some((index(&instance.values)?, boot_path(&self.pci, instance)?));
        let mut paths: Vec<_> = instances.iter().filter_map(path).collect();
        paths.sort_by_key(|(index, _)| *index);
        paths.into_iter().map(|(_, path)| path).collect()
    }
}

impl Plugging<'_> {
    /// Two devices are not the same in the order.
    pub(super) fn check_boot_index(&self, values: &Values) -> Result<(), PlugError> {
        let Some(wanted) = index(values) else { return Ok(()) };
        let is_taken = self.others.iter().any(|other| index(&other.values) == Some(wanted));
        match is_taken {
            true => Err(PlugError::BootIndexTaken(wanted)),
            false => Ok(()),
        }
    }
}

/// A device's place in the order, if it has one.
fn index(values: &Values) -> Option<i64> {
    values.int(BOOT_INDEX).filter(|index| *index >= 0)
}

fn boot_path(pci: &RootComplex, instance: &Instance) -> Option<String> {
    let device = instance.device.lock().unwrap_or_else(PoisonError::into_inner);
    let BootName { function, unit } = device.boot_name()?;
    let mut way = pci.way_to(instance.place?);
    let own = way.pop()?;
    let bridges: String = way
        .into_iter()
        .map(|bridge| format!("/{}", at("pci-bridge", bridge)))
        .collect();
    Some(format!("{ROOT}{bridges}/{}/{unit}", at(function, own)))
}

/// The name of a function in a slot.
fn at(name: &str, devfn: Devfn) -> String {
    match devfn.function() {
        0 => format!("{name}@{:x}", devfn.slot()),
        function => format!("{name}@{:x},{function:x}", devfn.slot()),
    }
}
