use proptest::prelude::*;

use super::*;
use crate::devices::testing::{CountingLine, move_state, random_accesses};

/// Initialised as a PC does, vectors from 0x20 and 0x28, nothing masked.
fn pics() -> (Pics, Arc<CountingLine>) {
    let line = Arc::new(CountingLine::default());
    let mut pics = Pics::new(Arc::clone(&line) as _);
    for (offset, value) in [
        (0, 0x11),
        (1, 0x20),
        (1, 4),
        (1, 1),
        (2, 0x11),
        (3, 0x28),
        (3, 2),
        (3, 1),
    ] {
        pics.pio_write(offset, &[value]);
    }
    (pics, line)
}

fn read(pics: &mut Pics, offset: u16) -> u8 {
    let mut byte = [0];
    pics.pio_read(offset, &mut byte);
    byte[0]
}

#[test]
fn an_edge_is_one_interrupt_until_its_end() {
    let (mut pics, line) = pics();
    pics.set_line(4, true);
    pics.set_line(4, false);
    assert!(line.is_high());
    assert_eq!(pics.acknowledge(), 0x24);
    assert!(!line.is_high());
    pics.set_line(4, true);
    assert!(!line.is_high(), "in service");
    pics.pio_write(0, &[0x20]);
    assert!(line.is_high());
    assert_eq!(pics.acknowledge(), 0x24);
    pics.pio_write(0, &[0x20]);
    assert!(!line.is_high(), "the level alone is no interrupt");
}

#[test]
fn the_second_chip_comes_through_the_first() {
    let (mut pics, line) = pics();
    pics.set_line(9, true);
    pics.set_line(0, true);
    assert_eq!(pics.acknowledge(), 0x20);
    assert!(!line.is_high(), "the timer is more urgent");
    pics.pio_write(0, &[0x20]);
    assert_eq!(pics.acknowledge(), 0x29);
    pics.pio_write(0, &[0x0b]);
    pics.pio_write(2, &[0x0b]);
    assert_eq!((read(&mut pics, 0), read(&mut pics, 2)), (4, 2));
    pics.pio_write(2, &[0x20]);
    pics.pio_write(0, &[0x20]);
    assert!(!pics.is_pending());
}

#[test]
fn a_level_stays_until_it_is_lowered() {
    let (mut pics, line) = pics();
    pics.pio_write(5, &[0xff]);
    assert_eq!(read(&mut pics, 5), 0xde);
    pics.set_line(9, true);
    assert_eq!(pics.acknowledge(), 0x29);
    pics.pio_write(2, &[0x20]);
    pics.pio_write(0, &[0x20]);
    assert!(line.is_high());
    pics.set_line(9, false);
    assert!(pics.state.chips[1].irr == 0);
    assert_eq!(pics.acknowledge(), 0x2f, "it went away too late");
}

#[test]
fn masks_hide_and_nothing_acknowledged_is_spurious() {
    let (mut pics, line) = pics();
    pics.pio_write(1, &[0x10]);
    pics.set_line(4, true);
    assert!(!line.is_high());
    assert_eq!(read(&mut pics, 0), 0x10);
    assert_eq!(pics.acknowledge(), 0x27);
    pics.pio_write(1, &[0]);
    assert!(line.is_high());
}

#[test]
fn a_poll_acknowledges() {
    let (mut pics, line) = pics();
    pics.set_line(3, true);
    pics.pio_write(0, &[0x0c]);
    assert_eq!(read(&mut pics, 0), 0x83);
    assert!(!line.is_high());
    pics.pio_write(0, &[0x0c]);
    assert_eq!(read(&mut pics, 0), 0);
}

#[test]
fn rotation_makes_the_last_one_the_least_urgent() {
    let (mut pics, _) = pics();
    for irq in [0, 1] {
        pics.set_line(irq, true);
    }
    assert_eq!(pics.acknowledge(), 0x20);
    pics.set_line(0, false);
    pics.set_line(0, true);
    pics.pio_write(0, &[0xa0]);
    assert_eq!(pics.acknowledge(), 0x21);
}

#[test]
fn a_saved_state_comes_back() {
    let (mut pics, _) = pics();
    pics.set_line(9, true);
    let line = Arc::new(CountingLine::default());
    let mut other = Pics::new(Arc::clone(&line) as _);
    move_state(&mut pics, &mut other);
    assert!(line.is_high());
    assert_eq!(other.acknowledge(), 0x29);
}

proptest! {
    #[test]
    fn random_accesses_do_not_panic(accesses in random_accesses(6), lines: Vec<(u8, bool)>) {
        let (mut pics, line) = pics();
        let mut lines = lines.into_iter();
        for access in accesses {
            access.perform(&mut pics);
            if let Some((irq, level)) = lines.next() {
                pics.set_line(irq, level);
            }
            prop_assert_eq!(line.is_high(), pics.is_pending());
            if pics.is_pending() && access.is_write() {
                pics.acknowledge();
            }
        }
    }
}
