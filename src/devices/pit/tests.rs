use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::devices::testing::{CountingLine, move_state, random_accesses, saved};
use crate::vmstate::load_whole;
use crate::vmstate::recorded::{check_round_trips, sections};

#[derive(Default)]
struct Time(AtomicU64);

impl Clock for Time {
    fn nanoseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Time {
    fn pass(&self, nanoseconds: u64) {
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn pit() -> (Pit, Arc<CountingLine>, Arc<Time>) {
    let (line, time) = (Arc::new(CountingLine::default()), Arc::new(Time::default()));
    (Pit::new(Arc::clone(&line) as _, Arc::clone(&time) as _), line, time)
}

fn read(pit: &mut Pit, offset: u16) -> u8 {
    let mut byte = [0];
    pit.pio_read(offset, &mut byte);
    byte[0]
}

fn program(pit: &mut Pit, writes: &[(u16, u8)]) {
    for (offset, value) in writes {
        pit.pio_write(*offset, &[*value]);
    }
}

/// Calls the timer when it wants to be called, for `span` nanoseconds.
fn run(pit: &mut Pit, time: &Time, span: u64) {
    let end = time.nanoseconds() + span;
    while let Some(wait) = pit.deadline().filter(|wait| time.nanoseconds() + wait <= end) {
        time.pass(wait);
        pit.expire();
    }
    time.pass(end - time.nanoseconds());
}

#[test]
fn a_rate_of_a_hundred_hertz_gives_a_hundred_interrupts_in_a_second() {
    for control in [0x34, 0x36] {
        let (mut pit, line, time) = pit();
        program(&mut pit, &[(3, control), (0, 0x9b), (0, 0x2e)]);
        let before = line.pulses();
        run(&mut pit, &time, 1_000_000_000);
        assert_eq!(line.pulses() - before, 100, "control word {control:x}");
    }
}

#[test]
fn one_shot_interrupts_once() {
    let (mut pit, line, time) = pit();
    program(&mut pit, &[(3, 0x30), (0, 0), (0, 0x10)]);
    assert!(!line.is_high());
    run(&mut pit, &time, 1_000_000_000);
    assert_eq!(line.pulses(), 1);
    assert_eq!(pit.deadline(), None);
    program(&mut pit, &[(0, 0), (0, 0x10)]);
    run(&mut pit, &time, 1_000_000_000);
    assert_eq!(line.pulses(), 2);
}

#[test]
fn a_control_word_alone_stops_the_interrupts() {
    let (mut pit, line, time) = pit();
    program(&mut pit, &[(3, 0x34), (0, 0), (0, 1), (3, 0x30)]);
    let before = line.pulses();
    run(&mut pit, &time, 1_000_000_000);
    assert_eq!(line.pulses(), before);
    assert_eq!(pit.deadline(), None);
}

#[test]
fn late_ticks_are_lost() {
    let (mut pit, line, time) = pit();
    program(&mut pit, &[(3, 0x34), (0, 0x9b), (0, 0x2e)]);
    let before = line.pulses();
    time.pass(1_000_000_000);
    pit.expire();
    assert_eq!(line.pulses(), before + 1);
    assert!(pit.deadline().is_some_and(|wait| wait <= 10_000_000));
}

#[test]
fn a_kept_count_is_read_in_two_bytes() {
    let (mut pit, _, time) = pit();
    program(&mut pit, &[(3, 0x34), (0, 0x00), (0, 0x10)]);
    time.pass(1_000_000);
    program(&mut pit, &[(3, 0x00)]);
    time.pass(1_000_000);
    let count = u16::from_le_bytes([read(&mut pit, 0), read(&mut pit, 0)]);
    assert_eq!(count, 0x1000 - 1193);
    let later = u16::from_le_bytes([read(&mut pit, 0), read(&mut pit, 0)]);
    assert_eq!(later, 0x1000 - 2386);
}

#[test]
fn decimal_counters_count_in_decimal() {
    let (mut pit, _, time) = pit();
    program(&mut pit, &[(3, 0x31), (0, 0x00), (0, 0x20)]);
    time.pass(1_000_000);
    program(&mut pit, &[(3, 0x00)]);
    assert_eq!([read(&mut pit, 0), read(&mut pit, 0)], [0x07, 0x08]);
}

#[test]
fn read_back_tells_status_before_count() {
    let (mut pit, _, time) = pit();
    program(&mut pit, &[(3, 0x30), (3, 0xe2)]);
    assert_eq!(read(&mut pit, 0), 0x70, "no count yet");
    program(&mut pit, &[(0, 2), (0, 0)]);
    time.pass(1_000_000);
    program(&mut pit, &[(3, 0xc2)]);
    assert_eq!(read(&mut pit, 0), 0xb0);
    assert_eq!(
        u16::from_le_bytes([read(&mut pit, 0), read(&mut pit, 0)]),
        2_u16.wrapping_sub(1193)
    );
}

/// How guests measure their processor's speed: counter 2 in mode 0, its gate opened, its output polled.
#[test]
fn the_third_counter_runs_while_its_gate_is_open() {
    let (mut pit, line, time) = pit();
    program(&mut pit, &[(4, 0), (3, 0xb0), (2, 0x9b), (2, 0x2e)]);
    time.pass(20_000_000);
    assert_eq!(read(&mut pit, 4) & 0x21, 0);
    program(&mut pit, &[(4, 1)]);
    time.pass(9_000_000);
    assert_eq!(read(&mut pit, 4) & 0x21, 0x01);
    time.pass(1_100_000);
    assert_eq!(read(&mut pit, 4) & 0x21, 0x21);
    assert_eq!(line.pulses(), 0);
}

#[test]
fn memory_refresh_toggles() {
    let (mut pit, _, time) = pit();
    let before = read(&mut pit, 4) & 0x10;
    time.pass(15_085);
    assert_ne!(read(&mut pit, 4) & 0x10, before);
}

#[test]
fn a_moved_timer_goes_on_as_it_was() {
    let (mut one, _, time) = pit();
    time.pass(5);
    // Counter 0 runs; of counter 1 half a count has come; the gate holds counter 2, whose count is kept and half read.
    program(&mut one, &[(3, 0x34), (0, 0x9b), (0, 0x2e), (3, 0x70), (1, 0x12)]);
    program(&mut one, &[(4, 1), (3, 0xb0), (2, 0x00), (2, 0x80)]);
    time.pass(3_000_000);
    program(&mut one, &[(4, 2), (3, 0x80)]);
    read(&mut one, 2);
    time.pass(1_000_000);
    let mut other = Pit::new(Arc::new(CountingLine::default()), Arc::clone(&time) as _);
    move_state(&mut one, &mut other);
    assert_eq!(other.deadline(), one.deadline());
    program(&mut one, &[(1, 0x34), (4, 3)]);
    program(&mut other, &[(1, 0x34), (4, 3)]);
    time.pass(2_000_000);
    for port in [0, 0, 1, 1, 2, 2, 2, 4] {
        assert_eq!(read(&mut other, port), read(&mut one, port), "{port}");
    }
}

#[test]
fn a_timer_starts_as_it_does_in_qemu() {
    check_round_trips("pcspk", |_| SpeakerState::default());
    let [timer, speaker] = ["i8254", "pcspk"].map(|name| sections("q35-10.2-bare", name)[0].bytes());
    let (mut pit, ..) = pit();
    let saved: Vec<_> = saved(&mut pit).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(saved, [timer, speaker]);
}

#[test]
fn a_timer_of_qemu_goes_on_counting() {
    let mut state = PitState::default();
    let section = &sections("q35-10.2-linux-devices", "i8254")[0];
    load_whole(&mut state, section.version, &section.bytes()).unwrap();
    let (mut pit, _, time) = pit();
    time.0.store(11_041_596_872, Ordering::Relaxed);
    assert!(state.irq_disabled);
    assert!(pit.set_state(state).is_err());
    state.irq_disabled = false;
    pit.set_state(state).unwrap();
    assert_eq!(saved(&mut pit)[0].1.len(), section.bytes().len());
}

proptest! {
    #[test]
    fn random_accesses_do_not_panic(accesses in random_accesses(5), steps: Vec<u64>) {
        let (mut pit, _, time) = pit();
        let mut steps = steps.into_iter();
        for access in accesses {
            access.perform(&mut pit);
            time.0.store(steps.next().unwrap_or_default(), Ordering::Relaxed);
            pit.expire();
            let _ = pit.deadline();
        }
    }
}
