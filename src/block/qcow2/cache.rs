//! Parts of tables in memory, which are written back later.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Parts of tables, by where they are in the file.
#[derive(Debug)]
pub(super) struct Cache {
    slices: HashMap<u64, Slice>,
    /// Bytes of a part.
    slice_size: u64,
    /// Parts that are kept when others are needed.
    limit: usize,
    clock: u64,
}

#[derive(Debug)]
struct Slice {
    /// Shared with who is writing it to the file.
    bytes: Arc<Vec<u8>>,
    /// What the file does not have yet.
    dirty: Range<usize>,
    used: u64,
}

/// Bytes of a table on their way to the file.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The part they are of.
    slice: u64,
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Pending {
    /// Where they go.
    #[must_use]
    pub(super) fn offset(&self) -> u64 {
        self.slice + self.range.start as u64
    }

    /// What they are.
    #[must_use]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl Cache {
    /// An empty cache of parts of `slice_size` bytes, a power of two, which keeps about `limit` bytes.
    #[must_use]
    pub(super) fn new(slice_size: u64, limit: u64) -> Self {
        Self {
            slices: HashMap::new(),
            slice_size,
            limit: usize::try_from(limit / slice_size).unwrap_or(usize::MAX).max(4),
            clock: 0,
        }
    }

    /// Which part has the byte at `offset`.
    #[must_use]
    pub(super) fn slice_of(&self, offset: u64) -> u64 {
        offset & !(self.slice_size - 1)
    }

    /// Bytes of a part.
    #[must_use]
    pub(super) fn slice_size(&self) -> u64 {
        self.slice_size
    }

    /// The part with the byte at `offset`, if it is here.
    pub(super) fn get(&mut self, offset: u64) -> Option<&[u8]> {
        self.clock += 1;
        let key = self.slice_of(offset);
        let slice = self.slices.get_mut(&key)?;
        slice.used = self.clock;
        Some(&slice.bytes)
    }

    /// Changes the part with the byte at `offset`, if it is here. `change` returns which bytes of it changed.
    pub(super) fn change(&mut self, offset: u64, change: impl FnOnce(&mut [u8]) -> Range<usize>) -> bool {
        self.clock += 1;
        let key = self.slice_of(offset);
        let Some(slice) = self.slices.get_mut(&key) else {
            return false;
        };
        slice.used = self.clock;
        let bytes: &mut Vec<u8> = Arc::make_mut(&mut slice.bytes);
        let changed = change(bytes);
        slice.dirty = union(&slice.dirty, &changed);
        true
    }

    /// Takes a part that was read from `offset`. One that is here already stays.
    pub(super) fn insert(&mut self, offset: u64, bytes: Vec<u8>) {
        self.clock += 1;
        let used = self.clock;
        self.slices.entry(offset).or_insert_with(|| Slice {
            bytes: Arc::new(bytes),
            dirty: 0..0,
            used,
        });
    }

    /// Makes room for one more part. Returns whether there is: if not, all are to be written first.
    pub(super) fn make_room(&mut self) -> bool {
        if self.slices.len() < self.limit {
            return true;
        }
        // A quarter at once, so that it need not be done each time.
        let mut clean: Vec<_> = self
            .slices
            .iter()
            .filter(|(_, slice)| slice.dirty.is_empty())
            .map(|(offset, slice)| (slice.used, *offset))
            .collect();
        clean.sort_unstable();
        clean.truncate(self.limit.div_ceil(4));
        for (_, offset) in &clean {
            self.slices.remove(offset);
        }
        !clean.is_empty()
    }

    /// All that the file does not have yet. It counts as written from now on: see [`Cache::restore`].
    pub(super) fn take_dirty(&mut self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for (offset, slice) in &mut self.slices {
            if !slice.dirty.is_empty() {
                pending.push(Pending {
                    slice: *offset,
                    bytes: Arc::clone(&slice.bytes),
                    range: std::mem::take(&mut slice.dirty),
                });
            }
        }
        pending.sort_unstable_by_key(|pending| pending.slice);
        pending
    }

    /// Takes back what could not be written.
    pub(super) fn restore(&mut self, pending: Vec<Pending>) {
        for pending in pending {
            let slice = self.slices.entry(pending.slice).or_insert_with(|| Slice {
                bytes: pending.bytes,
                dirty: 0..0,
                used: 0,
            });
            slice.dirty = union(&slice.dirty, &pending.range);
        }
    }

    /// Forgets all parts in a range of the file, changed ones too.
    pub(super) fn forget(&mut self, range: &Range<u64>) {
        let first = self.slice_of(range.start);
        for offset in (first..range.end).step_by(self.slice_size as usize) {
            self.slices.remove(&offset);
        }
    }
}

fn union(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_written_once_and_again_if_that_failed() {
        let mut cache = Cache::new(512, 4096);
        cache.insert(1024, vec![0; 512]);
        assert!(!cache.change(0, |_| 0..1), "not here");
        assert!(cache.change(1030, |bytes| {
            bytes[6] = 7;
            6..7
        }));
        assert!(cache.change(1500, |_| 8..16));
        let pending = cache.take_dirty();
        assert_eq!((pending[0].offset(), pending[0].bytes().len()), (1030, 10));
        assert!(cache.take_dirty().is_empty());
        // A change while it is under way does not reach what is under way.
        assert!(cache.change(1030, |bytes| {
            bytes[6] = 8;
            6..7
        }));
        assert_eq!(pending[0].bytes()[0], 7);
        cache.restore(pending);
        let pending = cache.take_dirty();
        assert_eq!(
            (pending.len(), pending[0].bytes()[0], pending[0].bytes().len()),
            (1, 8, 10)
        );
    }

    #[test]
    fn room_is_made_by_what_is_unchanged_and_oldest() {
        let mut cache = Cache::new(512, 2048);
        for at in 0..4 {
            assert!(cache.make_room());
            cache.insert(at * 512, vec![0; 512]);
        }
        cache.change(0, |_| 0..8);
        cache.get(512);
        assert!(cache.make_room());
        assert!(cache.get(1024).is_none(), "the oldest that is unchanged");
        assert!(cache.get(0).is_some() && cache.get(512).is_some());
        for at in [1, 3] {
            cache.change(at * 512, |_| 0..8);
        }
        cache.insert(1024, vec![0; 512]);
        cache.change(1024, |_| 0..8);
        assert!(!cache.make_room(), "all are to be written first");
        cache.forget(&(512..1536));
        assert!(cache.get(512).is_none() && cache.get(1024).is_none() && cache.get(1536).is_some());
    }
}
