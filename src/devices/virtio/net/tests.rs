//! What a card offers, and what it makes of commands.

use proptest::prelude::*;

use super::control::obey;
use super::settings::{GSO, SWITCHES};
use super::*;
use crate::net::{HostOffloads, Networks, RxState};

const MAC: &str = "52:54:00:12:34:56";
/// Bits on offer whatever the back end can.
const ALWAYS: [u32; 10] = [2, 5, 15, 16, 17, 18, 19, 20, 21, 23];
/// Bits on offer for what a back end with a header can.
const OFFLOADS: [u32; 13] = [0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 54, 55, 56];

fn settings(offloads: Option<HostOffloads>, pairs: u16) -> NetSettings {
    let is_on = |name: &str| name != "mq" || pairs > 1;
    NetSettings {
        mac: MAC.parse().unwrap(),
        pairs,
        wanted: SWITCHES
            .iter()
            .fold(Features::NONE, |all, (name, bit)| all.with(*bit, is_on(name))),
        backing: Backing { offloads },
        rx_queue_size: 256,
        tx_queue_size: 256,
        mtu: 0,
        speed: None,
        full_duplex: None,
        sending: Sending::Soon,
        burst: 256,
        id: None,
        path: String::new(),
        teller: Networks::default().teller(),
    }
}

fn card(pairs: u16) -> Card {
    Card::new(settings(None, pairs), Vec::new(), Arc::default())
}

fn features(bits: &[u32]) -> Features {
    bits.iter().fold(Features::NONE, |all, bit| all | Features::bit(*bit))
}

/// The configuration in hexadecimal.
fn config(settings: NetSettings) -> String {
    let card = Card::new(settings, Vec::new(), Arc::default());
    card.config().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn features_and_configuration_as_qemus() {
    let all = Some(HostOffloads { ufo: true, uso: true });
    let none = Some(HostOffloads::default());
    let with_all = [&ALWAYS[..], &OFFLOADS].concat();
    let without: Vec<u32> = with_all
        .iter()
        .copied()
        .filter(|bit| ![10, 14, 54, 55, 56].contains(bit))
        .collect();
    let several = [&with_all[..], &[22]].concat();
    for (host, pairs, bits) in [
        (None, 1, &ALWAYS[..]),
        (all, 1, &with_all),
        (none, 1, &without),
        (all, 4, &several),
    ] {
        let offered = settings(host, pairs).features();
        assert_eq!(offered & !GSO, features(bits), "{host:?}, {pairs}");
        assert_eq!(offered.contains(GSO), host.is_some(), "of the legacy interface");
    }
    assert_eq!(config(settings(None, 1)), "5254001234560100");
    assert_eq!(config(settings(all, 4)), "52540012345601000400");
    let full = NetSettings {
        mtu: 1500,
        speed: Some(1000),
        full_duplex: Some(true),
        ..settings(all, 4)
    };
    assert_eq!(full.features() & !GSO, features(&[&several[..], &[3, 63]].concat()));
    assert_eq!(config(full), "52540012345601000400dc05e803000001");
}

#[test]
fn queues_are_as_many_as_the_driver_knows_of() {
    let settings = settings(None, 3);
    assert_eq!(settings.queue_sizes(false), [256, 256, 64]);
    assert_eq!(settings.queue_sizes(true), [256, 256, 256, 256, 256, 256, 64]);
    let card = card(3);
    assert_eq!(card.control_queue(), 2);
    card.accept(features(&[22]));
    assert_eq!(
        (card.control_queue(), card.is_active(0), card.is_active(1)),
        (6, true, false)
    );
    assert_eq!(obey(&card, &[4, 0, 2, 0]), 0);
    assert_eq!((card.is_active(1), card.is_active(2)), (true, false));
    card.reset();
    assert_eq!((card.control_queue(), card.is_active(1)), (2, false));
}

#[test]
fn commands_need_their_features_and_all_of_their_bytes() {
    let mac = [0x52, 0x54, 0, 0, 0, 9];
    let table = [&[1, 0, 1, 0, 0, 0][..], &mac, &[0; 4]].concat();
    let address = [&[1, 1][..], &mac].concat();
    for (bit, command) in [
        (18, &[0, 0, 0][..]),
        (20, &[0, 5, 1]),
        (18, &table),
        (23, &address),
        (19, &[2, 0, 7, 0]),
        (22, &[4, 0, 2, 0]),
        (2, &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let card = card(2);
        assert_eq!(
            obey(&card, command),
            1,
            "{command:?} of a driver that knows nothing of it"
        );
        card.accept(features(&[bit]));
        assert_eq!(obey(&card, command), 0, "{command:?}");
        for len in 0..command.len() {
            assert_eq!(obey(&card, &command[..len]), 1, "{:?}", &command[..len]);
        }
    }
    let card = card(2);
    card.accept(features(&[18, 19, 22]));
    let too_many = [&[1, 0, 65, 0, 0, 0][..], &[2; 65 * 6], &[0; 4]].concat();
    assert_eq!(obey(&card, &too_many), 0, "a table that is too small takes all");
    assert!(card.rx_filter().unicast_overflow);
    for wrong in [
        &[2, 0, 0, 16][..],
        &[4, 0, 0, 0],
        &[4, 0, 3, 0],
        &[9, 0],
        &[0, 9, 1],
        &[3, 0],
    ] {
        assert_eq!(obey(&card, wrong), 1, "{wrong:?}");
    }
}

#[test]
fn a_driver_is_asked_to_announce_itself_until_it_says_that_it_has() {
    let card = card(1);
    card.accept(features(&[17, 21]));
    assert_eq!(obey(&card, &[3, 0]), 1, "nobody asked");
    card.announce();
    assert_eq!(card.config()[6], 3);
    assert_eq!(obey(&card, &[3, 0]), 0);
    assert_eq!((card.config()[6], obey(&card, &[3, 0])), (1, 1));
    let frame = card.take_injected().unwrap();
    assert_eq!((frame.len(), &frame[24..26]), (72, &[0x80, 0x35][..]));
    assert!(card.take_injected().is_none());
}

proptest! {
    /// Whatever a driver commands: no panic, and a table that is no larger than there is room for.
    #[test]
    fn no_command_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), class in 0_u8..7, number in 0_u8..7, accepted in any::<u32>()) {
        let card = card(2);
        card.accept(Features::NONE.with_word(0, accepted));
        let command = [&[class, number][..], &bytes].concat();
        prop_assert!(obey(&card, &command) <= 1);
        let filter = card.rx_filter();
        prop_assert!(filter.unicast_table.len() + filter.multicast_table.len() <= 64);
        prop_assert!(filter.vlan == RxState::All || filter.vlan == RxState::Normal);
    }
}
