//! Points in time that a loop waits for.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::clock::{Clock, GuestClock, nanoseconds};
use super::event_loop::{Handle, Shared, Work};

/// Where the host's time is counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time that a timer counts, in nanoseconds.
#[derive(Clone, Debug)]
pub enum Time {
    /// The host's (CLOCK_MONOTONIC), since it was first asked for.
    Host,
    /// The guest's, which stands still while it is paused.
    Guest(Arc<GuestClock>),
}

impl Time {
    /// What it is now.
    #[must_use]
    pub fn now(&self) -> u64 {
        match self {
            Self::Host => nanoseconds(START.elapsed()),
            Self::Guest(clock) => clock.nanoseconds(),
        }
    }

    /// How long until it is `deadline`; none while it stands still.
    pub(super) fn left(&self, deadline: u64) -> Option<Duration> {
        match self {
            Self::Guest(clock) if !clock.runs() => None,
            time => Some(Duration::from_nanos(deadline.saturating_sub(time.now()))),
        }
    }
}

/// Something to be done at a certain time, once each time it is armed. Gone with the value; a call that is under way then is
/// finished.
pub struct Timer {
    shared: Arc<Shared>,
    time: Time,
    key: u64,
}

impl Handle {
    /// A timer that calls `expire`. It is not armed.
    #[must_use]
    pub fn timer(&self, time: Time, mut expire: impl FnMut() + Send + 'static) -> Timer {
        let shared = Arc::clone(&self.0);
        if let Time::Guest(clock) = &time {
            clock.add_loop(Arc::downgrade(&shared));
        }
        let work = Work::Timer {
            time: time.clone(),
            deadline: None,
        };
        let key = shared.enter(work, Box::new(move |_| expire()));
        Timer { shared, time, key }
    }
}

impl Timer {
    /// Expires when its time is `deadline` nanoseconds, and not at any other time asked for before.
    pub fn arm(&self, deadline: u64) {
        self.shared.set_deadline(self.key, Some(deadline));
    }

    /// Expires after this time, counted from now.
    pub fn arm_in(&self, wait: Duration) {
        self.arm(self.time.now().saturating_add(nanoseconds(wait)));
    }

    /// Does not expire.
    pub fn cancel(&self) {
        self.shared.set_deadline(self.key, None);
    }

    /// When it expires, if it is armed.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.shared.deadline(self.key)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.forget(self.key);
    }
}
