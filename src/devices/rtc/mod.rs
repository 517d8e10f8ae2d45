//! `mc146818rtc`: the real-time clock and its CMOS memory (Motorola MC146818A).
//!
//! The time is not counted but computed: host time plus an offset, which changes when the guest sets its clock. Its
//! interrupts come from [`Rtc::expire`], which the machine calls at [`Rtc::deadline`].

mod calendar;

use std::sync::Arc;

use serde_json::{Value, json};

use self::calendar::Date;
use super::{Device, DeviceState, IrqLine, Notice, Notifier, PioDevice};

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
const TIME: [usize; 7] = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR];

/// Register A: an update is near.
const UPDATE_IN_PROGRESS: u8 = 0x80;
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
const UPDATE_TIME: u64 = 244_000;
const SECOND: u64 = 1_000_000_000;

/// Where the time comes from: nanoseconds since 1970-01-01 00:00:00, as the guest was configured to see it.
pub type Now = Box<dyn Fn() -> u64 + Send>;

/// The clock.
pub struct Rtc {
    irq: Arc<dyn IrqLine>,
    notifier: Notifier,
    now: Now,
    cmos: [u8; 128],
    index: u8,
    /// Seconds that the guest's clock is ahead of [`Now`].
    offset: i64,
    /// The second that update and alarm interrupts have seen.
    seen: u64,
    /// The time of the next periodic interrupt, on the scale of [`Now`].
    next_periodic: Option<u64>,
}

impl Rtc {
    /// A clock with its interrupt line. `cmos` holds what the machine tells its firmware; time registers are ignored.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, notifier: Notifier, now: Now, cmos: [u8; 128]) -> Self {
        let mut rtc = Self {
            irq,
            notifier,
            now,
            cmos,
            index: 0,
            offset: 0,
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
        let now = (self.now)();
        let second = (self.cmos[B] & (ALARM | UPDATE) != 0 && !self.is_set_mode()).then(|| SECOND - now % SECOND);
        let periodic = self.next_periodic.map(|at| at.saturating_sub(now));
        second.into_iter().chain(periodic).min()
    }

    /// Raises the interrupts that are due.
    pub fn expire(&mut self) {
        let now = (self.now)();
        if let (Some(at), Some(period)) = (self.next_periodic, self.period()) {
            if now >= at {
                self.next_periodic = Some(now - (now - at) % period + period);
                self.request(PERIODIC);
            }
        }
        let seconds = self.guest_seconds();
        if seconds != self.seen && !self.is_set_mode() {
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

    fn guest_seconds(&self) -> u64 {
        ((self.now)() / SECOND).saturating_add_signed(self.offset)
    }

    /// Nanoseconds between periodic interrupts, by the rate in register A.
    fn period(&self) -> Option<u64> {
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
        let date = Date::from_seconds(self.guest_seconds());
        let year = u8::try_from(date.year % 100).unwrap_or(0);
        [
            self.encode(date.second),
            self.encode(date.minute),
            self.encode_hour(date.hour),
            self.encode(date.day_of_week),
            self.encode(date.day),
            self.encode(date.month),
            self.encode(year),
        ]
    }

    fn encode(&self, number: u8) -> u8 {
        if self.cmos[B] & BINARY != 0 {
            number
        } else {
            number / 10 << 4 | number % 10
        }
    }

    fn decode(&self, byte: u8) -> u8 {
        if self.cmos[B] & BINARY != 0 {
            byte
        } else {
            (byte >> 4).saturating_mul(10).saturating_add(byte & 0x0f)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.cmos[B] & HOURS_24 != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(&self, byte: u8) -> u8 {
        if self.cmos[B] & HOURS_24 != 0 {
            return self.decode(byte);
        }
        self.decode(byte & 0x7f) % 12 + if byte & 0x80 != 0 { 12 } else { 0 }
    }

    /// Takes the time from the registers, which the guest has written.
    fn set_time(&mut self) {
        let century = self.decode(self.cmos[CENTURY]);
        let date = Date {
            year: u64::from(century) * 100 + u64::from(self.decode(self.cmos[YEAR])),
            month: self.decode(self.cmos[MONTH]),
            day: self.decode(self.cmos[DAY_OF_MONTH]),
            hour: self.decode_hour(self.cmos[HOURS]),
            minute: self.decode(self.cmos[MINUTES]),
            second: self.decode(self.cmos[SECONDS]),
            day_of_week: 0,
        };
        let Some(seconds) = date.to_seconds() else {
            return;
        };
        let host = (self.now)() / SECOND;
        let offset = i64::try_from(seconds).unwrap_or(0) - i64::try_from(host).unwrap_or(0);
        if offset != self.offset {
            self.offset = offset;
            (self.notifier)(Notice::RtcChange(offset));
        }
        self.seen = self.guest_seconds();
    }

    /// Puts the present time into the registers, for the guest to change part of it.
    fn hold_time(&mut self) {
        let time = self.time_registers();
        for (register, value) in TIME.into_iter().zip(time) {
            self.cmos[register] = value;
        }
        let century = Date::from_seconds(self.guest_seconds()).year / 100;
        self.cmos[CENTURY] = self.encode(u8::try_from(century).unwrap_or(20));
    }

    fn read_register(&mut self, register: usize) -> u8 {
        if let (Some(at), false) = (TIME.iter().position(|time| *time == register), self.is_set_mode()) {
            return self.time_registers()[at];
        }
        match register {
            A => {
                let near = SECOND - (self.now)() % SECOND <= UPDATE_TIME && !self.is_set_mode();
                self.cmos[A] & !UPDATE_IN_PROGRESS | if near { UPDATE_IN_PROGRESS } else { 0 }
            }
            C => {
                self.irq.set(false);
                std::mem::take(&mut self.cmos[C])
            }
            CENTURY if !self.is_set_mode() => {
                let century = Date::from_seconds(self.guest_seconds()).year / 100;
                self.encode(u8::try_from(century).unwrap_or(20))
            }
            _ => self.cmos[register],
        }
    }

    fn write_register(&mut self, register: usize, value: u8) {
        match register {
            A => {
                self.cmos[A] = value & !UPDATE_IN_PROGRESS;
                self.restart_periodic();
            }
            B => self.write_b(value),
            C | D => {}
            _ if TIME.contains(&register) || register == CENTURY => {
                let set_mode = self.is_set_mode();
                if !set_mode {
                    self.hold_time();
                }
                self.cmos[register] = value;
                if !set_mode {
                    self.set_time();
                }
            }
            _ => self.cmos[register] = value,
        }
    }

    fn write_b(&mut self, value: u8) {
        let was_set = self.is_set_mode();
        if value & SET != 0 && !was_set {
            self.hold_time();
        }
        // The updates of a clock that is being set stand still.
        self.cmos[B] = if value & SET != 0 { value & !UPDATE } else { value };
        if was_set && value & SET == 0 {
            self.set_time();
        }
        self.seen = self.guest_seconds();
        self.restart_periodic();
    }

    fn restart_periodic(&mut self) {
        let wanted = self.cmos[B] & PERIODIC != 0;
        self.next_periodic = self
            .period()
            .filter(|_| wanted)
            .map(|period| (self.now)().saturating_add(period));
    }
}

impl Device for Rtc {
    fn type_name(&self) -> &'static str {
        "mc146818rtc"
    }

    fn reset(&mut self) {
        // The battery keeps time and memory; interrupts are off after a reset.
        self.cmos[B] &= !(PERIODIC | ALARM | UPDATE);
        self.cmos[C] = 0;
        self.next_periodic = None;
        self.irq.set(false);
    }

    fn state(&self) -> DeviceState {
        DeviceState::Versioned {
            version: 1,
            fields: json!({ "cmos": self.cmos.as_slice(), "index": self.index, "offset": self.offset }),
        }
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        if version != 1 {
            return Err(format!("version {version} of mc146818rtc is not known"));
        }
        let wrong = |name: &str| format!("mc146818rtc: field '{name}' is missing or out of range");
        let byte = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
        let cmos = fields["cmos"].as_array().ok_or_else(|| wrong("cmos"))?;
        let cmos: Option<Vec<u8>> = cmos.iter().map(byte).collect();
        self.cmos = cmos
            .and_then(|cmos| cmos.try_into().ok())
            .ok_or_else(|| wrong("cmos"))?;
        self.index = byte(&fields["index"])
            .filter(|index| *index < 128)
            .ok_or_else(|| wrong("index"))?;
        self.offset = fields["offset"].as_i64().ok_or_else(|| wrong("offset"))?;
        self.seen = self.guest_seconds();
        self.restart_periodic();
        self.irq.set(self.cmos[C] & REQUEST != 0);
        Ok(())
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
