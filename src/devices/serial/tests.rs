//! The port as a driver sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::state::State;
use super::uart::{Line, Links};
use super::{IsaSerial, PORTS, Place};
use crate::devices::serial::FIFO_SIZE;
use crate::devices::testing::{CountingLine, random_accesses};
use crate::devices::testing::{move_state, saved};
use crate::devices::{Clock, Device, PioDevice};
use crate::vmstate::recorded::{check_round_trips, sections};
use crate::vmstate::{load_whole, save};

/// A line that takes so many characters and refuses more.
#[derive(Clone, Default)]
struct Wire {
    taken: Arc<Mutex<Vec<u8>>>,
    room: Arc<AtomicUsize>,
    attended: Arc<AtomicUsize>,
}

impl Line for Wire {
    fn send(&mut self, bytes: &[u8]) -> usize {
        let room = self.room.load(Ordering::Relaxed);
        let count = room.min(bytes.len());
        self.room.store(room - count, Ordering::Relaxed);
        self.taken.lock().unwrap().extend(&bytes[..count]);
        count
    }

    fn attend(&self) {
        self.attended.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn nanoseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Bench {
    port: IsaSerial,
    irq: Arc<CountingLine>,
    wire: Wire,
    time: Arc<Time>,
    woken: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let (irq, wire, time) = (
            Arc::new(CountingLine::default()),
            Wire::default(),
            Arc::new(Time::default()),
        );
        wire.room.store(usize::MAX, Ordering::Relaxed);
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let links = Links {
            irq: Arc::clone(&irq) as _,
            line: Box::new(wire.clone()),
            clock: Arc::clone(&time) as _,
            wakeup: Some(Box::new(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            })),
        };
        let port = IsaSerial::new(
            links,
            115_200,
            Place {
                index: 0,
                start: 0x3f8,
                irq: 4,
            },
        );
        Self {
            port,
            irq,
            wire,
            time,
            woken,
        }
    }

    fn read(&mut self, register: u16) -> u8 {
        let mut byte = [0];
        self.port.pio_read(register, &mut byte);
        byte[0]
    }

    fn write(&mut self, register: u16, value: u8) {
        self.port.pio_write(register, &[value]);
    }

    fn sent(&self) -> Vec<u8> {
        self.wire.taken.lock().unwrap().clone()
    }

    fn allow(&mut self, room: usize) {
        self.wire.room.store(room, Ordering::Relaxed);
        self.port.uart().line_ready();
    }
}

#[test]
fn registers_after_power_on_are_the_data_sheets() {
    let mut bench = Bench::new();
    let values: Vec<u8> = (0..8).map(|register| bench.read(register)).collect();
    assert_eq!(values, [0, 0, 0x01, 0, 0x08, 0x60, 0xb0, 0]);
    bench.write(3, 0x80);
    assert_eq!((bench.read(0), bench.read(1)), (12, 0), "9600 baud");
}

#[test]
fn the_divisor_the_scratch_and_the_control_registers_keep_what_is_written() {
    let mut bench = Bench::new();
    bench.write(3, 0x9b);
    bench.write(0, 0x34);
    bench.write(1, 0x12);
    assert_eq!((bench.read(0), bench.read(1), bench.read(3)), (0x34, 0x12, 0x9b));
    bench.write(3, 0x1b);
    bench.write(1, 0xff);
    bench.write(4, 0xff);
    bench.write(7, 0x5a);
    assert_eq!((bench.read(1), bench.read(4), bench.read(7)), (0x0f, 0x1f, 0x5a));
    assert!(bench.sent().is_empty(), "the latch is not the transmitter");
}

#[test]
fn characters_leave_and_arrive_with_an_interrupt() {
    let mut bench = Bench::new();
    bench.write(0, b'A');
    assert_eq!(bench.sent(), b"A");
    bench.write(1, 1);
    assert!(!bench.irq.is_high());
    assert_eq!(bench.port.uart().room(), 1);
    bench.port.uart().receive(b"x");
    assert_eq!(bench.port.uart().room(), 0);
    assert!(bench.irq.is_high());
    assert_eq!((bench.read(5), bench.read(2)), (0x61, 0x04));
    assert_eq!(bench.read(0), b'x');
    assert!(!bench.irq.is_high());
    assert_eq!(bench.woken.load(Ordering::Relaxed), 1);
}

#[test]
fn without_fifos_a_second_character_is_an_overrun() {
    let mut bench = Bench::new();
    bench.write(1, 4);
    bench.port.uart().receive(b"xy");
    assert_eq!((bench.read(2), bench.read(5)), (0x06, 0x63));
    assert_eq!((bench.read(2), bench.read(5)), (0x01, 0x61), "seen once");
    assert_eq!(bench.read(0), b'y');
}

#[test]
fn the_transmitter_is_not_empty_while_the_line_takes_nothing() {
    let mut bench = Bench::new();
    bench.wire.room.store(0, Ordering::Relaxed);
    bench.write(0, b'1');
    assert_eq!(bench.read(5), 0x20, "one in the shift register, room for another");
    bench.write(0, b'2');
    assert_eq!(bench.read(5), 0x00, "and no more");
    bench.allow(1);
    assert_eq!((bench.sent(), bench.read(5)), (b"1".to_vec(), 0x20));
    bench.allow(1);
    assert_eq!((bench.sent(), bench.read(5)), (b"12".to_vec(), 0x60));
}

#[test]
fn a_fifo_of_sixteen_waits_behind_the_shift_register() {
    let mut bench = Bench::new();
    bench.write(2, 0x01);
    bench.write(1, 2);
    bench.read(2);
    bench.wire.room.store(0, Ordering::Relaxed);
    let text: Vec<u8> = (b'a'..=b'q').collect();
    text.iter().for_each(|byte| bench.write(0, *byte));
    assert_eq!(bench.read(5), 0x00);
    assert!(!bench.irq.is_high());
    bench.allow(16);
    assert_eq!(bench.sent(), &text[..16]);
    assert_eq!(bench.read(5), 0x20);
    assert_eq!(bench.read(2), 0xc2, "the FIFO is empty");
    bench.allow(1);
    assert_eq!((bench.sent(), bench.read(5)), (text, 0x60));
}

#[test]
fn the_interrupt_of_an_empty_transmitter_is_seen_once_and_again_when_enabled() {
    let mut bench = Bench::new();
    bench.write(1, 2);
    assert_eq!((bench.irq.is_high(), bench.read(2)), (true, 0x02));
    assert_eq!((bench.irq.is_high(), bench.read(2)), (false, 0x01));
    bench.write(1, 0);
    bench.write(1, 2);
    assert_eq!(bench.read(2), 0x02);
    bench.write(0, b'x');
    assert_eq!(bench.read(2), 0x02, "empty again");
}

#[test]
fn trigger_levels_are_those_of_the_control_register() {
    for (fcr, level) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
        let mut bench = Bench::new();
        bench.write(2, fcr);
        bench.write(1, 1);
        for count in 1..=16 {
            assert!(bench.port.uart().room() > 0);
            bench.port.uart().receive(b"x");
            let expected = if count >= level { 0xc4 } else { 0xc1 };
            assert_eq!(bench.read(2), expected, "{count} characters at level {level}");
        }
        assert_eq!(bench.port.uart().room(), 0);
        bench.port.uart().receive(b"y");
        assert_eq!(bench.read(5) & 0x02, 0x02, "overrun");
        assert_eq!(bench.read(0), b'x', "what was there stays");
    }
}

#[test]
fn fewer_characters_than_the_trigger_level_interrupt_after_the_time_of_four() {
    let mut bench = Bench::new();
    // 115200 baud, eight bits, no parity: ten bits a character.
    for (register, value) in [(3, 0x83), (0, 1), (1, 0), (3, 0x03), (2, 0xc1), (1, 1)] {
        bench.write(register, value);
    }
    bench.port.uart().receive(b"ab");
    let deadline = bench.port.uart().deadline().unwrap();
    assert_eq!(deadline, 4 * 10 * (1_000_000_000 / 115_200));
    bench.time.0.store(deadline - 1, Ordering::Relaxed);
    bench.port.uart().expire();
    assert_eq!(bench.read(2), 0xc1);
    bench.time.0.store(deadline, Ordering::Relaxed);
    bench.port.uart().expire();
    assert_eq!((bench.irq.is_high(), bench.read(2)), (true, 0xcc));
    assert_eq!(bench.read(0), b'a');
    assert_eq!(bench.read(2), 0xc1, "read");
    assert!(bench.port.uart().deadline().unwrap() > deadline, "the rest waits anew");
    assert_eq!(bench.read(0), b'b');
    assert_eq!(bench.read(5), 0x60);
}

#[test]
fn a_receiver_error_is_more_urgent_than_data_and_data_than_an_empty_transmitter() {
    let mut bench = Bench::new();
    bench.write(2, 0x01);
    bench.write(1, 0x0f);
    bench.port.uart().receive_break();
    assert_eq!(bench.read(2), 0xc6);
    assert_eq!(bench.read(5), 0x71, "break, and a character of zeros");
    assert_eq!(bench.read(2), 0xc4);
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.read(2), 0xc2);
    assert_eq!(bench.read(2), 0xc1);
}

#[test]
fn clearing_the_fifos_forgets_what_is_in_them() {
    let mut bench = Bench::new();
    bench.write(2, 0x01);
    bench.port.uart().receive(b"abc");
    bench.wire.room.store(0, Ordering::Relaxed);
    b"xyz".iter().for_each(|byte| bench.write(0, *byte));
    bench.write(2, 0x07);
    assert_eq!(bench.read(5), 0x20, "x is on its way");
    assert_eq!(bench.port.uart().deadline(), None);
    bench.allow(usize::MAX);
    assert_eq!((bench.sent(), bench.read(5)), (b"x".to_vec(), 0x60));
    bench.port.uart().receive(b"d");
    bench.write(2, 0x00);
    assert_eq!(
        (bench.read(5), bench.read(2)),
        (0x60, 0x01),
        "switched off they are cleared as well"
    );
}

#[test]
fn loopback_hears_itself_and_nobody_else() {
    let mut bench = Bench::new();
    bench.write(4, 0x10);
    assert_eq!(bench.port.uart().room(), 0);
    bench.write(0, b'L');
    assert_eq!((bench.sent(), bench.read(5)), (Vec::new(), 0x61));
    assert_eq!(bench.read(0), b'L');
    for (mcr, msr) in [(0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80), (0x1f, 0xf0)] {
        bench.write(4, mcr);
        assert_eq!(bench.read(6), msr, "{mcr:#x}");
    }
    let before = bench.wire.attended.load(Ordering::Relaxed);
    bench.write(4, 0x08);
    assert!(
        bench.wire.attended.load(Ordering::Relaxed) > before,
        "there is room now"
    );
    assert_eq!(bench.read(6), 0xb0);
}

#[test]
fn a_wide_access_is_one_to_each_register() {
    let mut bench = Bench::new();
    bench.port.pio_write(0, &[b'x', 0x05]);
    assert_eq!((bench.sent(), bench.read(1)), (b"x".to_vec(), 5));
    let mut bytes = [0; 4];
    bench.port.pio_read(4, &mut bytes);
    assert_eq!(bytes, [0x08, 0x60, 0xb0, 0]);
    bench.port.pio_read(7, &mut bytes);
    assert_eq!(bytes, [0, 0xff, 0xff, 0xff]);
}

#[test]
fn a_restored_port_goes_on_where_it_was() {
    let mut one = Bench::new();
    one.write(2, 0xc1);
    one.write(1, 0x0f);
    one.write(7, 0x5a);
    one.port.uart().receive(b"q");
    one.wire.room.store(0, Ordering::Relaxed);
    b"stay".iter().for_each(|byte| one.write(0, *byte));
    let mut other = Bench::new();
    other.wire.room.store(0, Ordering::Relaxed);
    move_state(&mut one.port, &mut other.port);
    other.allow(usize::MAX);
    assert_eq!(other.sent(), b"stay", "what was refused there is taken here");
    assert_eq!((other.read(7), other.read(0)), (0x5a, b'q'));
    one.allow(usize::MAX);
    one.read(0);
    one.read(2);
    other.read(2);
    assert_eq!(saved(&mut one.port), saved(&mut other.port));
}

#[test]
fn recorded_ports_are_read_and_written_alike() {
    check_round_trips("serial", |_| State::default());
}

#[test]
fn a_port_starts_as_it_does_in_qemu() {
    let [section] = sections("q35-10.2-bare", "serial").try_into().unwrap();
    assert_eq!(section.bytes(), save(&mut State::default()).unwrap().bytes);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let error = |change: fn(&mut State)| {
        let mut state = State::default();
        change(&mut state);
        let bytes = save(&mut state).unwrap().bytes;
        load_whole(&mut State::default(), 3, &bytes).unwrap_err().to_string()
    };
    for (complaint, expected) in [
        (
            error(|state| state.tsr_retry = 1),
            "serial: state: tsr_retry: 1 refusals of a character, but the transmitter is empty",
        ),
        (
            error(|state| state.lsr = 0),
            "serial: state: tsr_retry: 0 refusals of a character, but the transmitter is not empty",
        ),
    ] {
        assert_eq!(complaint, expected);
    }
    let mut full = State {
        recv_fifo: vec![7; FIFO_SIZE].into(),
        ..State::default()
    };
    let mut bytes = save(&mut full).unwrap().bytes;
    *bytes.last_mut().unwrap() += 1;
    let error = load_whole(&mut State::default(), 3, &bytes).unwrap_err();
    let expected = "serial: state: serial/recv_fifo: recv_fifo: num: 0x11 is out of range";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_reset_forgets_everything() {
    let mut bench = Bench::new();
    bench.write(2, 0x01);
    bench.write(1, 0x0f);
    bench.port.uart().receive(b"abc");
    bench.port.reset();
    assert!(!bench.irq.is_high());
    assert_eq!(*bench.port.uart().state(), State::default());
}

proptest! {
    #[test]
    fn no_access_does_harm(accesses in random_accesses(PORTS), room in 0usize..4) {
        let mut bench = Bench::new();
        for access in accesses {
            bench.wire.room.store(room, Ordering::Relaxed);
            access.perform(&mut bench.port);
            bench.port.uart().line_ready();
            let room = bench.port.uart().room();
            bench.port.uart().receive(&[7, 7, 7][..room.min(3)]);
            prop_assert_eq!(bench.port.uart().state().check(), Ok(()));
        }
    }
}
