use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::devices::testing::{CountingLine, move_state, random_accesses, saved};
use crate::vmstate::load_whole;
use crate::vmstate::recorded::{check_round_trips, sections};

const NANOSECONDS: i64 = 1_000_000_000;
/// 2000-02-29 12:34:56.
const START: i64 = 951_827_696;

struct Bench {
    rtc: Rtc,
    time: Arc<AtomicI64>,
    line: Arc<CountingLine>,
    seen: Arc<Mutex<Vec<Notice>>>,
}

impl Bench {
    fn new() -> Self {
        let (line, seen) = (Arc::new(CountingLine::default()), Arc::new(Mutex::new(Vec::new())));
        let time = Arc::new(AtomicI64::new(START * NANOSECONDS));
        let (sink, clock) = (Arc::clone(&seen), Arc::clone(&time));
        let notifier: Notifier = Arc::new(move |notice| sink.lock().unwrap().push(notice));
        let now = Box::new(move || i128::from(clock.load(Ordering::Relaxed)));
        let source = TimeSource { now, ahead: 0 };
        let rtc = Rtc::new(Arc::clone(&line) as _, notifier, source, [0; 128]);
        Self { rtc, time, line, seen }
    }

    fn pass(&mut self, nanoseconds: i64) {
        self.time.fetch_add(nanoseconds, Ordering::Relaxed);
        self.rtc.expire();
    }

    fn read(&mut self, register: usize) -> u8 {
        self.rtc.pio_write(0, &[register as u8]);
        let mut byte = [0];
        self.rtc.pio_read(1, &mut byte);
        byte[0]
    }

    fn write(&mut self, register: usize, value: u8) {
        self.rtc.pio_write(0, &[register as u8]);
        self.rtc.pio_write(1, &[value]);
    }
}

#[test]
fn the_time_is_read_in_the_form_that_was_asked_for() {
    let mut bench = Bench::new();
    let read =
        |bench: &mut Bench| [CENTURY, YEAR, MONTH, DAY_OF_MONTH, HOURS, MINUTES, SECONDS].map(|at| bench.read(at));
    assert_eq!(read(&mut bench), [0x20, 0x00, 0x02, 0x29, 0x12, 0x34, 0x56]);
    bench.write(B, BINARY);
    assert_eq!(
        read(&mut bench),
        [20, 0, 2, 29, 0x80 | 12, 34, 56],
        "noon, counted to twelve"
    );
    bench.pass(3600 * NANOSECONDS);
    assert_eq!(bench.read(HOURS), 0x80 | 1);
}

#[test]
fn a_guest_that_sets_its_clock_is_told_of_once() {
    let mut bench = Bench::new();
    bench.write(B, SET | HOURS_24);
    bench.write(YEAR, 0x01);
    bench.write(MINUTES, 0x30);
    bench.write(DAY_OF_MONTH, 0x28);
    assert!(bench.seen.lock().unwrap().is_empty());
    bench.write(B, HOURS_24);
    let offset = 365 * 86_400 - 240;
    assert_eq!(*bench.seen.lock().unwrap(), [Notice::RtcChange(offset)]);
    bench.pass(NANOSECONDS);
    assert_eq!(
        [bench.read(YEAR), bench.read(MINUTES), bench.read(SECONDS)],
        [0x01, 0x30, 0x57]
    );
}

#[test]
fn the_same_time_again_and_nonsense_are_told_of_as_well() {
    let mut bench = Bench::new();
    bench.write(B, SET | HOURS_24);
    bench.write(B, HOURS_24);
    assert_eq!(bench.seen.lock().unwrap().pop(), Some(Notice::RtcChange(0)));
    bench.write(B, SET | HOURS_24);
    bench.write(MONTH, 0x02);
    bench.write(DAY_OF_MONTH, 0x31);
    bench.write(SECONDS, 0xff);
    bench.write(B, HOURS_24);
    let offset = 2 * 86_400 - 57;
    assert_eq!(bench.seen.lock().unwrap().pop(), Some(Notice::RtcChange(offset)));
    let date = [CENTURY, YEAR, MONTH, DAY_OF_MONTH, SECONDS].map(|at| bench.read(at));
    assert_eq!(date, [0x20, 0x00, 0x03, 0x02, 0x59]);
}

#[test]
fn a_clock_that_is_held_is_set_by_its_registers_when_let_go() {
    let mut bench = Bench::new();
    bench.write(A, 0x76);
    bench.pass(5 * NANOSECONDS);
    assert_eq!(bench.read(SECONDS), 0x56);
    bench.write(PS2_CENTURY, 0x19);
    assert_eq!(bench.seen.lock().unwrap().len(), 0);
    bench.write(A, 0x26);
    assert_eq!(bench.seen.lock().unwrap().len(), 1);
    assert_eq!(
        [bench.read(CENTURY), bench.read(PS2_CENTURY), bench.read(YEAR)],
        [0x19, 0x19, 0x00]
    );
}

#[test]
fn interrupts_come_when_due_and_go_when_read() {
    let mut bench = Bench::new();
    assert_eq!(bench.rtc.deadline(), None);
    bench.write(B, HOURS_24 | ALARM);
    bench.write(SECONDS_ALARM, 0x58);
    bench.write(MINUTES_ALARM, 0xff);
    bench.write(HOURS_ALARM, 0xff);
    assert_eq!(bench.rtc.deadline(), Some(1_000_000_000));
    bench.pass(NANOSECONDS);
    assert!(!bench.line.is_high());
    bench.pass(NANOSECONDS);
    assert!(bench.line.is_high());
    assert_eq!(bench.read(C), REQUEST | ALARM | UPDATE);
    assert!(!bench.line.is_high());
    bench.write(B, HOURS_24 | PERIODIC);
    assert_eq!(bench.rtc.deadline(), Some(976_562));
    bench.pass(NANOSECONDS / 1024);
    assert_eq!(bench.read(C) & PERIODIC, PERIODIC);
}

#[test]
fn a_moved_clock_keeps_memory_time_and_interrupts() {
    let mut one = Bench::new();
    one.write(0x40, 0x77);
    one.write(YEAR, 0x05);
    one.pass(300_000_000);
    one.write(B, HOURS_24 | PERIODIC | ALARM);
    one.pass(250_000);
    let mut other = Bench::new();
    other.time.store(one.time.load(Ordering::Relaxed), Ordering::Relaxed);
    other.rtc.source.ahead = 7;
    one.rtc.source.ahead = 7;
    move_state(&mut one.rtc, &mut other.rtc);
    assert_eq!([other.read(0x40), other.read(YEAR)], [0x77, 0x05]);
    assert_eq!(other.rtc.deadline(), one.rtc.deadline());
}

#[test]
fn recorded_clocks_are_read_and_written_alike() {
    check_round_trips("mc146818rtc", |_| RtcState::default());
}

/// The same bytes come out of the device at the moment in which QEMU saved its own.
#[test]
fn a_clock_of_qemu_goes_on_as_it_was() {
    for (stream, seconds) in [("q35-10.2-bare", 0), ("q35-7.2-bare", 0)] {
        let [section] = sections(stream, "mc146818rtc").try_into().unwrap();
        let mut state = RtcState::default();
        load_whole(&mut state, section.version, &section.bytes()).unwrap();
        let mut bench = Bench::new();
        let time = state.last_update as i64 + seconds * NANOSECONDS;
        bench.time.store(time, Ordering::Relaxed);
        bench.rtc.set_state(state).unwrap();
        assert_eq!(saved(&mut bench.rtc)[0].1, section.bytes(), "{stream}");
    }
}

proptest! {
    #[test]
    fn no_access_does_harm(accesses in random_accesses(2), steps in prop::collection::vec(0i64..10_000_000_000, 200)) {
        let mut bench = Bench::new();
        for (access, step) in accesses.into_iter().zip(steps) {
            access.perform(&mut bench.rtc);
            bench.pass(step);
            let _ = bench.rtc.deadline();
        }
    }
}
