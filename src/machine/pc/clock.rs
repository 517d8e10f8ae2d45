//! Guest time: runs while the vCPUs run.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::devices::Clock;

/// A clock that can be stopped.
#[derive(Debug, Default)]
pub(crate) struct GuestClock(Mutex<Reading>);

#[derive(Debug, Default)]
struct Reading {
    elapsed: Duration,
    running_since: Option<Instant>,
}

impl GuestClock {
    /// Lets time run.
    pub(crate) fn start(&self) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.running_since.get_or_insert_with(Instant::now);
    }

    /// Sets it to so many nanoseconds; it stands still.
    pub(crate) fn set(&self, nanoseconds: u64) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *reading = Reading {
            elapsed: Duration::from_nanos(nanoseconds),
            running_since: None,
        };
    }

    /// Stops time.
    pub(crate) fn stop(&self) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = reading.running_since.take() {
            reading.elapsed += since.elapsed();
        }
    }
}

impl Clock for GuestClock {
    fn nanoseconds(&self) -> u64 {
        let reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = reading.running_since.map(|since| since.elapsed()).unwrap_or_default();
        u64::try_from((reading.elapsed + running).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_stopped() {
        let clock = GuestClock::default();
        assert_eq!(clock.nanoseconds(), 0);
        clock.start();
        std::thread::sleep(Duration::from_millis(2));
        clock.stop();
        let stopped = clock.nanoseconds();
        assert!(stopped >= 2_000_000);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.nanoseconds(), stopped);
    }
}
