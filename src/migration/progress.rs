//! How a migration goes, and how it is to go: told by one thread and asked by another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a migration is to go. May change at any moment.
#[derive(Debug)]
pub struct Limits {
    /// Bytes a second while the guest runs; 0 for as many as go.
    pub max_bandwidth: AtomicU64,
    /// Bytes a second that can be counted on while it is stopped; 0 for as many as went before.
    pub switchover_bandwidth: AtomicU64,
    /// Milliseconds that the guest may be stopped.
    pub downtime_limit: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bandwidth: AtomicU64::new(128 << 20),
            switchover_bandwidth: AtomicU64::new(0),
            downtime_limit: AtomicU64::new(300),
        }
    }
}

/// What of a guest's memory has gone.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that were sent.
    pub transferred: AtomicU64,
    /// Bytes of memory that are left.
    pub remaining: AtomicU64,
    /// Bytes of memory.
    pub total: AtomicU64,
    /// Pages that were zero.
    pub zero_pages: AtomicU64,
    /// Pages that were sent whole.
    pub normal_pages: AtomicU64,
    /// How often it was looked what the guest wrote.
    pub syncs: AtomicU64,
    /// Pages that the guest writes in a second.
    pub dirty_rate: AtomicU64,
    /// Pages that were sent in a second.
    pub page_rate: AtomicU64,
    /// Bytes a second.
    pub bandwidth: AtomicU64,
    /// Bytes that were sent while the guest ran.
    pub precopy_bytes: AtomicU64,
    /// Bytes that were sent while it was stopped.
    pub downtime_bytes: AtomicU64,
}

impl Progress {
    /// A number that was told last.
    pub(super) fn set(cell: &AtomicU64, value: u64) {
        cell.store(value, Ordering::Relaxed);
    }

    /// More of something.
    pub(super) fn add(cell: &AtomicU64, value: u64) {
        cell.fetch_add(value, Ordering::Relaxed);
    }

    /// A number as it is now.
    pub fn get(cell: &AtomicU64) -> u64 {
        cell.load(Ordering::Relaxed)
    }

    /// How long the guest would be stopped if all that is left were sent now; none if it is not known how fast that goes.
    #[must_use]
    pub fn expected_downtime(&self) -> Option<Duration> {
        let bandwidth = Self::get(&self.bandwidth);
        let milliseconds = u128::from(Self::get(&self.remaining)) * 1000 / u128::from(bandwidth.max(1));
        (bandwidth != 0).then(|| Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX)))
    }
}
