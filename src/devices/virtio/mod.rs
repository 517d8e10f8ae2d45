//! Virtio devices (OASIS virtio 1.2), one file or folder for each kind, and what they have in common.
//!
//! ```text
//! driver -- transport -- Core: status, features, queues      (vCPU threads, under the function's lock)
//!                          |
//!                        Link, Virtqueue                      (atomics, and a lock for each queue)
//!                          |
//!                        VirtioDevice                         (an event loop)
//! ```
//!
//! The locks are taken from top to bottom; a device never takes its transport's.

pub mod blk;
pub mod console;
mod core;
mod device;
mod features;
mod link;
pub mod net;
pub mod queue;
pub mod rng;
pub mod saved;
mod status;
pub mod transport;
mod types;
mod virtqueue;

use crate::qom::TypeInfo;
pub use device::{Kind, VirtioDevice};
pub use features::Features;
pub use link::{Interrupt, Link};
pub use virtqueue::{Delivery, Taken, Virtqueue};

/// What all virtio devices without their transport inherit from.
static VIRTIO_DEVICE: TypeInfo = TypeInfo {
    name: "virtio-device",
    parent: Some("device"),
    is_abstract: true,
    interfaces: &[],
    bus: Some("virtio-bus"),
    user_creatable: false,
    hotpluggable: false,
    description: "",
    properties: &transport::pci::RINGS,
};

/// Types that functions inherit from, and of what is behind them.
pub(super) static TYPES: [&TypeInfo; 12] = [
    &VIRTIO_DEVICE,
    &transport::pci::VIRTIO_PCI,
    &rng::RNG_PCI_BASE,
    &rng::RNG_DEVICE,
    &console::SERIAL_PCI_BASE,
    &console::SERIAL_DEVICE,
    console::PORT_TYPES[0],
    console::PORT_TYPES[1],
    &net::NET_PCI_BASE,
    &net::NET_DEVICE,
    &blk::BLK_PCI_BASE,
    &blk::BLK_DEVICE,
];
