//! Events that come too often: the first goes out at once, of those that follow within a second only the last.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long events are held back.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Holds events back. `T` is what a caller keeps of an event; time is passed in.
#[derive(Debug)]
pub struct EventThrottle<T> {
    /// By throttle key; there while an interval lasts.
    slots: HashMap<String, Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    until: Instant,
    held: Option<T>,
}

impl<T> Default for EventThrottle<T> {
    fn default() -> Self {
        Self { slots: HashMap::new() }
    }
}

impl<T> EventThrottle<T> {
    /// Takes an event with its [throttle key](super::visit::WireEvent::throttle_key); gives it back if it is to be
    /// sent now.
    pub fn push(&mut self, key: Option<String>, event: T, now: Instant) -> Option<T> {
        let Some(key) = key else {
            return Some(event);
        };
        match self.slots.get_mut(&key) {
            Some(slot) => {
                slot.held = Some(event);
                None
            }
            None => {
                let until = now + INTERVAL;
                self.slots.insert(key, Slot { until, held: None });
                Some(event)
            }
        }
    }

    /// When to call [`Self::expire`] next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.slots.values().map(|slot| slot.until).min()
    }

    /// The events whose time has come, the one that waited longest first. Each starts a new interval.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        self.slots.retain(|_, slot| {
            if slot.until > now {
                return true;
            }
            let Some(event) = slot.held.take() else {
                return false;
            };
            due.push((slot.until, event));
            slot.until = now + INTERVAL;
            true
        });
        due.sort_by_key(|(until, _)| *until);
        due.into_iter().map(|(_, event)| event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn the_last_of_many_follows_the_first() {
        let start = Instant::now();
        let mut throttle = EventThrottle::default();
        assert_eq!(throttle.push(key("RTC_CHANGE"), 1, start), Some(1));
        assert_eq!(throttle.push(key("RTC_CHANGE"), 2, start), None);
        assert_eq!(throttle.push(key("RTC_CHANGE"), 3, start), None);
        assert_eq!(throttle.push(key("WATCHDOG"), 4, start), Some(4));
        assert_eq!(throttle.push(None, 5, start), Some(5));
        assert_eq!(throttle.deadline(), Some(start + INTERVAL));
        assert_eq!(throttle.expire(start + INTERVAL / 2), Vec::<i32>::new());
        assert_eq!(throttle.expire(start + INTERVAL), [3]);
        assert_eq!(throttle.push(key("WATCHDOG"), 6, start + INTERVAL), Some(6));
        assert_eq!(throttle.push(key("RTC_CHANGE"), 7, start + INTERVAL), None);
    }

    #[test]
    fn a_quiet_interval_ends_the_matter() {
        let start = Instant::now();
        let mut throttle = EventThrottle::default();
        assert_eq!(throttle.push(key("WATCHDOG"), 1, start), Some(1));
        assert_eq!(throttle.expire(start + INTERVAL), Vec::<i32>::new());
        assert_eq!(throttle.deadline(), None);
    }
}
