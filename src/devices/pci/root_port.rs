//! `pcie-root-port`: a port of the root complex, with a slot behind it.

use serde_json::{Value, json};

use super::{
    ConfigSpace, PciFunction, config_state,
    express::{Express, PortType, Slot},
    restore_config,
};
use crate::{
    devices::{Device, DeviceState},
    qom::{Default, PropertyInfo, PropertyKind, TypeInfo},
};

/// Primary, secondary and subordinate bus numbers.
const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1a;
/// Capability: subsystem of a bridge.
const CAPABILITY_SUBSYSTEM: u8 = 0x0d;
/// Version of the saved state.
const VERSION: u32 = 1;

/// The QOM type.
pub static ROOT_PORT: TypeInfo = TypeInfo {
    name: "pcie-root-port",
    parent: Some("pci-device"),
    is_abstract: false,
    interfaces: &["pci-express-device"],
    bus: Some("PCI"),
    user_creatable: true,
    hotpluggable: false,
    description: "PCI Express Root Port",
    properties: &[
        PropertyInfo::new("port", PropertyKind::Uint8, Default::Uint(0), "Number of the port"),
        PropertyInfo::new(
            "chassis",
            PropertyKind::Uint8,
            Default::Uint(0),
            "Chassis the slot is in",
        ),
        PropertyInfo::new("slot", PropertyKind::Uint16, Default::Uint(0), "Number of the slot"),
        PropertyInfo::new(
            "hotplug",
            PropertyKind::Bool,
            Default::Bool(true),
            "Devices may come and go",
        ),
    ],
};

/// What a root port is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootPortConfig {
    /// Number of the port.
    pub port: u8,
    /// Number of the slot.
    pub slot: u16,
    /// Whether devices may come and go.
    pub hotplug: bool,
    /// Whether the slot of the root bus may hold more functions.
    pub multifunction: bool,
}

/// A root port.
pub struct RootPort {
    config: ConfigSpace,
    express: Express,
    occupied: bool,
}

impl RootPort {
    /// A port with an empty slot.
    #[must_use]
    pub fn new(config: RootPortConfig) -> Self {
        let mut space = ConfigSpace::new(0x1b36, 0x000c, [6, 4, 0], 0)
            .into_bridge()
            .with_multifunction(config.multifunction)
            .with_interrupt_pin(1);
        space.add_capability(CAPABILITY_SUBSYSTEM, &[0, 0, 0x36, 0x1b, 0, 0]);
        let slot = Slot {
            number: config.slot,
            hotplug: config.hotplug,
        };
        let express = Express::add_port(&mut space, PortType::RootPort, config.port, slot);
        Self {
            config: space.sealed(),
            express,
            occupied: false,
        }
    }

    /// Says whether a device is in the slot.
    pub fn set_occupied(&mut self, occupied: bool) {
        self.occupied = occupied;
        self.express.set_present(&mut self.config, occupied);
    }

    /// The numbers the guest gave the bus behind the port and the last bus behind that.
    #[must_use]
    pub fn bus_numbers(&self) -> (u8, u8) {
        (self.config.u8(SECONDARY_BUS), self.config.u8(SUBORDINATE_BUS))
    }
}

impl Device for RootPort {
    fn type_name(&self) -> &'static str {
        ROOT_PORT.name
    }

    fn reset(&mut self) {
        self.config.reset();
        self.express.set_present(&mut self.config, self.occupied);
    }

    fn state(&self) -> DeviceState {
        DeviceState::Versioned {
            version: VERSION,
            fields: json!({ "config": config_state(&self.config) }),
        }
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("pcie-root-port state version {version} is not {VERSION}"));
        }
        restore_config(&mut self.config, fields)
    }
}

impl PciFunction for RootPort {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_express_port_with_the_slot_given() {
        let port = RootPort::new(RootPortConfig {
            port: 0x10,
            slot: 3,
            hotplug: true,
            multifunction: true,
        });
        let config = port.config();
        assert_eq!((config.u32(0), config.u8(0x0e)), (0x000c_1b36, 0x81));
        let mut at = usize::from(config.u8(0x34));
        while config.u8(at) != 0x10 {
            at = usize::from(config.u8(at + 1));
            assert_ne!(at, 0, "no PCI Express capability");
        }
        assert_eq!(config.u16(at + 2), 0x0142);
        assert_eq!(config.u32(at + 0x0c) >> 24, 0x10);
        assert_eq!(config.u32(at + 0x14) >> 19, 3);
        assert_eq!(config.u16(at + 0x1a) & 0x40, 0);
    }

    #[test]
    fn a_device_in_the_slot_shows_and_stays_over_a_reset() {
        let mut port = RootPort::new(RootPortConfig {
            hotplug: true,
            ..RootPortConfig::default()
        });
        port.config_mut().write(0x18, &[0, 5, 7]);
        assert_eq!(port.bus_numbers(), (5, 7));
        port.set_occupied(true);
        port.reset();
        assert_eq!(port.bus_numbers(), (0, 0));
        let status = port.express_status();
        assert_eq!(status & 0x40, 0x40);
    }

    impl RootPort {
        fn express_status(&self) -> u16 {
            (0x40..0x100)
                .step_by(4)
                .find(|at| self.config.u8(*at) == 0x10)
                .map_or(0, |at| self.config.u16(at + 0x1a))
        }
    }
}
