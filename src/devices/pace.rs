//! How fast a guest may make events.
//!
//! Each of them costs the monitor and every client much more than it costs the guest, whose vCPUs could make hundreds
//! of thousands a second. So they get some at once and then one a millisecond; whoever wants more waits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time between two events of a guest that makes them without pause.
const INTERVAL: Duration = Duration::from_millis(1);
/// How many may come at once after a quiet time.
const BURST: u32 = 64;

/// Counts a guest's events, of whatever makes them together.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the next event is due if each took its interval.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// An event at `now`: how long whoever made it waits.
    pub(crate) fn event(&self, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.map_or(now, |due| due.max(now)) + INTERVAL;
        *due = Some(next);
        next.saturating_duration_since(now).saturating_sub(INTERVAL * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slow() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert!((0..BURST).all(|_| pace.event(start).is_zero()));
        assert_eq!(pace.event(start), INTERVAL);
        assert_eq!(pace.event(start), INTERVAL * 2, "each vCPU waits for its turn");
        let later = start + INTERVAL * (BURST + 2);
        assert!(
            (0..BURST).all(|_| pace.event(later).is_zero()),
            "a quiet time makes good"
        );
        assert_eq!(pace.event(later), INTERVAL);
    }
}
