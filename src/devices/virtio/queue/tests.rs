//! Rings of drivers that keep the rules, and of some that do not.

use proptest::prelude::*;

use super::chain::{INDIRECT, NEXT, WRITE};
use super::testing::{BUFFERS, PAGES, SplitDriver, memory};
use super::*;

const SIZE: u16 = 8;
const TABLE: u64 = 0x4000;

fn split(rules: RingRules) -> (SplitDriver, Ring) {
    let driver = SplitDriver::new(&memory(), SIZE);
    let ring = Ring::new(driver.layout, rules);
    (driver, ring)
}

fn pop(driver: &SplitDriver, ring: &mut Ring) -> Result<Option<Element>, RingError> {
    ring.pop(&driver.space.ram())
}

#[test]
fn buffers_come_and_go_in_a_split_ring_around_its_end() {
    let (mut driver, mut ring) = split(RingRules::default());
    for round in 0..40_u32 {
        assert_eq!(pop(&driver, &mut ring), Ok(None));
        let id = driver.offer(&[(BUFFERS, 16, 0), (BUFFERS + 64, 8, WRITE), (BUFFERS + 128, 8, WRITE)]);
        let element = pop(&driver, &mut ring).unwrap().unwrap();
        assert_eq!(
            (element.readable().len(), element.writable_len()),
            (1, 16),
            "round {round}"
        );
        let ram = driver.space.ram();
        assert_eq!(element.write(&ram, 0, &[7; 12]), Ok(12));
        ring.push(&ram, &element, 12).unwrap();
        assert_eq!(driver.used(), [(id.into(), 12)]);
        assert_eq!((driver.u16(BUFFERS + 64), driver.u16(BUFFERS + 130)), (0x0707, 0x0707));
        assert_eq!(driver.u16(BUFFERS + 132), 0, "only what was there is written");
        assert_eq!(ring.in_flight(), 0);
    }
    assert_eq!(ring.position().used, 40);
}

#[test]
fn several_buffers_are_given_back_at_once_or_left() {
    let (mut driver, mut ring) = split(RingRules::default());
    for _ in 0..20 {
        let ids = [0; 2].map(|_| driver.offer(&[(BUFFERS, 4, WRITE)]));
        let ram = driver.space.ram();
        let (start, in_flight) = (ring.position(), ring.in_flight());
        let left = ring.pop(&ram).unwrap().unwrap();
        ring.rewind(start, in_flight);
        let taken = [0; 2].map(|_| ring.pop(&ram).unwrap().unwrap());
        assert_eq!(taken[0], left, "the same again");
        assert_eq!(ring.is_empty(&ram), Ok(true));
        ring.push_all(&ram, &[(&taken[0], 4), (&taken[1], 2)]).unwrap();
        assert_eq!(driver.used(), [(ids[0].into(), 4), (ids[1].into(), 2)]);
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn a_table_stands_for_a_chain() {
    let (mut driver, mut ring) = split(RingRules::default());
    for index in 0..20 {
        let flags = if index == 19 { 0 } else { NEXT };
        driver.describe(TABLE, index, (BUFFERS, 4, flags | WRITE, index + 1));
    }
    driver.offer(&[(BUFFERS, 8, 0), (TABLE, 20 * 16, INDIRECT)]);
    let element = pop(&driver, &mut ring).unwrap().unwrap();
    assert_eq!((element.readable().len(), element.writable().len()), (1, 20));
}

#[test]
fn what_no_driver_may_do_is_named() {
    type Wrong = fn(&mut SplitDriver);
    let cases: [(Wrong, RingError); 13] = [
        (
            |driver| driver.write(driver.layout.driver + 2, &9_u16.to_le_bytes()),
            RingError::Moved { from: 0, to: 9 },
        ),
        (|driver| driver.offer_head(SIZE), RingError::Head(SIZE)),
        (
            |driver| {
                driver.describe(driver.layout.descriptors, 0, (BUFFERS, 4, NEXT, 300));
                driver.offer_head(0);
            },
            RingError::Next(300),
        ),
        (
            |driver| {
                driver.describe(driver.layout.descriptors, 0, (BUFFERS, 4, NEXT, 1));
                driver.describe(driver.layout.descriptors, 1, (BUFFERS, 4, NEXT, 0));
                driver.offer_head(0);
            },
            RingError::Looped,
        ),
        (
            |driver| {
                driver.offer(&[(TABLE, 15, INDIRECT)]);
            },
            RingError::IndirectTable,
        ),
        (
            |driver| {
                driver.offer(&[(TABLE, 0, INDIRECT)]);
            },
            RingError::IndirectTable,
        ),
        (
            |driver| {
                driver.offer(&[(TABLE, 32, INDIRECT), (BUFFERS, 4, 0)]);
            },
            RingError::IndirectTable,
        ),
        (
            |driver| {
                driver.describe(TABLE, 0, (TABLE, 16, INDIRECT, 0));
                driver.offer(&[(TABLE, 16, INDIRECT)]);
            },
            RingError::Nested,
        ),
        (
            |driver| {
                driver.offer(&[(BUFFERS, 4, WRITE), (BUFFERS, 4, 0)]);
            },
            RingError::Order,
        ),
        (
            |driver| {
                driver.offer(&[(BUFFERS, 0, WRITE)]);
            },
            RingError::Empty,
        ),
        (
            |driver| {
                driver.offer(&[(PAGES * 4096 - 2, 4, WRITE)]);
            },
            RingError::Buffer,
        ),
        (
            |driver| {
                driver.offer(&[(u64::MAX - 1, 4, WRITE)]);
            },
            RingError::Buffer,
        ),
        (
            |driver| {
                driver.offer(&[(u64::MAX - 15, u32::MAX - 15, INDIRECT)]);
            },
            RingError::Ring(u64::MAX - 15),
        ),
    ];
    for (wrong, expected) in cases {
        let (mut driver, mut ring) = split(RingRules::default());
        wrong(&mut driver);
        assert_eq!(pop(&driver, &mut ring), Err(expected), "{expected}");
    }
}

#[test]
fn a_huge_table_ends_at_the_limit_of_a_chain() {
    let (mut driver, mut ring) = split(RingRules::default());
    for index in 0..2000 {
        driver.describe(TABLE, index, (BUFFERS, 1, NEXT | WRITE, index + 1));
    }
    driver.offer(&[(TABLE, 2001 * 16, INDIRECT)]);
    assert_eq!(pop(&driver, &mut ring), Err(RingError::TooMany));
}

#[test]
fn a_ring_outside_of_memory_or_askew_is_an_error() {
    for wrong in [PAGES * 4096, u64::MAX, 0x2001] {
        let (driver, _) = split(RingRules::default());
        let layout = RingLayout {
            driver: wrong,
            ..driver.layout
        };
        for packed in [false, true] {
            let layout = match packed {
                true => RingLayout {
                    descriptors: wrong,
                    ..layout
                },
                false => layout,
            };
            let mut ring = Ring::new(
                layout,
                RingRules {
                    packed,
                    ..RingRules::default()
                },
            );
            assert!(matches!(pop(&driver, &mut ring), Err(RingError::Ring(_))), "{wrong:#x}");
        }
    }
}

#[test]
fn the_driver_is_interrupted_as_it_asked() {
    let (mut driver, mut ring) = split(RingRules::default());
    driver.offer(&[(BUFFERS, 4, WRITE)]);
    let ram = driver.space.ram();
    let element = ring.pop(&ram).unwrap().unwrap();
    ring.push(&ram, &element, 4).unwrap();
    assert_eq!(ring.wants_interrupt(&ram), Ok(true));
    driver.write(driver.layout.driver, &1_u16.to_le_bytes());
    assert_eq!(ring.wants_interrupt(&ram), Ok(false));
    ring.set_notification(&ram, false).unwrap();
    assert_eq!(driver.u16(driver.layout.device), 1);
    ring.set_notification(&ram, true).unwrap();
    assert_eq!(driver.u16(driver.layout.device), 0);
}

#[test]
fn with_event_indices_only_the_index_that_was_asked_for_interrupts() {
    let (mut driver, mut ring) = split(RingRules {
        event_index: true,
        ..RingRules::default()
    });
    let (used_event, available_event) = (
        driver.layout.driver + 4 + 2 * u64::from(SIZE),
        driver.layout.device + 4 + 8 * u64::from(SIZE),
    );
    let ram = driver.space.ram();
    let mut interrupts = Vec::new();
    for number in 0..20_u16 {
        if number == 10 {
            driver.write(used_event, &14_u16.to_le_bytes());
        }
        driver.offer(&[(BUFFERS, 4, WRITE)]);
        let element = ring.pop(&ram).unwrap().unwrap();
        assert_eq!(driver.u16(available_event), number + 1);
        ring.push(&ram, &element, 4).unwrap();
        if ring.wants_interrupt(&ram).unwrap() {
            interrupts.push(number);
        }
    }
    assert_eq!(interrupts, [0, 14]);
}

/// Makes descriptors of a packed ring available: address, length, id, flags without the wrap bits.
fn offer_packed(driver: &SplitDriver, at: u16, wrap: bool, (addr, len, id, flags): (u64, u32, u16, u16)) {
    let wrap_bits = if wrap { 1 << 7 } else { 1 << 15 };
    driver.describe(driver.layout.descriptors, at, (addr, len, id, flags | wrap_bits));
}

#[test]
fn buffers_come_and_go_in_a_packed_ring_around_its_end() {
    let (driver, mut ring) = split(RingRules {
        packed: true,
        ..RingRules::default()
    });
    let ram = driver.space.ram();
    let (mut at, mut wrap) = (0, true);
    for id in 0..30_u16 {
        assert_eq!(ring.pop(&ram), Ok(None));
        // Two descriptors each; the id is that of the last.
        let (start, start_wrap) = (at, wrap);
        for flags in [NEXT, WRITE] {
            offer_packed(&driver, at, wrap, (BUFFERS, 4, id, flags));
            at += 1;
            if at == SIZE {
                (at, wrap) = (0, !wrap);
            }
        }
        let element = ring.pop(&ram).unwrap().unwrap();
        assert_eq!((element.readable().len(), element.writable().len()), (1, 1));
        ring.push(&ram, &element, 3).unwrap();
        let entry = driver.layout.descriptors + u64::from(start) * 16;
        assert_eq!((driver.u16(entry + 8), driver.u16(entry + 12)), (3, id));
        let expected = if start_wrap { 1 << 7 | 1 << 15 } else { 0 };
        assert_eq!(driver.u16(entry + 14) & (1 << 7 | 1 << 15), expected);
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn several_buffers_of_a_packed_ring_are_given_back_at_once_or_left() {
    let (driver, mut ring) = split(RingRules {
        packed: true,
        ..RingRules::default()
    });
    let ram = driver.space.ram();
    let (mut at, mut wrap) = (0, true);
    for _ in 0..15 {
        let mut places = Vec::new();
        for id in 0..3 {
            offer_packed(&driver, at, wrap, (BUFFERS, 4, id, WRITE));
            places.push((at, wrap));
            at += 1;
            if at == SIZE {
                (at, wrap) = (0, !wrap);
            }
        }
        let (start, in_flight) = (ring.position(), ring.in_flight());
        let left = ring.pop(&ram).unwrap().unwrap();
        ring.rewind(start, in_flight);
        let taken = [0; 3].map(|_| ring.pop(&ram).unwrap().unwrap());
        assert_eq!(taken[0], left, "the same again");
        assert_eq!(ring.is_empty(&ram), Ok(true));
        ring.push_all(&ram, &[(&taken[0], 4), (&taken[1], 4), (&taken[2], 2)])
            .unwrap();
        for ((place, wrap), written) in places.into_iter().zip([4, 4, 2]) {
            let entry = driver.layout.descriptors + u64::from(place) * 16;
            let expected = if wrap { 1 << 7 | 1 << 15 } else { 0 };
            assert_eq!(driver.u16(entry + 8), written);
            assert_eq!(driver.u16(entry + 14) & (1 << 7 | 1 << 15), expected);
        }
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn a_packed_ring_whose_chain_never_ends_is_an_error() {
    let (driver, mut ring) = split(RingRules {
        packed: true,
        ..RingRules::default()
    });
    for at in 0..SIZE {
        offer_packed(&driver, at, true, (BUFFERS, 4, 0, NEXT));
    }
    assert_eq!(ring.pop(&driver.space.ram()), Err(RingError::Looped));
}

#[test]
fn a_packed_ring_interrupts_at_the_index_that_was_asked_for() {
    let (driver, mut ring) = split(RingRules {
        packed: true,
        event_index: true,
        ..RingRules::default()
    });
    let ram = driver.space.ram();
    let mut interrupts = Vec::new();
    // At the sixth descriptor of the first round.
    driver.write(driver.layout.driver, &[5, 0x80, 2, 0]);
    for number in 0..12_u16 {
        let (at, wrap) = (number % SIZE, number < SIZE);
        offer_packed(&driver, at, wrap, (BUFFERS, 4, number, WRITE));
        let element = ring.pop(&ram).unwrap().unwrap();
        ring.push(&ram, &element, 4).unwrap();
        if ring.wants_interrupt(&ram).unwrap() {
            interrupts.push(number);
        }
    }
    // The first of all and the first after the ring's end cannot be compared with anything.
    assert_eq!(interrupts, [0, 5, 7]);
    assert_eq!(
        driver.u16(driver.layout.device + 2),
        2,
        "the device wants to hear at an index"
    );
}

proptest! {
    /// Whatever lies in memory: no panic, no endless work, nothing beyond what a chain may have.
    #[test]
    fn no_ring_does_harm(
        bytes in prop::collection::vec(any::<u8>(), 0x200),
        table in prop::collection::vec(any::<u8>(), 0x200),
        addresses in prop::collection::vec(0_u8..8, 16),
        rules in (any::<bool>(), any::<bool>(), any::<bool>()),
        index in 0_u16..16,
    ) {
        let (packed, event_index, notify_on_empty) = rules;
        let (driver, mut ring) = split(RingRules { packed, event_index, notify_on_empty });
        for start in [driver.layout.descriptors, driver.layout.driver, driver.layout.device] {
            driver.write(start, &bytes);
        }
        driver.write(TABLE, &table);
        driver.write(driver.layout.driver + 2, &index.to_le_bytes());
        // Some of the descriptors point to where there is something.
        for (slot, page) in (0..).zip(&addresses) {
            let base = if slot < 8 { driver.layout.descriptors } else { TABLE };
            let addr = u64::from(*page) * 0x1000;
            driver.write(base + 16 * (slot % 8), &addr.to_le_bytes());
            driver.write(base + 16 * (slot % 8) + 8, &(32_u32 * u32::from(*page)).to_le_bytes());
        }
        let ram = driver.space.ram();
        for _ in 0..32 {
            match ring.pop(&ram) {
                Ok(Some(element)) => {
                    prop_assert!(element.readable().len() + element.writable().len() <= usize::from(MAX_SIZE));
                    let written = element.write(&ram, 0, &[1; 100]).unwrap();
                    ring.push(&ram, &element, written).unwrap();
                    ring.wants_interrupt(&ram).unwrap();
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
}
