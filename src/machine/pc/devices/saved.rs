//! The devices of a machine as saved states see them.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Devices, Instance};
use crate::devices::SharedDevice;
use crate::devices::pci::Lpc;
use crate::devices::pm::Pm;
use crate::machine::pc::pci::ConfigPorts;
use crate::machine::pc::timed::Timed;

/// The devices whose states are one section, that of the LPC bridge.
#[derive(Clone)]
pub(crate) struct LpcParts {
    /// Where the bridge is, as in the section's name.
    pub(crate) path: String,
    pub(crate) lpc: Arc<Mutex<Lpc>>,
    pub(crate) pm: Arc<Mutex<Timed<Pm>>>,
    /// They have the reset control register.
    pub(crate) ports: Arc<Mutex<ConfigPorts>>,
}

impl Devices {
    /// Each device that stands in the way of saving the guest, and why.
    pub(crate) fn migration_blockers(&self) -> Vec<(&'static str, &'static str)> {
        let instances: Vec<SharedDevice> = self.instances().iter().map(|one| Arc::clone(&one.device)).collect();
        let blocker = |device: &SharedDevice| {
            let device = device.lock().unwrap_or_else(PoisonError::into_inner);
            Some((device.type_name(), device.migration_blocker()?))
        };
        self.all.iter().chain(&instances).filter_map(blocker).collect()
    }

    /// What the section of the LPC bridge is made of.
    pub(crate) fn lpc_parts(&self) -> LpcParts {
        self.lpc.clone()
    }

    /// How many buses there are behind ports.
    pub(crate) fn buses_behind_ports(&self) -> usize {
        self.pci.buses_behind_ports()
    }

    /// The machine's own devices of this type, with the path of a PCI function.
    pub(crate) fn built_in(&self, type_name: &str) -> Vec<(Option<String>, SharedDevice)> {
        if let Some((path, function)) = self.pci.on_root_bus(type_name) {
            return vec![(Some(path), function as SharedDevice)];
        }
        let is_wanted =
            |device: &&SharedDevice| device.lock().unwrap_or_else(PoisonError::into_inner).type_name() == type_name;
        let wanted = self.all.iter().filter(is_wanted);
        wanted
            .map(|device| (absent_path(type_name), Arc::clone(device)))
            .collect()
    }

    /// The devices that users plugged in, in the order of their making, with the paths of PCI functions.
    pub(crate) fn plugged_in(&self) -> Vec<(Option<String>, SharedDevice)> {
        let instances = self.instances();
        let described = |one: &Instance| {
            let path = one.place.map(|place| self.pci.section_path(place));
            (path, Arc::clone(&one.device))
        };
        instances.iter().map(described).collect()
    }
}

/// Where the functions of the chipset are that are not here.
fn absent_path(type_name: &str) -> Option<String> {
    match type_name {
        "ich9-ahci" => Some("0000:00:1f.2".to_owned()),
        "ICH9-SMB" => Some("0000:00:1f.3".to_owned()),
        _ => None,
    }
}
