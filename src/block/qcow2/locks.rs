//! Who has which guest clusters, and which clusters of the file may still be in use.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Ranges of guest bytes whose mapping somebody is changing. Others wait.
#[derive(Debug, Default)]
pub(super) struct RangeLocks {
    held: Mutex<Vec<Range<u64>>>,
    released: Notify,
}

/// A range that is held.
#[derive(Debug)]
pub(super) struct RangeLock<'a> {
    locks: &'a RangeLocks,
    range: Range<u64>,
}

impl RangeLocks {
    /// Waits until nobody else has any of the range, and takes it.
    pub(super) async fn lock(&self, range: Range<u64>) -> RangeLock<'_> {
        loop {
            let mut released = pin!(self.released.notified());
            released.as_mut().enable();
            if let Some(lock) = self.try_lock(&range) {
                return lock;
            }
            released.await;
        }
    }

    fn try_lock(&self, range: &Range<u64>) -> Option<RangeLock<'_>> {
        let mut held = self.held();
        let taken = held
            .iter()
            .any(|other| other.start < range.end && range.start < other.end);
        if taken {
            return None;
        }
        held.push(range.clone());
        Some(RangeLock {
            locks: self,
            range: range.clone(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RangeLock<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        if let Some(at) = held.iter().position(|range| *range == self.range) {
            held.swap_remove(at);
        }
        drop(held);
        self.locks.released.notify_waiters();
    }
}

/// A range of the file that nothing refers to any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Free {
    /// Bytes of the file.
    pub(super) range: Range<u64>,
    /// The guest gave them back.
    pub(super) discarded: bool,
}

/// Clusters on their way to be free: first their references go from the tables in memory, then from those in the file, then
/// the last request that may have found them there ends. Only then do their refcounts go down, and others may have them.
/// Thereby refcounts in the file are never lower than what refers to a cluster, and no request finds the data of another.
#[derive(Debug, Default)]
pub(super) struct Frees {
    removed: Vec<Free>,
    retired: VecDeque<(Vec<Free>, Arc<()>)>,
    epoch: Arc<()>,
}

impl Frees {
    /// For as long as a request has this, what it finds in the tables stays.
    #[must_use]
    pub(super) fn guard(&self) -> Arc<()> {
        Arc::clone(&self.epoch)
    }

    /// Nothing in memory refers to a range any more.
    pub(super) fn push(&mut self, free: Free) {
        if let Some(last) = self.removed.last_mut() {
            if last.range.end == free.range.start && last.discarded == free.discarded {
                last.range.end = free.range.end;
                return;
            }
        }
        self.removed.push(free);
    }

    /// How many ranges wait for the tables to be written.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.removed.len()
    }

    /// Those to which nothing refers once the tables as they are now are in the file.
    #[must_use]
    pub(super) fn take_removed(&mut self) -> Vec<Free> {
        std::mem::take(&mut self.removed)
    }

    /// Takes back what [`Frees::take_removed`] gave.
    pub(super) fn restore(&mut self, mut removed: Vec<Free>) {
        removed.append(&mut self.removed);
        self.removed = removed;
    }

    /// Nothing in the file refers to these any more. A request that is under way may.
    pub(super) fn retire(&mut self, removed: Vec<Free>) {
        if !removed.is_empty() {
            let epoch = std::mem::take(&mut self.epoch);
            self.retired.push_back((removed, epoch));
        }
    }

    /// The next that no request can have found.
    pub(super) fn next_settled(&mut self) -> Option<Vec<Free>> {
        let (_, epoch) = self.retired.front()?;
        if Arc::strong_count(epoch) > 1 {
            return None;
        }
        self.retired.pop_front().map(|(removed, _)| removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::testing::block_on;

    #[test]
    fn a_range_is_one_holders_and_others_go_on() {
        let locks = RangeLocks::default();
        block_on(async {
            let first = locks.lock(0..10).await;
            let _beside = locks.lock(10..20).await;
            assert!(locks.try_lock(&(5..15)).is_none());
            let wait = async {
                let _second = locks.lock(5..8).await;
                assert!(locks.try_lock(&(0..5)).is_some());
            };
            let release = async { drop(first) };
            tokio::join!(wait, release);
        });
        assert_eq!(locks.held().len(), 0);
    }

    fn free(range: Range<u64>) -> Free {
        Free {
            range,
            discarded: false,
        }
    }

    #[test]
    fn what_a_request_may_have_found_is_not_free_before_it_ends() {
        let mut frees = Frees::default();
        let early = frees.guard();
        frees.push(free(0..10));
        frees.push(free(10..20));
        assert_eq!(frees.waiting(), 1);
        let removed = frees.take_removed();
        frees.retire(removed);
        let late = frees.guard();
        frees.push(free(30..40));
        let removed = frees.take_removed();
        frees.retire(removed);
        assert_eq!(frees.next_settled(), None);
        drop(late);
        assert_eq!(frees.next_settled(), None, "the early one may have found it as well");
        drop(early);
        assert_eq!(frees.next_settled(), Some(vec![free(0..20)]));
        assert_eq!(frees.next_settled(), Some(vec![free(30..40)]));
        assert_eq!(frees.next_settled(), None);
    }

    #[test]
    fn what_could_not_be_written_waits_again() {
        let mut frees = Frees::default();
        frees.push(free(0..10));
        let removed = frees.take_removed();
        frees.push(free(20..30));
        frees.restore(removed);
        assert_eq!(frees.take_removed(), [free(0..10), free(20..30)]);
    }
}
