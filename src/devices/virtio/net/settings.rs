//! What a card was made with, and what it offers for that.

use std::time::Duration;

use crate::devices::virtio::Features;
use crate::net::{HostOffloads, Mac, Teller};

pub(super) const CSUM: Features = Features::bit(0);
pub(super) const GUEST_CSUM: Features = Features::bit(1);
pub(super) const CTRL_GUEST_OFFLOADS: Features = Features::bit(2);
pub(super) const MTU: Features = Features::bit(3);
pub(super) const MAC: Features = Features::bit(5);
/// Of the legacy interface: all of TCP's segments.
pub(super) const GSO: Features = Features::bit(6);
pub(super) const GUEST_TSO4: Features = Features::bit(7);
pub(super) const GUEST_TSO6: Features = Features::bit(8);
pub(super) const GUEST_ECN: Features = Features::bit(9);
pub(super) const GUEST_UFO: Features = Features::bit(10);
pub(super) const HOST_TSO4: Features = Features::bit(11);
pub(super) const HOST_TSO6: Features = Features::bit(12);
pub(super) const HOST_ECN: Features = Features::bit(13);
pub(super) const HOST_UFO: Features = Features::bit(14);
pub(super) const MRG_RXBUF: Features = Features::bit(15);
pub(super) const STATUS: Features = Features::bit(16);
pub(super) const CTRL_VQ: Features = Features::bit(17);
pub(super) const CTRL_RX: Features = Features::bit(18);
pub(super) const CTRL_VLAN: Features = Features::bit(19);
pub(super) const CTRL_RX_EXTRA: Features = Features::bit(20);
pub(super) const GUEST_ANNOUNCE: Features = Features::bit(21);
pub(super) const MQ: Features = Features::bit(22);
pub(super) const CTRL_MAC_ADDR: Features = Features::bit(23);
pub(super) const GUEST_USO4: Features = Features::bit(54);
pub(super) const GUEST_USO6: Features = Features::bit(55);
pub(super) const HOST_USO: Features = Features::bit(56);
pub(super) const SPEED_DUPLEX: Features = Features::bit(63);

/// What the driver may take as it comes, if the back end can leave it so.
pub(super) const GUEST_OFFLOADS: [Features; 7] = [
    GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO, GUEST_USO4, GUEST_USO6,
];
/// What needs a back end that knows of checksums and segments.
const OFFLOADS: [Features; 14] = [
    CSUM, GUEST_CSUM, GSO, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO, HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO,
    GUEST_USO4, GUEST_USO6, HOST_USO,
];
/// Buffers of the control queue.
const CONTROL_QUEUE_SIZE: u16 = 64;

/// Bits that a property switches.
pub(super) const SWITCHES: [(&str, Features); 24] = [
    ("csum", CSUM),
    ("guest_csum", GUEST_CSUM),
    ("gso", GSO),
    ("guest_tso4", GUEST_TSO4),
    ("guest_tso6", GUEST_TSO6),
    ("guest_ecn", GUEST_ECN),
    ("guest_ufo", GUEST_UFO),
    ("guest_announce", GUEST_ANNOUNCE),
    ("host_tso4", HOST_TSO4),
    ("host_tso6", HOST_TSO6),
    ("host_ecn", HOST_ECN),
    ("host_ufo", HOST_UFO),
    ("mrg_rxbuf", MRG_RXBUF),
    ("status", STATUS),
    ("ctrl_vq", CTRL_VQ),
    ("ctrl_rx", CTRL_RX),
    ("ctrl_vlan", CTRL_VLAN),
    ("ctrl_rx_extra", CTRL_RX_EXTRA),
    ("ctrl_mac_addr", CTRL_MAC_ADDR),
    ("ctrl_guest_offloads", CTRL_GUEST_OFFLOADS),
    ("mq", MQ),
    ("guest_uso4", GUEST_USO4),
    ("guest_uso6", GUEST_USO6),
    ("host_uso", HOST_USO),
];

/// When frames that the driver offers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Soon.
    Soon,
    /// This long after the first that is offered.
    After(Duration),
}

/// What the back end is to the card's offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// What it can beside checksums and TCP; none if it knows nothing of either.
    pub offloads: Option<HostOffloads>,
}

/// What a card was made with.
pub struct NetSettings {
    /// Its address.
    pub mac: Mac,
    /// Queue pairs, at least one.
    pub pairs: u16,
    /// What users did not switch off.
    pub wanted: Features,
    /// What there is behind it.
    pub backing: Backing,
    /// Buffers of a queue for what comes in.
    pub rx_queue_size: u16,
    /// Buffers of a queue for what goes out.
    pub tx_queue_size: u16,
    /// The network's largest payload; 0 to say nothing of it.
    pub mtu: u16,
    /// Megabits in a second, if it is to tell.
    pub speed: Option<u32>,
    /// Whether it sends and receives at once, if it is to tell.
    pub full_duplex: Option<bool>,
    /// When it sends.
    pub sending: Sending,
    /// Frames sent before others have their turn.
    pub burst: usize,
    /// Its id, and the path of the device in the tree of objects.
    pub id: Option<String>,
    /// The path of what filters.
    pub path: String,
    /// Who tells clients that its filter changed.
    pub teller: Teller,
}

impl NetSettings {
    /// The feature bits that it offers.
    pub(super) fn features(&self) -> Features {
        let none = |bits: &[Features]| bits.iter().fold(Features::NONE, |all, bit| all | *bit);
        let impossible = match self.backing.offloads {
            None => none(&OFFLOADS),
            Some(host) => Features::NONE
                .with(GUEST_UFO | HOST_UFO, !host.ufo)
                .with(GUEST_USO4 | GUEST_USO6 | HOST_USO, !host.uso),
        };
        (self.wanted & !impossible)
            .with(MAC, true)
            .with(MTU, self.mtu != 0)
            .with(SPEED_DUPLEX, self.speed.is_some() || self.full_duplex.is_some())
    }

    /// Sizes of the queues: one pair and control until the driver knows of several.
    pub(super) fn queue_sizes(&self, multiqueue: bool) -> Vec<u16> {
        let pairs = if multiqueue { self.pairs } else { 1 };
        let pair = [self.rx_queue_size, self.tx_queue_size];
        let mut sizes = pair.repeat(pairs.into());
        sizes.push(CONTROL_QUEUE_SIZE);
        sizes
    }

    /// Bytes of the configuration that the driver sees.
    pub(super) fn config_len(&self) -> usize {
        let offered = self.features();
        let ends = [(STATUS, 8), (MQ, 10), (MTU, 12), (SPEED_DUPLEX, 17)];
        let ends = ends
            .into_iter()
            .filter(|(bit, _)| offered.contains(*bit))
            .map(|(_, end)| end);
        ends.max().unwrap_or(6)
    }
}
