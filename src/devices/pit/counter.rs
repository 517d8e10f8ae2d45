//! One counter of the timer.

/// Counts in a second.
const FREQUENCY: u128 = 1_193_182;
const SECOND: u128 = 1_000_000_000;

/// How the count is read and written: low byte, high byte, or one after the other.
const ACCESS_LOW: u8 = 1;
const ACCESS_HIGH: u8 = 2;
/// Read-back command: bits that are 0 when the count, or the status, is to be kept.
const KEEP_COUNT: u8 = 0x20;
const KEEP_STATUS: u8 = 0x10;

/// A counter. Times are nanoseconds of the guest's clock.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    mode: u8,
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
            access: ACCESS_LOW | ACCESS_HIGH,
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
            ACCESS_LOW => false,
            ACCESS_HIGH => true,
            _ => {
                self.reads_high = !self.reads_high;
                !self.reads_high
            }
        };
        if is_high || self.access == ACCESS_LOW {
            self.kept_count = None;
        }
        if is_high { high } else { low }
    }

    /// A byte of a new count. Whether the count is complete.
    pub(super) fn write(&mut self, value: u8, now: u64) -> bool {
        let count = match (self.access, self.low_byte.take()) {
            (ACCESS_LOW, _) => u16::from(value),
            (ACCESS_HIGH, _) => u16::from(value) << 8,
            (_, Some(low)) => u16::from_le_bytes([low, value]),
            (_, None) => {
                self.low_byte = Some(value);
                return false;
            }
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
        let ticks = u128::from(elapsed) * FREQUENCY / SECOND;
        self.before.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }
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
