//! The control queue (virtio 1.2, 5.1.6.5).

use std::io;
use std::sync::Arc;

use super::card::Card;
use super::filter::{Filter, TABLE, Table};
use super::settings::{CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, GUEST_ANNOUNCE, MQ};
use crate::devices::virtio::{Features, Virtqueue};
use crate::io::Handle;
use crate::net::Mac;

const OK: u8 = 0;
const ERROR: u8 = 1;

/// Classes of commands, and their commands.
const RX: u8 = 0;
const RX_PROMISCUOUS: u8 = 0;
const RX_ALL_MULTICAST: u8 = 1;
const RX_ALL_UNICAST: u8 = 2;
const RX_NO_MULTICAST: u8 = 3;
const RX_NO_UNICAST: u8 = 4;
const RX_NO_BROADCAST: u8 = 5;
const MAC: u8 = 1;
const MAC_TABLE_SET: u8 = 0;
const MAC_ADDR_SET: u8 = 1;
const VLAN: u8 = 2;
const VLAN_ADD: u8 = 0;
const VLAN_DEL: u8 = 1;
const ANNOUNCE: u8 = 3;
const ANNOUNCE_ACK: u8 = 0;
const MULTIQUEUE: u8 = 4;
const MULTIQUEUE_PAIRS_SET: u8 = 0;
const OFFLOADS: u8 = 5;
const OFFLOADS_SET: u8 = 0;

/// Bytes of a command that are looked at: two full tables of addresses, and more than a driver has reason to send.
const MAX_COMMAND: usize = 65_536;

/// A buffer that holds no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("virtio-net ctrl missing headers")]
struct NoCommand;

/// Carries out what the driver commands in the last queue, for ever. That is the control queue of a driver which knows of all
/// queue pairs; where there is one pair, it is that of every driver.
pub(super) async fn run(card: Arc<Card>, on: Handle) {
    let index = 2 * usize::from(card.settings.pairs);
    let Some(queue) = card.queue(index) else { return };
    let served: io::Result<()> = async {
        let rung = on.counter(queue.doorbell().event())?;
        loop {
            if card.control_queue() == index {
                serve(&card, queue);
            }
            rung.take().await?;
        }
    }
    .await;
    if let Err(error) = served {
        tracing::error!(%error, "a network card hears no commands any more");
    }
}

/// Carries out what there is.
pub(super) fn serve(card: &Card, queue: &Virtqueue) {
    let mut command = Vec::new();
    while let Some(taken) = queue.pop() {
        let element = taken.element();
        let Some(link) = card.link() else { return };
        if element.writable().is_empty() || element.readable_len() < 2 {
            return link.fail(NoCommand);
        }
        let len = usize::try_from(element.readable_len()).unwrap_or(usize::MAX);
        command.resize(len.min(MAX_COMMAND), 0);
        let ack = match element.read(&link.ram(), 0, &mut command) {
            Ok(_) => obey(card, &command),
            Err(_) => ERROR,
        };
        queue.finish(taken, vec![ack]);
    }
}

/// Carries a command out, and says whether it could be.
pub(super) fn obey(card: &Card, command: &[u8]) -> u8 {
    let [class, number, data @ ..] = command else {
        return ERROR;
    };
    let done = match *class {
        RX => set_mode(card, *number, data),
        MAC => set_macs(card, *number, data),
        VLAN => set_vlan(card, *number, data),
        ANNOUNCE => *number == ANNOUNCE_ACK && card.has_accepted(GUEST_ANNOUNCE) && card.announced(),
        MULTIQUEUE => set_pairs(card, *number, data),
        OFFLOADS => set_offloads(card, *number, data),
        _ => false,
    };
    if done { OK } else { ERROR }
}

fn set_mode(card: &Card, number: u8, data: &[u8]) -> bool {
    let Some(on) = data.first().map(|on| *on != 0) else {
        return false;
    };
    let (needed, mode): (Features, fn(&mut Filter) -> &mut bool) = match number {
        RX_PROMISCUOUS => (CTRL_RX, |filter| &mut filter.promiscuous),
        RX_ALL_MULTICAST => (CTRL_RX, |filter| &mut filter.all_multicast),
        RX_ALL_UNICAST => (CTRL_RX_EXTRA, |filter| &mut filter.all_unicast),
        RX_NO_MULTICAST => (CTRL_RX_EXTRA, |filter| &mut filter.no_multicast),
        RX_NO_UNICAST => (CTRL_RX_EXTRA, |filter| &mut filter.no_unicast),
        RX_NO_BROADCAST => (CTRL_RX_EXTRA, |filter| &mut filter.no_broadcast),
        _ => return false,
    };
    if !card.has_accepted(needed) {
        return false;
    }
    card.change_filter(|filter| *mode(filter) = on);
    true
}

fn set_macs(card: &Card, number: u8, data: &[u8]) -> bool {
    match number {
        MAC_ADDR_SET if card.has_accepted(CTRL_MAC_ADDR) => {
            let Ok(mac) = <[u8; 6]>::try_from(data) else {
                return false;
            };
            card.change_filter(|filter| filter.mac = Mac(mac));
            true
        }
        MAC_TABLE_SET if card.has_accepted(CTRL_RX) => {
            let Some((unicast, rest)) = table(data, TABLE) else {
                return false;
            };
            let Some((multicast, [])) = table(rest, TABLE - unicast.macs.len()) else {
                return false;
            };
            card.change_filter(|filter| (filter.unicast, filter.multicast) = (unicast, multicast));
            true
        }
        _ => false,
    }
}

/// A table of addresses after their number; one with more than there is `room` for is none, and takes all. What comes after
/// it is returned as well.
fn table(data: &[u8], room: usize) -> Option<(Table, &[u8])> {
    let (count, data) = data.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (macs, rest) = data.split_at_checked(count.checked_mul(6)?)?;
    let table = match count <= room {
        true => Table {
            macs: macs
                .chunks_exact(6)
                .filter_map(|mac| mac.try_into().ok())
                .map(Mac)
                .collect(),
            overflow: false,
        },
        false => Table {
            macs: Vec::new(),
            overflow: true,
        },
    };
    Some((table, rest))
}

fn set_vlan(card: &Card, number: u8, data: &[u8]) -> bool {
    let Ok(tag) = <[u8; 2]>::try_from(data) else {
        return false;
    };
    let on = match number {
        VLAN_ADD => true,
        VLAN_DEL => false,
        _ => return false,
    };
    if !card.has_accepted(CTRL_VLAN) {
        return false;
    }
    let mut known = false;
    card.change_filter(|filter| known = filter.set_vlan(u16::from_le_bytes(tag), on));
    known
}

fn set_pairs(card: &Card, number: u8, data: &[u8]) -> bool {
    let Some(pairs) = data.first_chunk::<2>().filter(|_| number == MULTIQUEUE_PAIRS_SET) else {
        return false;
    };
    let pairs = u16::from_le_bytes(*pairs);
    if !card.has_accepted(MQ) || !(1..=card.settings.pairs).contains(&pairs) {
        return false;
    }
    card.set_pairs(pairs);
    true
}

fn set_offloads(card: &Card, number: u8, data: &[u8]) -> bool {
    let Some(bits) = data.first_chunk::<8>().filter(|_| number == OFFLOADS_SET) else {
        return false;
    };
    let bits = u64::from_le_bytes(*bits);
    let wanted = Features::NONE
        .with_word(0, bits as u32)
        .with_word(1, (bits >> 32) as u32);
    card.set_guest_offloads(wanted)
}
