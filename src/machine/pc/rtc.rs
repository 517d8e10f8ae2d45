//! The real-time clock in its machine: where its time comes from, what its memory tells firmware, and who calls it when
//! an interrupt is due.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::error::PcError;
use super::layout::Split;
use super::timed::{Timed, Timer};
use crate::devices::rtc::{Rtc, TimeSource};
use crate::devices::{Clock, Device, PioDevice, ResetKind};
use crate::machine::config::{RtcBase, RtcClock, RtcConfig};
use crate::machine::local_time;
use crate::vmstate::{StateError, Visitor};

/// CMOS memory: why the machine was reset; this value means that it wakes from sleep.
const SHUTDOWN_STATUS: u8 = 0x0f;
const WAKES_FROM_SLEEP: u8 = 0xfe;
/// Nanoseconds.
const SECOND: i128 = 1_000_000_000;
/// Offsets of the two ports.
const INDEX: u16 = 0;
const DATA: u16 = 1;

/// What tells a guest's clock the time.
pub(crate) fn now(config: &RtcConfig, clock: &Arc<impl Clock + 'static>) -> Result<TimeSource, PcError> {
    let wall = || {
        nanoseconds(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        )
    };
    let start = match config.base {
        RtcBase::Utc => wall(),
        RtcBase::Date(seconds) => i128::from(seconds) * SECOND,
        RtcBase::Localtime => {
            let now = wall();
            let ahead = local_time::seconds_ahead_of_utc(u64::try_from(now / SECOND).unwrap_or_default())
                .ok_or(PcError::NoTimeZone)?;
            now + i128::from(ahead) * SECOND
        }
    };
    Ok(match config.clock {
        RtcClock::Host => {
            let begun = wall();
            TimeSource {
                now: Box::new(move || start + wall() - begun),
                ahead: start - begun,
            }
        }
        RtcClock::Rt => {
            let (begun, at) = (Instant::now(), monotonic()?);
            TimeSource {
                now: Box::new(move || start + nanoseconds(begun.elapsed())),
                ahead: start - at,
            }
        }
        RtcClock::Vm => {
            let clock = Arc::clone(clock);
            TimeSource {
                now: Box::new(move || start + i128::from(clock.nanoseconds())),
                ahead: start,
            }
        }
    })
}

/// The host's clock that nobody sets.
fn monotonic() -> Result<i128, PcError> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|error| PcError::NoMonotonicClock(error.into()))?;
    Ok(i128::from(time.tv_sec()) * SECOND + i128::from(time.tv_nsec()))
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// What firmware finds in the clock's memory: sizes of memory, vCPUs, boot order.
pub(crate) fn cmos(split: Split, cpus: u32, boot: BootOrder) -> [u8; 128] {
    let mut cmos = [0; 128];
    let mut put = |at: usize, number: u64, len: usize| {
        let limit = (1_u64 << (8 * len)) - 1;
        cmos[at..at + len].copy_from_slice(&number.min(limit).to_le_bytes()[..len]);
    };
    // KiB below 1 MiB, KiB above it, and 64 KiB units above 16 MiB and 4 GiB.
    put(0x15, 640, 2);
    let extended = (split.low >> 10).saturating_sub(1024);
    put(0x17, extended, 2);
    put(0x30, extended, 2);
    put(0x34, split.low.saturating_sub(16 << 20) >> 16, 2);
    put(0x5b, split.high >> 16, 3);
    put(0x5f, u64::from(cpus.saturating_sub(1)), 1);
    // Equipment: a mathematical coprocessor and a pointing device.
    put(0x14, 0x06, 1);
    for (at, byte) in boot.0 {
        put(usize::from(at), byte.into(), 1);
    }
    cmos
}

/// A boot order as two bytes of CMOS memory, with their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootOrder([(u8, u8); 2]);

impl BootOrder {
    /// Reads the letters of `-boot order=`.
    pub(crate) fn new(order: &str, checks_floppies: bool) -> Result<Self, PcError> {
        let [first, second, third] = boot_devices(order)?;
        // Bit 0 of the other byte: floppies are not looked at for a signature.
        Ok(Self([
            (0x3d, second << 4 | first),
            (0x38, third << 4 | u8::from(!checks_floppies)),
        ]))
    }
}

/// The devices of a boot order, at most three, as CMOS memory numbers them.
fn boot_devices(order: &str) -> Result<[u8; 3], PcError> {
    let mut devices = [0; 3];
    if order.chars().count() > devices.len() {
        return Err(PcError::LongBootOrder);
    }
    for (slot, letter) in devices.iter_mut().zip(order.chars()) {
        *slot = match letter {
            'a' | 'b' => 1,
            'c' => 2,
            'd' => 3,
            'n' => 4,
            other => return Err(PcError::BootDevice(other)),
        };
    }
    Ok(devices)
}

/// The clock that raises its interrupts in time.
pub(crate) struct TimedRtc {
    clock: Timed<Rtc>,
    order_after_reset: Option<BootOrder>,
    /// The machine is reset once when it is made.
    has_booted: bool,
}

impl TimedRtc {
    /// `order_after_reset` replaces the boot order that was for the first boot only.
    pub(crate) fn new(clock: Timed<Rtc>, order_after_reset: Option<BootOrder>) -> Self {
        Self {
            clock,
            order_after_reset,
            has_booted: false,
        }
    }

    /// Replaces the boot order that firmware finds.
    pub(crate) fn set_boot_order(&mut self, order: BootOrder) {
        for (at, byte) in order.0 {
            self.clock.with(|clock| clock.set_memory(at, byte));
        }
    }

    fn poke(&mut self, at: u8, byte: u8) {
        self.clock.pio_write(INDEX, &[at]);
        self.clock.pio_write(DATA, &[byte]);
    }
}

impl Timer for Rtc {
    // The host's time goes on; what it is for the guest is its own business.
    const STOPS_WITH_GUEST: bool = false;

    fn deadline(&self) -> Option<u64> {
        self.deadline()
    }

    fn expire(&mut self) {
        self.expire();
    }

    fn moves_deadline(offset: u16) -> bool {
        offset == DATA
    }
}

impl Device for TimedRtc {
    fn type_name(&self) -> &'static str {
        self.clock.type_name()
    }

    fn reset(&mut self) {
        self.clock.reset();
        if !std::mem::replace(&mut self.has_booted, true) {
            return;
        }
        for (at, byte) in self.order_after_reset.take().into_iter().flat_map(|order| order.0) {
            self.poke(at, byte);
        }
    }

    fn reset_exit(&mut self, kind: ResetKind) {
        self.clock.reset_exit(kind);
        if kind == ResetKind::Wakeup {
            // So firmware learns that the machine wakes from sleep.
            self.poke(SHUTDOWN_STATUS, WAKES_FROM_SLEEP);
        }
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.clock.property(name)
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        self.clock.sections(visit)
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        self.clock.as_pio()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::devices::{IrqLine, Notifier};
    use crate::io::{EventLoop, GuestClock};

    #[derive(Default)]
    struct Line(Mutex<u32>, Condvar);

    impl IrqLine for Line {
        fn set(&self, level: bool) {
            *self.0.lock().unwrap() += u32::from(level);
            self.1.notify_all();
        }
    }

    #[test]
    fn periodic_interrupts_come_by_themselves() {
        let line = Arc::new(Line::default());
        let notifier: Notifier = Arc::new(|_| {});
        let now = now(&RtcConfig::default(), &Arc::new(GuestClock::default())).unwrap();
        let served = EventLoop::new(None).unwrap();
        let rtc = Rtc::new(Arc::clone(&line) as _, notifier, now, [0; 128]);
        let mut rtc = TimedRtc::new(Timed::new(rtc, served.handle(), &Arc::default()), None);
        rtc.clock.pio_write(0, &[0x0b]);
        rtc.clock.pio_write(1, &[0x42]);
        let count = line.0.lock().unwrap();
        let result = line
            .1
            .wait_timeout_while(count, Duration::from_secs(5), |count| *count == 0)
            .unwrap();
        assert!(*result.0 > 0);
    }

    #[test]
    fn a_given_date_is_where_time_starts() {
        for start in [1_000_000_000, -1, 253_402_300_799] {
            let clock = Arc::new(GuestClock::default());
            let config = RtcConfig {
                base: RtcBase::Date(start),
                clock: RtcClock::Vm,
                driftfix_slew: false,
            };
            let now = now(&config, &clock).unwrap();
            assert_eq!((now.now)(), i128::from(start) * SECOND);
        }
    }

    #[test]
    fn memory_tells_sizes_and_boot_order() {
        let split = Split {
            low: 2 << 30,
            high: 1 << 30,
        };
        let cmos = cmos(split, 4, BootOrder::new("dc", true).unwrap());
        assert_eq!((cmos[0x5f], cmos[0x3d], cmos[0x38]), (3, 0x23, 0));
        assert_eq!(u16::from_le_bytes([cmos[0x34], cmos[0x35]]), 0x7f00);
        assert_eq!(cmos[0x5b..0x5e], [0, 0x40, 0]);
        assert_eq!(BootOrder::new("cad", true).unwrap().0, [(0x3d, 0x12), (0x38, 0x30)]);
        for (order, complaint) in [
            ("cp", "Invalid boot device for PC: 'p'"),
            ("acdn", "Too many boot devices for PC"),
        ] {
            assert_eq!(BootOrder::new(order, false).unwrap_err().to_string(), complaint);
        }
    }

    #[test]
    fn a_boot_order_for_once_is_gone_after_a_reset() {
        let notifier: Notifier = Arc::new(|_| {});
        let now = now(&RtcConfig::default(), &Arc::new(GuestClock::default())).unwrap();
        let [once, later] = ["d", "c"].map(|order| BootOrder::new(order, true).unwrap());
        let memory = cmos(Split { low: 1 << 30, high: 0 }, 1, once);
        let rtc = Rtc::new(Arc::new(Line::default()), notifier, now, memory);
        let served = EventLoop::new(None).unwrap();
        let mut rtc = TimedRtc::new(Timed::new(rtc, served.handle(), &Arc::default()), Some(later));
        for expected in [3, 2, 2] {
            rtc.reset();
            rtc.clock.pio_write(0, &[0x3d]);
            let mut byte = [0];
            rtc.clock.pio_read(1, &mut byte);
            assert_eq!(byte, [expected]);
        }
    }
}
