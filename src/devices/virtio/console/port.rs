//! A port, as its bus has it.

use crate::devices::PortNews;
use crate::devices::characters::Sink;
use crate::devices::virtio::Taken;

/// What a port is made from.
pub struct PortConfig {
    /// What the guest knows it by.
    pub name: Option<String>,
    /// It is a console: whoever is at the other end is there always.
    pub is_console: bool,
    /// Id of the device, for those who manage the guest.
    pub id: Option<String>,
}

/// Why there can be no such port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Drivers without the feature of several ports take port 0 for a console.
    #[error("Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility.")]
    Reserved,
    /// The number is taken.
    #[error("virtio-serial-bus: A port already exists at id {0}")]
    Number(u32),
    /// The name is taken, at this device.
    #[error("virtio-serial-bus: A port already exists by name {0}")]
    Name(String),
    /// The number is beyond the last.
    #[error("virtio-serial-bus: Out-of-range port id specified, max. allowed: {0}")]
    Range(u32),
    /// All numbers are taken.
    #[error("virtio-serial-bus: Maximum port limit for this device reached")]
    Full,
}

/// A port.
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) is_console: bool,
    /// What those who manage the guest hear of it by; nothing without an id.
    pub(super) news: Option<PortNews>,
    /// Where the guest's characters go.
    pub(super) sink: Box<dyn Sink>,
    /// Somebody is at the other end.
    pub(super) host_open: bool,
    /// The guest has its end open.
    pub(super) guest_open: bool,
    /// The back end takes no more for now.
    pub(super) throttled: bool,
    /// What is held came with the guest, from where somebody was at the other end: it is kept until somebody is here.
    pub(super) awaits_host: bool,
    /// What the host said while the guest was about to be paused.
    pub(super) late: Vec<u8>,
    /// A buffer of the guest that was sent in part.
    pub(super) held: Option<Held>,
}

/// A buffer that was sent in part.
pub(super) struct Held {
    pub(super) taken: Taken,
    /// Bytes that have been sent.
    pub(super) sent: u64,
}
