//! What a virtio device is to its transport.

use std::sync::Arc;

use serde_json::Value;

use super::saved::OwnState;
use super::{Features, Link, Virtqueue};
use crate::devices::BootName;
use crate::devices::class::ChildBus;
use crate::devices::drain::Drain;
use crate::vmstate::{Layout, StateError};

/// A kind of device: what drivers and saved states know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name in messages and saved states, such as `virtio-rng`.
    pub name: &'static str,
    /// Device id (virtio 1.2, 5).
    pub id: u16,
    /// PCI device id of the transitional device; none for one that never had a legacy interface.
    pub transitional_id: Option<u16>,
    /// PCI class, subclass and interface.
    pub class: [u8; 3],
}

/// A virtio device without its transport.
///
/// A device works on an event loop, never on a vCPU thread: the queues' doorbells wake it. It takes buffers from its queues
/// and gives them back; what may happen when is the queues' business ([`Virtqueue`]), so that a device needs to know neither
/// of pauses nor of broken rings.
pub trait VirtioDevice: Send + Sync {
    /// What it is.
    fn kind(&self) -> &'static Kind;
    /// The feature bits of its kind that it offers.
    fn features(&self) -> Features;
    /// Sizes of its queues, as many as the driver sees.
    fn queue_sizes(&self) -> Vec<u16>;
    /// The driver wants these features. What the device says of its queues may change with them.
    fn accept(&self, features: Features) {
        let _ = features;
    }
    /// The device returns to the state after power-on; no feature is accepted any more.
    fn reset(&self) {}
    /// How many queues there may be.
    fn queue_limit(&self) -> usize {
        self.queue_sizes().len()
    }
    /// Feature bits of its kind that only drivers of the legacy interface see.
    fn legacy_features(&self) -> Features {
        Features::NONE
    }
    /// Its configuration as the driver sees it, little endian.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The driver wrote to its configuration; the range lies within it.
    fn write_config(&self, offset: usize, data: &[u8]) {
        let _ = (offset, data);
    }
    /// Starts to work on these queues, until it is dropped.
    fn connect(&self, link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>);
    /// What firmware calls it, as [`Device::boot_name`](crate::devices::Device::boot_name).
    fn boot_name(&self) -> Option<BootName> {
        None
    }
    /// The driver is there, and wants these features.
    fn driver_ready(&self, features: Features) {
        let _ = features;
    }
    /// The driver is gone: nothing it set up holds any more.
    fn driver_gone(&self) {}
    /// What it makes of a property beyond the value that it was given, as [`Device::property`](crate::devices::Device::property).
    fn property(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
    /// Changes a property of the living device, as [`Device::set_property`](crate::devices::Device::set_property).
    ///
    /// # Errors
    /// The device does not take the value.
    fn set_property(&self, name: &str, value: &Value) -> Option<Result<(), String>> {
        let _ = (name, value);
        None
    }
    /// The bus that it has for other devices.
    fn child_bus(&self) -> Option<ChildBus> {
        None
    }
    /// Name and version of its section in a saved state; none if it cannot be saved.
    fn section(&self) -> Option<Layout> {
        None
    }
    /// Whether it begins anew with buffers that it has taken and not given back. Such a device gives them back in order.
    fn redoes_buffers(&self) -> bool {
        true
    }
    /// What only it has of a saved state.
    fn state(&self) -> OwnState {
        OwnState::None
    }
    /// Becomes what a state says. Its queues are what they were, and its driver is there if it was.
    ///
    /// # Errors
    /// Names what it cannot be.
    fn set_state(&self, state: OwnState) -> Result<(), StateError> {
        let _ = state;
        Ok(())
    }
    /// The guest has been paused: takes nothing more until [`VirtioDevice::resume`]. Returns what there is to wait for, if
    /// anything is under way.
    fn pause(&self) -> Option<Drain> {
        None
    }
    /// The guest is about to run.
    fn resume(&self) {}
    /// The device has been taken out: lets go of what is not let go when it is dropped.
    fn unrealize(&self) {}
    /// Forgets what it was doing for a queue whose ring was taken away.
    fn reset_queue(&self, queue: u16);
}
