//! What every PCI function offers.

use std::sync::{Arc, Mutex};

use super::{ConfigSpace, Unplug, UnplugError};
use crate::devices::{Device, IrqLine};
use crate::mem::Doorbell;

/// A function as the machine shares it. The lock is held while it answers the guest.
pub type SharedFunction = Arc<Mutex<dyn PciFunction>>;

/// Where a function is made.
pub struct PciPlace {
    /// Slot and function, as in configuration addresses.
    pub devfn: u8,
    /// Whether the slot may hold other functions.
    pub multifunction: bool,
    /// Whether it is behind a PCI Express port.
    pub express: bool,
    /// The line that its INTA# leads to.
    pub intx: Arc<dyn IrqLine>,
}

/// How a port's slot is numbered, and what may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotNumber {
    /// Its chassis.
    pub chassis: u8,
    /// Its number in the chassis.
    pub slot: u16,
    /// Whether devices may come and go.
    pub hotplug: bool,
}

/// A port: a function with a slot behind it.
pub trait Port {
    /// The slot.
    fn number(&self) -> SlotNumber;
    /// The numbers the guest gave the bus behind the port and the last bus behind that.
    fn bus_numbers(&self) -> (u8, u8);
    /// Says whether a device is in the slot when the machine starts.
    fn set_occupied(&mut self, occupied: bool);
    /// From now on ACPI tells the guest of what comes into the slot, and the port says nothing of it.
    fn leave_to_acpi(&mut self);
    /// A device was put into the slot while the guest runs: tells it.
    fn plug(&mut self);
    /// The device in the slot was taken out while the guest runs.
    fn unplug(&mut self);
    /// Asks the guest to let the device in the slot go. When it has, there is a [`crate::devices::Notice::SlotReleased`].
    ///
    /// # Errors
    /// The slot has no hot plug, or the guest is busy with it.
    fn request_unplug(&mut self) -> Result<Unplug, UnplugError>;
    /// Whether the guest has let the device go since this was last asked.
    fn take_released(&mut self) -> bool;
}

/// A PCI function. What lies behind its base address registers is reached by register number and offset.
pub trait PciFunction: Device {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;
    /// Its configuration space, to be written by the guest.
    fn config_mut(&mut self) -> &mut ConfigSpace;
    /// A guest's read from configuration space.
    fn config_read(&mut self, at: u16, data: &mut [u8]) {
        self.config().read(at, data);
    }
    /// The guest wrote `len` bytes of configuration space from `at` on, and it has taken what may change.
    fn config_written(&mut self, at: u16, len: usize) {
        let _ = (at, len);
    }
    /// Whether it asks for an interrupt by its pin, and may.
    fn asks_by_pin(&self) -> bool {
        false
    }
    /// The same as a port, if it is one.
    fn as_port(&mut self) -> Option<&mut dyn Port> {
        None
    }
    /// A guest's read from what base address register `bar` maps.
    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]) {
        let _ = (bar, offset);
        data.fill(0xff);
    }
    /// A guest's write to what base address register `bar` maps.
    fn bar_write(&mut self, bar: usize, offset: u64, data: &[u8]) {
        let _ = (bar, offset, data);
    }
    /// Doorbells in what base address register `bar` maps, and their offsets. They do not change.
    fn doorbells(&self, bar: usize) -> Vec<(u64, Doorbell)> {
        let _ = bar;
        Vec::new()
    }
}
