//! One counter of the timer.

use crate::vmstate::pc::PitChannelState;

/// Counts in a second.
const FREQUENCY: u128 = 1_193_182;
const SECOND: u128 = 1_000_000_000;

/// How the count is read and written: high byte, or low and high one after the other; everything else is low byte.
const ACCESS_HIGH: u8 = 2;
const ACCESS_BOTH: u8 = 3;
/// The second of both bytes is next, in saved states.
const SECOND_OF_BOTH: u8 = 4;
/// Read-back command: bits that are 0 when the count, or the status, is to be kept.
const KEEP_COUNT: u8 = 0x20;
const KEEP_STATUS: u8 = 0x10;

/// A counter. Times are nanoseconds of the guest's clock.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    mode: u8,
    /// 0 until a control word says otherwise; then only low bytes are read and written.
    access: u8,
    bcd: bool,
    gate: bool,
    /// Counts from one start to the next: 1 to 65536.
    reload: u32,
    /// When it started to count; none until a count is written (or the gate rises, in modes 1 and 5), and while the gate
    /// holds it.
    since: Option<u64>,
    /// What had been counted before that, when the gate holds it.
    before: u64,
    /// A count has been written that it counts by.
    loaded: bool,
    low_byte: Option<u8>,
    reads_high: bool,
    kept_count: Option<u16>,
    kept_status: Option<u8>,
}

impl Counter {
    /// A counter that waits for its mode.
    pub(super) fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: 0,
            bcd: false,
            gate,
            reload: 0x1_0000,
            since: None,
            before: 0,
            loaded: false,
            low_byte: None,
            reads_high: false,
            kept_count: None,
            kept_status: None,
        }
    }

    /// A control word for this counter.
    pub(super) fn control(&mut self, value: u8, now: u64) {
        let access = value >> 4 & 3;
        if access == 0 {
            self.keep_count(now);
            return;
        }
        let mode = value >> 1 & 7;
        *self = Self {
            // Modes 6 and 7 are 2 and 3.
            mode: if mode > 5 { mode - 4 } else { mode },
            access,
            bcd: value & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    /// A read-back command that names this counter.
    pub(super) fn read_back(&mut self, value: u8, now: u64) {
        if value & KEEP_COUNT == 0 {
            self.keep_count(now);
        }
        if value & KEEP_STATUS == 0 && self.kept_status.is_none() {
            let output = u8::from(self.output(now)) << 7;
            let not_loaded = u8::from(!self.loaded) << 6;
            self.kept_status = Some(output | not_loaded | self.access << 4 | self.mode << 1 | u8::from(self.bcd));
        }
    }

    fn keep_count(&mut self, now: u64) {
        if self.kept_count.is_none() {
            self.kept_count = Some(self.count(now));
            self.reads_high = false;
        }
    }

    /// The next byte of the count, or the status that was kept.
    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.kept_status.take() {
            return status;
        }
        let [low, high] = self.kept_count.unwrap_or_else(|| self.count(now)).to_le_bytes();
        let is_high = match self.access {
            ACCESS_HIGH => true,
            ACCESS_BOTH => {
                self.reads_high = !self.reads_high;
                !self.reads_high
            }
            _ => false,
        };
        if is_high || self.access != ACCESS_BOTH {
            self.kept_count = None;
        }
        if is_high { high } else { low }
    }

    /// A byte of a new count. Whether the count is complete.
    pub(super) fn write(&mut self, value: u8, now: u64) -> bool {
        let count = match (self.access, self.low_byte.take()) {
            (ACCESS_HIGH, _) => u16::from(value) << 8,
            (ACCESS_BOTH, Some(low)) => u16::from_le_bytes([low, value]),
            (ACCESS_BOTH, None) => {
                self.low_byte = Some(value);
                return false;
            }
            _ => u16::from(value),
        };
        self.load(count, now);
        true
    }

    fn load(&mut self, count: u16, now: u64) {
        let count = if self.bcd { from_bcd(count) } else { u32::from(count) };
        self.reload = if count == 0 { self.modulus() } else { count };
        self.loaded = true;
        if matches!(self.mode, 1 | 5) {
            // These start when the gate rises.
            return;
        }
        self.before = 0;
        self.since = self.gate.then_some(now);
    }

    /// Drives the gate.
    pub(super) fn set_gate(&mut self, gate: bool, now: u64) {
        if gate == self.gate {
            return;
        }
        self.gate = gate;
        if gate && self.loaded {
            if !matches!(self.mode, 0 | 4) {
                self.before = 0;
            }
            self.since = Some(now);
        } else if !gate && !matches!(self.mode, 1 | 5) {
            self.before = self.ticks(now);
            self.since = None;
        }
    }

    /// Whether the output is high.
    pub(super) fn output(&self, now: u64) -> bool {
        let (ticks, reload) = (self.ticks(now), u64::from(self.reload));
        match self.mode {
            0 => self.loaded && ticks >= reload,
            1 => self.since.is_none() || ticks >= reload,
            2 => self.since.is_none() || ticks % reload != reload - 1,
            3 => self.since.is_none() || ticks % reload < reload.div_ceil(2),
            _ => self.since.is_none() || ticks != reload,
        }
    }

    /// When the output next goes from low to high after `now`.
    pub(super) fn next_rise(&self, now: u64) -> Option<u64> {
        let since = self.since?;
        let (ticks, reload) = (self.ticks(now), u64::from(self.reload));
        let at = match self.mode {
            0 | 1 if ticks < reload => reload,
            4 | 5 if ticks <= reload => reload + 1,
            2 | 3 => (ticks / reload + 1).saturating_mul(reload),
            _ => return None,
        };
        Some(since.saturating_add(nanoseconds(at - self.before.min(at))))
    }

    /// Its registers, for saving. QEMU's counters count from power-on, ours from their first count: a start at 0 tells
    /// of one that has none.
    pub(super) fn saved(&self, now: u64) -> PitChannelState {
        let start = match self.since {
            Some(since) => signed(since) - signed(nanoseconds(self.before)),
            None if self.loaded => signed(now) - signed(nanoseconds(self.before)),
            None => 0,
        };
        let stage = |second: bool| if second { SECOND_OF_BOTH } else { self.access };
        PitChannelState {
            // At most 65536.
            count: self.reload as i32,
            latched_count: self.kept_count.unwrap_or_default(),
            count_latched: self.kept_count.map_or(0, |_| stage(self.reads_high)),
            status_latched: self.kept_status.is_some(),
            status: self.kept_status.unwrap_or_default(),
            read_state: stage(self.reads_high && self.kept_count.is_none()),
            write_state: stage(self.low_byte.is_some()),
            write_latch: self.low_byte.unwrap_or_default(),
            rw_mode: self.access,
            mode: self.mode,
            bcd: self.bcd,
            gate: self.gate,
            count_load_time: start,
            next_transition_time: 0,
        }
    }

    /// A counter with these registers, which `PitChannelState` has checked.
    pub(super) fn restored(state: &PitChannelState, now: u64) -> Self {
        let loaded = state.rw_mode != 0 && state.count_load_time != 0;
        let reload = u32::try_from(state.count).unwrap_or_default().max(1);
        let mut counter = Self {
            mode: state.mode,
            access: state.rw_mode,
            bcd: state.bcd,
            reload,
            loaded,
            low_byte: (state.write_state == SECOND_OF_BOTH).then_some(state.write_latch),
            reads_high: state.read_state == SECOND_OF_BOTH || state.count_latched == SECOND_OF_BOTH,
            kept_count: (state.count_latched != 0).then_some(state.latched_count),
            kept_status: state.status_latched.then_some(state.status),
            ..Self::new(state.gate)
        };
        if !loaded {
            return counter;
        }
        // A count may have begun before the clock did.
        let elapsed = u64::try_from(i128::from(now) - i128::from(state.count_load_time)).unwrap_or_default();
        if state.gate || matches!(state.mode, 1 | 5) {
            counter.since = Some(now.saturating_sub(elapsed));
            counter.before = ticks_of(elapsed.saturating_sub(now));
        } else {
            counter.before = ticks_of(elapsed);
        }
        counter
    }

    /// When the output next changes, as saved states tell it; negative if it does not.
    pub(super) fn next_transition(&self, now: u64) -> i64 {
        let (ticks, count) = (self.ticks(now), u64::from(self.reload));
        let start = ticks / count * count;
        let next = match self.mode {
            0 | 1 if ticks < count => count,
            2 if ticks == start && ticks != 0 => start + count,
            2 => start.saturating_add(count + 1),
            3 if ticks - start < count.div_ceil(2) => start + count.div_ceil(2),
            3 => start.saturating_add(count),
            4 | 5 if ticks < count => count,
            4 | 5 if ticks == count => count + 1,
            _ => return -1,
        };
        let after = u128::from(next.saturating_sub(self.before)) * SECOND / FREQUENCY;
        let at = u128::from(self.since.unwrap_or_default()) + after;
        signed(u64::try_from(at).unwrap_or(u64::MAX)).max(signed(now).saturating_add(1))
    }

    /// The count as the guest reads it.
    fn count(&self, now: u64) -> u16 {
        let (ticks, reload) = (self.ticks(now), u64::from(self.reload));
        let modulus = u64::from(self.modulus());
        let count = match self.mode {
            2 => reload - ticks % reload,
            // Counts down by two, twice in a period.
            3 => reload - ticks.saturating_mul(2) % reload,
            _ => (reload + modulus - ticks % modulus) % modulus,
        };
        // 65536 reads as 0.
        let count = u16::try_from(count % modulus).unwrap_or_default();
        if self.bcd { to_bcd(count) } else { count }
    }

    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// What has been counted.
    fn ticks(&self, now: u64) -> u64 {
        let elapsed = self.since.map_or(0, |since| now.saturating_sub(since));
        self.before.saturating_add(ticks_of(elapsed))
    }
}

fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// What is counted in so many nanoseconds.
fn ticks_of(elapsed: u64) -> u64 {
    u64::try_from(u128::from(elapsed) * FREQUENCY / SECOND).unwrap_or(u64::MAX)
}

/// The time after which so much has been counted.
fn nanoseconds(ticks: u64) -> u64 {
    u64::try_from((u128::from(ticks) * SECOND).div_ceil(FREQUENCY)).unwrap_or(u64::MAX)
}

fn from_bcd(count: u16) -> u32 {
    (0..4).rev().fold(0, |value, digit| {
        value * 10 + u32::from(count >> (4 * digit) & 0xf).min(9)
    })
}

fn to_bcd(count: u16) -> u16 {
    let digits = [1, 10, 100, 1000].map(|unit| count / unit % 10);
    digits[0] | digits[1] << 4 | digits[2] << 8 | digits[3] << 12
}
