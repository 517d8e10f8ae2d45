//! `mc146818rtc`: the real-time clock and its CMOS memory (Motorola MC146818A).
//!
//! The time is not counted but computed: from the host's, and from what the guest last set its clock to and when. Its
//! interrupts come from [`Rtc::expire`], which the machine calls at [`Rtc::deadline`].

mod state;

use std::sync::Arc;

use serde_json::{Value, json};

pub use state::RtcState;

use super::{Device, IrqLine, Notice, Notifier, PioDevice, built_in};
use crate::calendar::{Date, day_of_week};
use crate::qom::{PropertyInfo, PropertyKind, TypeInfo};
use crate::vmstate::{StateError, Stateful, Visitor, section};

/// The QOM type.
pub static TYPE: TypeInfo = built_in(
    "mc146818rtc",
    "isa-device",
    "Real-time clock",
    &[PropertyInfo::read_only(
        "date",
        PropertyKind::Other("struct tm"),
        "What the clock shows",
    )],
);

/// First port: the index; the data port is the next one.
pub const PORT: u16 = 0x70;

const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const DAY_OF_WEEK: usize = 0x06;
const DAY_OF_MONTH: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const A: usize = 0x0a;
const B: usize = 0x0b;
const C: usize = 0x0c;
const D: usize = 0x0d;
const CENTURY: usize = 0x32;
/// Another place where the century is found (IBM PS/2).
const PS2_CENTURY: usize = 0x37;
const TIME: [usize; 7] = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR];

/// Register A: an update is near.
const UPDATE_IN_PROGRESS: u8 = 0x80;
/// Register A: the divider; above the second value it is held in reset, and time stands still.
const DIVIDER: u8 = 0x70;
const DIVIDER_32_KHZ: u8 = 0x20;
/// Register A: 32.768 kHz time base, 1.024 kHz periodic rate.
const DEFAULT_A: u8 = 0x26;
/// Register B: the guest sets the time.
const SET: u8 = 0x80;
/// Register B: periodic interrupts.
const PERIODIC: u8 = 0x40;
/// Register B: alarm interrupts.
const ALARM: u8 = 0x20;
/// Register B: interrupts after each update.
const UPDATE: u8 = 0x10;
/// Register B: numbers are binary, not decimal.
const BINARY: u8 = 0x04;
/// Register B: hours run to 24.
const HOURS_24: u8 = 0x02;
/// Register C: an interrupt is requested; the bits below tell why, as in register B.
const REQUEST: u8 = 0x80;
/// Register D: the battery is fine.
const VALID: u8 = 0x80;
/// An alarm register with these bits matches any value.
const ANY: u8 = 0xc0;
/// Nanoseconds before a second in which an update counts as in progress: 244 microseconds.
const UPDATE_TIME: i128 = 244_000;
const SECOND: i128 = 1_000_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Where the time comes from: nanoseconds since 1970-01-01 00:00:00, negative before it, as the guest was configured to
/// see it.
pub type Now = Box<dyn Fn() -> i128 + Send>;

/// What a guest's time comes from.
pub struct TimeSource {
    /// The time.
    pub now: Now,
    /// Nanoseconds that it is ahead of the host's clock that goes with it, by which saved states count.
    pub ahead: i128,
}

/// The clock.
pub struct Rtc {
    irq: Arc<dyn IrqLine>,
    notifier: Notifier,
    source: TimeSource,
    cmos: [u8; 128],
    index: u8,
    /// What the guest's clock showed when it was last set, and when that was on the scale of [`Now`]: nanoseconds.
    set_to: i128,
    set_at: i128,
    /// The second that update and alarm interrupts have seen.
    seen: i64,
    /// The time of the next periodic interrupt, on the scale of [`Now`].
    next_periodic: Option<i128>,
}

impl Rtc {
    /// A clock with its interrupt line. `cmos` holds what the machine tells its firmware; time registers are ignored.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, notifier: Notifier, source: TimeSource, cmos: [u8; 128]) -> Self {
        let now = (source.now)();
        let mut rtc = Self {
            irq,
            notifier,
            source,
            cmos,
            index: 0,
            set_to: now,
            set_at: now,
            seen: 0,
            next_periodic: None,
        };
        rtc.cmos[A] = DEFAULT_A;
        rtc.cmos[B] = HOURS_24;
        rtc.cmos[C] = 0;
        rtc.cmos[D] = VALID;
        rtc.seen = rtc.guest_seconds();
        rtc
    }

    /// How many nanoseconds from now [`Rtc::expire`] is to be called; none while no interrupt is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let now = self.now();
        let wants_seconds = self.cmos[B] & (ALARM | UPDATE) != 0 && self.is_running();
        let second = wants_seconds.then(|| self.rest_of_second());
        let periodic = self.next_periodic.map(|at| at - now);
        let next = second.into_iter().chain(periodic).min()?;
        Some(u64::try_from(next).unwrap_or_default())
    }

    /// Raises the interrupts that are due.
    pub fn expire(&mut self) {
        let now = self.now();
        if let (Some(at), Some(period)) = (self.next_periodic, self.period()) {
            if now >= at {
                self.next_periodic = Some(now - (now - at) % period + period);
                self.request(PERIODIC);
            }
        }
        let seconds = self.guest_seconds();
        if seconds != self.seen && self.is_running() {
            self.seen = seconds;
            if self.alarm_matches() {
                self.request(ALARM);
            }
            self.request(UPDATE);
        }
    }

    fn is_set_mode(&self) -> bool {
        self.cmos[B] & SET != 0
    }

    /// Whether time goes on: it does not while the guest sets it, or holds the divider in reset.
    fn is_running(&self) -> bool {
        !self.is_set_mode() && self.cmos[A] & DIVIDER <= DIVIDER_32_KHZ
    }

    fn now(&self) -> i128 {
        (self.source.now)()
    }

    /// The guest's time in nanoseconds.
    fn guest_time(&self) -> i128 {
        self.set_to + self.now() - self.set_at
    }

    fn guest_seconds(&self) -> i64 {
        let seconds = self.guest_time().div_euclid(SECOND);
        i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
    }

    /// Nanoseconds until the guest's next second.
    fn rest_of_second(&self) -> i128 {
        SECOND - self.guest_time().rem_euclid(SECOND)
    }

    /// Nanoseconds between periodic interrupts, by the rate in register A.
    fn period(&self) -> Option<i128> {
        let rate = u32::from(self.cmos[A] & 0x0f);
        // The two fastest rates repeat slower ones.
        let shift = match rate {
            0 => return None,
            1 | 2 => rate + 6,
            _ => rate - 1,
        };
        Some(SECOND * (1 << shift) / 32_768)
    }

    fn request(&mut self, cause: u8) {
        self.cmos[C] |= cause;
        if self.cmos[B] & cause != 0 {
            self.cmos[C] |= REQUEST;
            self.irq.set(true);
        }
    }

    fn alarm_matches(&self) -> bool {
        let time = self.time_registers();
        [
            (SECONDS_ALARM, time[0]),
            (MINUTES_ALARM, time[1]),
            (HOURS_ALARM, time[2]),
        ]
        .into_iter()
        .all(|(register, value)| self.cmos[register] & ANY == ANY || self.cmos[register] == value)
    }

    /// The seven time registers in the form register B asks for.
    fn time_registers(&self) -> [u8; 7] {
        let seconds = self.guest_seconds();
        let date = Date::from_seconds(seconds);
        // Every number is small by construction.
        let small = |number: i64| u8::try_from(number).unwrap_or_default();
        [
            self.encode(small(date.second)),
            self.encode(small(date.minute)),
            self.encode_hour(small(date.hour)),
            self.encode(small(day_of_week(seconds))),
            self.encode(small(date.day)),
            self.encode(small(date.month)),
            self.encode(small(date.year.rem_euclid(100))),
        ]
    }

    /// The century in the form register B asks for.
    fn century(&self) -> u8 {
        let century = Date::from_seconds(self.guest_seconds()).year.div_euclid(100);
        self.encode(u8::try_from(century.rem_euclid(100)).unwrap_or_default())
    }

    fn encode(&self, number: u8) -> u8 {
        if self.cmos[B] & BINARY != 0 {
            number
        } else {
            ((number / 10) << 4) | (number % 10)
        }
    }

    /// The number that a register holds; -1 for what is no decimal number.
    fn decode(&self, byte: u8) -> i64 {
        if self.cmos[B] & BINARY != 0 {
            i64::from(byte)
        } else if byte & ANY == ANY {
            -1
        } else {
            i64::from(byte >> 4) * 10 + i64::from(byte & 0x0f)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.cmos[B] & HOURS_24 != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(&self, byte: u8) -> i64 {
        let hour = self.decode(byte & 0x7f);
        match (self.cmos[B] & HOURS_24 != 0, byte & 0x80 != 0) {
            (true, _) => hour,
            (false, afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        }
    }

    /// Takes the time from the registers, which the guest has written. Whatever they hold is a time: nonsense is taken
    /// for what it comes to, and told of as any other.
    fn set_time(&mut self) {
        let date = Date {
            year: self.decode(self.cmos[CENTURY]) * 100 + self.decode(self.cmos[YEAR]),
            month: self.decode(self.cmos[MONTH]),
            day: self.decode(self.cmos[DAY_OF_MONTH]),
            hour: self.decode_hour(self.cmos[HOURS]),
            minute: self.decode(self.cmos[MINUTES]),
            second: self.decode(self.cmos[SECONDS]),
        };
        let (now, seconds) = (self.now(), date.to_seconds());
        // Seconds go on beginning when they did.
        self.set_to = i128::from(seconds) * SECOND + self.guest_time().rem_euclid(SECOND);
        self.set_at = now;
        let offset = i128::from(seconds) - now.div_euclid(SECOND);
        (self.notifier)(Notice::RtcChange(i64::try_from(offset).unwrap_or_default()));
        self.seen = self.guest_seconds();
    }

    /// Changes a byte of the memory, without the registers of the clock itself, and whatever the guest has chosen.
    pub fn set_memory(&mut self, at: u8, value: u8) {
        if at > u8::try_from(D).unwrap_or_default() {
            self.write_register(usize::from(at & 0x7f), value);
        }
    }

    /// Puts the present time into the registers, for the guest to change part of it.
    fn hold_time(&mut self) {
        let time = self.time_registers();
        for (register, value) in TIME.into_iter().zip(time) {
            self.cmos[register] = value;
        }
        self.cmos[CENTURY] = self.century();
    }

    fn read_register(&mut self, register: usize) -> u8 {
        if let (Some(at), true) = (TIME.iter().position(|time| *time == register), self.is_running()) {
            return self.time_registers()[at];
        }
        match register {
            A => {
                let near = self.rest_of_second() <= UPDATE_TIME && self.is_running();
                self.cmos[A] & !UPDATE_IN_PROGRESS | if near { UPDATE_IN_PROGRESS } else { 0 }
            }
            C => {
                // What nobody was to be told of by an interrupt is noted now.
                self.expire();
                self.irq.set(false);
                std::mem::take(&mut self.cmos[C])
            }
            CENTURY | PS2_CENTURY if self.is_running() => self.century(),
            PS2_CENTURY => self.cmos[CENTURY],
            _ => self.cmos[register],
        }
    }

    fn write_register(&mut self, register: usize, value: u8) {
        match register {
            A => self.write_a(value),
            B => self.write_b(value),
            C | D => {}
            PS2_CENTURY => self.write_register(CENTURY, value),
            _ if TIME.contains(&register) || register == CENTURY => {
                let was_running = self.is_running();
                if was_running {
                    self.hold_time();
                }
                self.cmos[register] = value;
                if was_running {
                    self.set_time();
                }
            }
            _ => self.cmos[register] = value,
        }
    }

    fn write_a(&mut self, value: u8) {
        self.change_running(|rtc| rtc.cmos[A] = value & !UPDATE_IN_PROGRESS);
        self.restart_periodic();
    }

    fn write_b(&mut self, value: u8) {
        // The updates of a clock that is being set stand still.
        let value = if value & SET != 0 { value & !UPDATE } else { value };
        self.change_running(|rtc| rtc.cmos[B] = value);
        self.seen = self.guest_seconds();
        self.restart_periodic();
    }

    /// Makes a change that may stop the clock, whose registers then hold the time, or start it with what they hold.
    fn change_running(&mut self, change: impl FnOnce(&mut Self)) {
        let was_running = self.is_running();
        if was_running {
            self.hold_time();
        }
        change(self);
        if !was_running && self.is_running() {
            self.set_time();
        }
    }

    fn restart_periodic(&mut self) {
        let wanted = self.cmos[B] & PERIODIC != 0;
        self.next_periodic = self.period().filter(|_| wanted).map(|period| self.now() + period);
    }
}

/// Saved times are those of the clock behind [`TimeSource`].
impl Rtc {
    /// A time of the guest's configuration as one of that clock.
    fn to_clock(&self, time: i128) -> i128 {
        time - self.source.ahead
    }

    /// The other way round.
    fn time_at(&self, time: u64) -> i128 {
        i128::from(time) + self.source.ahead
    }

    /// Seconds from now to the one in which the alarm comes: 1 to 86400.
    fn seconds_to_alarm(&self) -> i128 {
        let is_set = |register: usize| self.cmos[register] & ANY != ANY;
        let now = self.guest_seconds();
        let matches = |ahead: &i64| {
            let second = now.saturating_add(*ahead).rem_euclid(DAY);
            // Every number is small by construction.
            let small = |number: i64| u8::try_from(number).unwrap_or_default();
            [
                (SECONDS_ALARM, self.encode(small(second % 60))),
                (MINUTES_ALARM, self.encode(small(second / 60 % 60))),
                (HOURS_ALARM, self.encode_hour(small(second / 3600))),
            ]
            .into_iter()
            .all(|(register, value)| !is_set(register) || self.cmos[register] == value)
        };
        (1..=DAY).find(matches).unwrap_or(DAY).into()
    }

    /// When the update timer is to expire, and when the alarm comes, on the scale of [`Now`].
    fn update_times(&self) -> (Option<i128>, i128) {
        let next = self.now() + self.rest_of_second();
        let alarm = next + (self.seconds_to_alarm() - 1) * SECOND;
        let update = match self.cmos[C] & (UPDATE | ALARM) {
            _ if !self.is_running() => None,
            // There is nothing that a guest has not been told of.
            both if both == UPDATE | ALARM => None,
            UPDATE => Some(alarm),
            _ => Some(next),
        };
        (update, alarm)
    }
}

impl Stateful<RtcState> for Rtc {
    fn state(&self) -> RtcState {
        let mut cmos_data = self.cmos;
        if self.is_running() {
            for (register, value) in TIME.into_iter().zip(self.time_registers()) {
                cmos_data[register] = value;
            }
            cmos_data[CENTURY] = self.century();
        }
        // Times before 1970 wrap as they do in QEMU.
        let wrapped = |time: i128| self.to_clock(time) as u64;
        let periodic = self.next_periodic.map(wrapped);
        let period = self.period().filter(|_| periodic.is_some());
        let (update, alarm) = self.update_times();
        RtcState {
            cmos_data,
            cmos_index: self.index,
            periodic_timer: periodic,
            next_periodic_time: periodic.unwrap_or_default() as i64,
            // At most 32768.
            period: period.map_or(0, |period| (period * 32_768 / SECOND) as u32),
            base_rtc: self.set_to.div_euclid(SECOND) as u64,
            last_update: wrapped(self.set_at),
            offset: self.set_to.rem_euclid(SECOND) as i64,
            update_timer: update.map(wrapped),
            next_alarm_time: wrapped(alarm),
            ..RtcState::default()
        }
    }

    fn set_state(&mut self, state: RtcState) -> Result<(), StateError> {
        self.cmos = state.cmos_data;
        self.index = state.cmos_index;
        self.set_to = i128::from(state.base_rtc as i64) * SECOND + i128::from(state.offset);
        self.set_at = self.time_at(state.last_update);
        self.seen = self.guest_seconds();
        self.restart_periodic();
        if let (Some(_), Some(at)) = (self.next_periodic, state.periodic_timer) {
            self.next_periodic = Some(self.time_at(at));
        }
        self.irq.set(self.cmos[C] & REQUEST != 0);
        Ok(())
    }
}

impl Device for Rtc {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        // The battery keeps time and memory; interrupts are off after a reset.
        self.cmos[B] &= !(PERIODIC | ALARM | UPDATE);
        self.cmos[C] = 0;
        self.next_periodic = None;
        self.irq.set(false);
    }

    fn property(&self, name: &str) -> Option<Value> {
        let date = Date::from_seconds(self.guest_seconds());
        (name == "date").then(|| {
            json!({
                "tm_year": date.year - 1900,
                "tm_mon": date.month - 1,
                "tm_mday": date.day,
                "tm_hour": date.hour,
                "tm_min": date.minute,
                "tm_sec": date.second,
            })
        })
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<RtcState>(self))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl PioDevice for Rtc {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (1, Some(first)) = (offset, data.first_mut()) {
            *first = self.read_register(usize::from(self.index));
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        match (offset, data.first()) {
            // The top bit masks non-maskable interrupts on a real board.
            (0, Some(byte)) => self.index = byte & 0x7f,
            (1, Some(byte)) => self.write_register(usize::from(self.index), *byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
