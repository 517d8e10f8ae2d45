//! `pcie-root-port`: a port of the root complex, with a slot behind it.

mod class;
mod state;

use std::sync::Arc;

pub use state::RootPortState;

use super::{
    BarKind, ConfigSpace, Msix, MsixLayout, PciFunction, PciState, Pin, Port, SlotNumber, Unplug, UnplugError,
    errors::{add_access_control, add_error_reporting},
    express::{Express, Link, PortType, Slot},
    reserve::Reserve,
    slot::{Effect, HotplugSlot},
};
use crate::{
    devices::{Device, ResetKind},
    irq::{IrqLine, MsiSource},
    vmstate::{StateError, Stateful, Visitor, section},
};

pub use class::CLASS;
use class::ROOT_PORT;

/// Primary, secondary and subordinate bus numbers.
const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1a;
const SECONDARY_LATENCY: usize = 0x1b;
/// Bytes of its configuration space.
const EXTENDED_SIZE: usize = 4096;
/// Capability: subsystem of a bridge.
const CAPABILITY_SUBSYSTEM: u8 = 0x0d;
/// Bytes of memory behind base address register 0: the MSI-X table and its pending bits.
const BAR_SIZE: u64 = 4096;
/// One vector for everything the port reports.
const VECTORS: MsixLayout = MsixLayout {
    vectors: 1,
    bar: 0,
    table: 0,
    pending: 0x800,
};

/// What a root port is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootPortConfig {
    /// Number of the port.
    pub port: u8,
    /// Number of the chassis that the slot is in.
    pub chassis: u8,
    /// Number of the slot.
    pub slot: u16,
    /// Whether devices may come and go.
    pub hotplug: bool,
    /// Whether it offers tags of eight bits.
    pub extended_tag: bool,
    /// Whether the slot of the root bus may hold more functions.
    pub multifunction: bool,
    /// What firmware shall set aside behind it.
    pub reserve: Reserve,
    /// Its link.
    pub link: Link,
    /// Whether the guest may mask uncorrectable errors.
    pub masks_uncorrectable: bool,
    /// Whether the guest may write to the latency timer behind it, which there is none of.
    pub writable_latency: bool,
}

/// How a root port reaches the rest of the machine.
#[derive(Clone)]
pub struct RootPortLinks {
    /// The line that its INTA# leads to.
    pub intx: Arc<dyn IrqLine>,
    /// Where its vectors come from.
    pub msi: Arc<dyn MsiSource>,
    /// Called, with the port locked, when the guest lets the device in the slot go. Must only take note.
    pub ejected: Arc<dyn Fn() + Send + Sync>,
}

/// A root port.
pub struct RootPort {
    config: ConfigSpace,
    express: Express,
    slot: HotplugSlot,
    pin: Pin,
    msix: Msix,
    ejected: Arc<dyn Fn() + Send + Sync>,
    occupied: bool,
    /// ACPI tells of what comes into the slot, so that the port does not.
    told_by_acpi: bool,
    /// The guest let the device go, and it is still there.
    released: bool,
    place: SlotNumber,
}

impl RootPort {
    /// A port with an empty slot.
    #[must_use]
    pub fn new(config: RootPortConfig, links: RootPortLinks) -> Self {
        let mut space = ConfigSpace::new(0x1b36, 0x000c, [6, 4, 0], 0)
            .into_bridge()
            .with_multifunction(config.multifunction)
            .with_interrupt_pin(1)
            .with_scratch(EXTENDED_SIZE);
        if config.writable_latency {
            space.allow_write(SECONDARY_LATENCY, &[0xff]);
        }
        space.add_capability(CAPABILITY_SUBSYSTEM, &[0, 0, 0x36, 0x1b, 0, 0]);
        space.add_bar(0, BarKind::Memory32, BAR_SIZE);
        let msix = Msix::add(&mut space, VECTORS, links.msi);
        let slot = Slot {
            number: config.slot,
            hotplug: config.hotplug,
            extended_tag: config.extended_tag,
        };
        let express = Express::add_port(&mut space, PortType::RootPort, config.port, slot, config.link);
        config.reserve.add(&mut space);
        add_error_reporting(&mut space, config.masks_uncorrectable);
        add_access_control(&mut space);
        let mut port = Self {
            config: space.sealed(),
            express,
            slot: HotplugSlot::new(express, config.hotplug),
            pin: Pin::new(links.intx),
            msix,
            ejected: links.ejected,
            occupied: false,
            told_by_acpi: false,
            released: false,
            place: SlotNumber {
                chassis: config.chassis,
                slot: config.slot,
                hotplug: config.hotplug,
            },
        };
        port.show_slot();
        port
    }

    /// Shows what is in the slot, as after a reset.
    fn show_slot(&mut self) {
        match self.told_by_acpi {
            true => self.express.set_powered(&mut self.config, self.occupied),
            false => self.express.set_present(&mut self.config, self.occupied),
        }
        self.slot.resume(&self.config);
    }

    fn act(&mut self, effect: Effect) {
        if self.msix.is_enabled(&self.config) {
            self.pin.set(&mut self.config, false);
            if effect.raise {
                self.msix.notify(&self.config, 0);
            }
        } else {
            self.pin.set(&mut self.config, self.slot.is_interrupting());
        }
        if effect.eject {
            self.released = true;
            (self.ejected)();
        }
    }
}

impl Stateful<RootPortState> for RootPort {
    fn state(&self) -> RootPortState {
        RootPortState {
            pci: PciState::express(&self.config, [self.pin.is_asked(), false, false, false]),
            msix: self.msix.state(),
        }
    }

    fn set_state(&mut self, state: RootPortState) -> Result<(), StateError> {
        self.config.restore(&state.pci.config)?;
        self.msix.set_state(&self.config, state.msix);
        self.slot.resume(&self.config);
        self.act(Effect::default());
        Ok(())
    }
}

impl Device for RootPort {
    fn type_name(&self) -> &'static str {
        ROOT_PORT.name
    }

    fn reset(&mut self) {
        self.config.reset();
        self.msix.reset();
        self.released = false;
        self.show_slot();
    }

    fn reset_hold(&mut self, _: ResetKind) {
        self.act(Effect::default());
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<RootPortState>(self))
    }
}

impl Port for RootPort {
    fn number(&self) -> SlotNumber {
        self.place
    }

    fn set_occupied(&mut self, occupied: bool) {
        self.occupied = occupied;
        self.show_slot();
    }

    fn leave_to_acpi(&mut self) {
        self.told_by_acpi = true;
        self.show_slot();
    }

    fn plug(&mut self) {
        self.occupied = true;
        let effect = self.slot.insert(&mut self.config);
        self.act(effect);
    }

    fn unplug(&mut self) {
        self.occupied = false;
        let effect = self.slot.remove(&mut self.config);
        self.act(effect);
    }

    fn request_unplug(&mut self) -> Result<Unplug, UnplugError> {
        let (unplug, effect) = self.slot.request_removal(&mut self.config)?;
        self.act(effect);
        Ok(unplug)
    }

    fn bus_numbers(&self) -> (u8, u8) {
        (self.config.u8(SECONDARY_BUS), self.config.u8(SUBORDINATE_BUS))
    }

    fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }
}

impl PciFunction for RootPort {
    fn asks_by_pin(&self) -> bool {
        self.pin.is_asked() && self.config.allows_intx()
    }

    fn as_port(&mut self) -> Option<&mut dyn Port> {
        Some(self)
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_read(&mut self, at: u16, data: &mut [u8]) {
        if self.express.is_link_status(at, data.len()) {
            self.express.train(&mut self.config, self.occupied);
        }
        self.config.read(at, data);
    }

    fn config_written(&mut self, at: u16, len: usize) {
        self.msix.config_written(&self.config);
        let effect = self.slot.config_written(&mut self.config, at, len);
        self.act(effect);
    }

    fn bar_read(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        if !self.msix.read(offset, data) {
            data.fill(0);
        }
    }

    fn bar_write(&mut self, _bar: usize, offset: u64, data: &[u8]) {
        self.msix.write(&self.config, offset, data);
    }
}

#[cfg(test)]
mod tests;
