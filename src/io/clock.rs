//! Guest time: runs while the vCPUs run.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::event_loop::Shared;

/// A clock that stands still while the guest is stopped.
pub trait Clock: Send + Sync {
    /// Nanoseconds the guest has run since power-on of the emulator.
    fn nanoseconds(&self) -> u64;
}

/// A clock that can be stopped. It starts stopped, at zero.
#[derive(Debug, Default)]
pub struct GuestClock {
    reading: Mutex<Reading>,
    /// Loops that have timers on this clock.
    loops: Mutex<Vec<Weak<Shared>>>,
}

#[derive(Debug, Default)]
struct Reading {
    elapsed: Duration,
    running_since: Option<Instant>,
}

impl GuestClock {
    /// Lets time run.
    pub fn start(&self) {
        lock(&self.reading).running_since.get_or_insert_with(Instant::now);
        self.tell();
    }

    /// Sets it to so many nanoseconds; it stands still. Timers on it are armed anew when the guest is resumed.
    pub fn set(&self, nanoseconds: u64) {
        *lock(&self.reading) = Reading {
            elapsed: Duration::from_nanos(nanoseconds),
            running_since: None,
        };
    }

    /// Stops time.
    pub fn stop(&self) {
        let mut reading = lock(&self.reading);
        if let Some(since) = reading.running_since.take() {
            reading.elapsed += since.elapsed();
        }
    }

    /// Whether time runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        lock(&self.reading).running_since.is_some()
    }

    /// Tells a loop whenever time begins to run.
    pub(super) fn add_loop(&self, added: Weak<Shared>) {
        let mut loops = lock(&self.loops);
        loops.retain(|known| known.strong_count() > 0);
        if !loops.iter().any(|known| known.ptr_eq(&added)) {
            loops.push(added);
        }
    }

    /// A loop that wakes for a clock that has stopped meanwhile finds nothing due; one that sleeps has to know that time
    /// runs.
    fn tell(&self) {
        let loops = lock(&self.loops).clone();
        loops
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|shared| shared.look_at_timers());
    }
}

impl Clock for GuestClock {
    fn nanoseconds(&self) -> u64 {
        let reading = lock(&self.reading);
        let running = reading.running_since.map(|since| since.elapsed()).unwrap_or_default();
        nanoseconds(reading.elapsed + running)
    }
}

/// Nanoseconds of a duration; it is five centuries to the end of their range.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
