//! Networks: back ends of network cards, each with an event loop of its own, and the list of cards and back ends that clients
//! know by name.
//!
//! ```text
//! card -- Receiver, Transmitter -- Port (one for each queue) -- tap, socket
//!   \                               |
//!    Nic (link, filter, announce)  Netdev (loop, peer)
//!      \                           /
//!       Networks: set_link, query-rx-filter, announce-self, netdev_del
//! ```
//!
//! A card pulls frames from a port when it has room for them, so that what it cannot take waits outside. What comes while
//! no card has the back end is thrown away.

mod address;
mod announce;
mod config;
mod datagram;
mod error;
mod frame;
mod mac;
mod netdev;
mod networks;
mod open;
mod port;
mod stream;
mod tap;

pub use announce::AnnounceSchedule;
pub use config::NetdevConfig;
pub use error::NetError;
pub use frame::Frame;
pub use mac::Mac;
pub use netdev::{Attachment, Netdev};
pub use networks::{MacClaim, Networks, News, Nic, NicRegistration, RxFilter, RxState, Teller};
pub use open::Opened;
pub use port::{Port, Receiver, Transmitter};
pub use tap::{HostOffloads, Offloads};

/// Bytes of the header that every frame has in front while it is here: `virtio_net_hdr_v1` (virtio 1.2, 5.1.6). Where a back
/// end has no such header, it is zero.
pub const HEADER_LEN: usize = 12;
/// Bytes of a frame at most, header included: 64 KiB that are yet to be cut into segments, and what is in front of them.
pub const MAX_FRAME: usize = HEADER_LEN + 69_632;
/// Queue pairs of a back end at most.
pub const MAX_QUEUES: usize = 256;
