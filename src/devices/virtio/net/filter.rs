//! Which frames a card takes (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3).

use crate::net::{Mac, RxFilter, RxState};

/// Addresses that a card remembers beside its own.
pub(super) const TABLE: usize = 64;
/// Tags there may be.
const VLANS: usize = 4096;
/// Bytes in front of what a frame carries: destination, source and type.
const ETHERNET: usize = 14;
/// The type of frames with a tag (IEEE 802.1Q).
const TAGGED: [u8; 2] = [0x81, 0x00];

/// A table of addresses that has only so much room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) macs: Vec<Mac>,
    pub(super) overflow: bool,
}

/// The filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The card's own address, which the driver may change.
    pub(super) mac: Mac,
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) all_unicast: bool,
    pub(super) no_multicast: bool,
    pub(super) no_unicast: bool,
    pub(super) no_broadcast: bool,
    pub(super) unicast: Table,
    pub(super) multicast: Table,
    /// A bit for each tag.
    vlans: Box<[u64; VLANS / 64]>,
    /// The driver names the tags.
    filters_vlans: bool,
}

impl Filter {
    /// As after power-on: everything is taken.
    pub(super) fn new(mac: Mac) -> Self {
        Self {
            mac,
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Table::default(),
            multicast: Table::default(),
            vlans: Box::new([u64::MAX; VLANS / 64]),
            filters_vlans: false,
        }
    }

    /// Whether the driver names the tags: then it begins with none.
    pub(super) fn set_filters_vlans(&mut self, on: bool) {
        self.filters_vlans = on;
        self.vlans.fill(if on { 0 } else { u64::MAX });
    }

    /// Takes frames with a tag, or not. Returns whether there is such a tag.
    pub(super) fn set_vlan(&mut self, tag: u16, on: bool) -> bool {
        let Some(word) = self.vlans.get_mut(usize::from(tag / 64)) else {
            return false;
        };
        let bit = 1 << (tag % 64);
        if on {
            *word |= bit
        } else {
            *word &= !bit
        }
        true
    }

    fn has_vlan(&self, tag: u16) -> bool {
        let word = self.vlans.get(usize::from(tag / 64));
        word.is_some_and(|word| word & 1 << (tag % 64) != 0)
    }

    /// Whether the card takes a frame, which begins with its destination.
    pub(super) fn takes(&self, frame: &[u8]) -> bool {
        if self.promiscuous {
            return true;
        }
        let (Some(destination), Some(header)) = (frame.first_chunk::<6>(), frame.get(..ETHERNET)) else {
            return false;
        };
        if header[12..] == TAGGED {
            let tag = frame
                .get(14..16)
                .map_or(0, |tag| u16::from_be_bytes([tag[0], tag[1]]) & 0xfff);
            if !self.has_vlan(tag) {
                return false;
            }
        }
        let destination = Mac(*destination);
        if destination == Mac::BROADCAST {
            return !self.no_broadcast;
        }
        if destination.is_multicast() {
            return !self.no_multicast
                && (self.all_multicast || self.multicast.overflow || self.multicast.macs.contains(&destination));
        }
        !self.no_unicast
            && (self.all_unicast
                || self.unicast.overflow
                || destination == self.mac
                || self.unicast.macs.contains(&destination))
    }

    /// What clients are told.
    pub(super) fn shown(&self) -> RxFilter {
        let state = |none: bool, all: bool| match (none, all) {
            (true, _) => RxState::None,
            (_, true) => RxState::All,
            _ => RxState::Normal,
        };
        let reversed = |table: &Table| table.macs.iter().rev().copied().collect();
        let tags = (0..VLANS as u16).rev();
        RxFilter {
            promiscuous: self.promiscuous,
            multicast: state(self.no_multicast, self.all_multicast),
            unicast: state(self.no_unicast, self.all_unicast),
            vlan: if self.filters_vlans {
                RxState::Normal
            } else {
                RxState::All
            },
            no_broadcast: self.no_broadcast,
            multicast_overflow: self.multicast.overflow,
            unicast_overflow: self.unicast.overflow,
            main_mac: self.mac,
            vlan_table: tags.filter(|tag| self.has_vlan(*tag)).collect(),
            unicast_table: reversed(&self.unicast),
            multicast_table: reversed(&self.multicast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
    const GROUP: Mac = Mac([0x01, 0, 0x5e, 0, 0, 1]);

    fn frame(to: Mac, tag: Option<u16>) -> Vec<u8> {
        let mut frame = [&to.0[..], &[0; 6]].concat();
        frame.extend(tag.map_or(vec![0x08, 0x00], |tag| [&TAGGED[..], &tag.to_be_bytes()].concat()));
        frame.resize(60, 0);
        frame
    }

    #[test]
    fn what_is_not_for_the_card_is_left_out() {
        let mut filter = Filter::new(OWN);
        assert!(filter.takes(&frame(OTHER, Some(5))) && filter.takes(&[]));
        filter.promiscuous = false;
        assert!(filter.takes(&frame(OWN, None)) && filter.takes(&frame(Mac::BROADCAST, None)));
        assert!(!filter.takes(&frame(OTHER, None)) && !filter.takes(&frame(GROUP, None)));
        assert!(!filter.takes(&OWN.0), "no whole header");
        filter.unicast.macs.push(OTHER);
        filter.multicast.macs.push(GROUP);
        assert!(filter.takes(&frame(OTHER, None)) && filter.takes(&frame(GROUP, None)));
        (filter.no_unicast, filter.no_multicast, filter.no_broadcast) = (true, true, true);
        for mac in [OWN, OTHER, GROUP, Mac::BROADCAST] {
            assert!(!filter.takes(&frame(mac, None)), "{mac}");
        }
        let shown = filter.shown();
        assert_eq!((shown.unicast, shown.multicast), (RxState::None, RxState::None));
    }

    #[test]
    fn a_table_that_overflows_takes_all() {
        let mut filter = Filter::new(OWN);
        filter.promiscuous = false;
        filter.unicast.overflow = true;
        assert!(filter.takes(&frame(OTHER, None)) && !filter.takes(&frame(GROUP, None)));
        filter.multicast.overflow = true;
        assert!(filter.takes(&frame(GROUP, None)));
    }

    #[test]
    fn tags_are_all_until_the_driver_names_them() {
        let mut filter = Filter::new(OWN);
        filter.promiscuous = false;
        assert_eq!(filter.shown().vlan_table.len(), 4096);
        assert!(filter.takes(&frame(OWN, Some(7))));
        filter.set_filters_vlans(true);
        assert!(!filter.takes(&frame(OWN, Some(7))));
        assert!(filter.set_vlan(7, true) && filter.set_vlan(4095, true) && !filter.set_vlan(4096, true));
        assert!(filter.takes(&frame(OWN, Some(7))) && filter.takes(&frame(OWN, Some(0x7007))));
        assert_eq!(
            (filter.shown().vlan_table, filter.shown().vlan),
            (vec![4095, 7], RxState::Normal)
        );
        filter.set_vlan(7, false);
        assert!(!filter.takes(&frame(OWN, Some(7))));
    }
}
