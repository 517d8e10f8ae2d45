//! Which pages were written, for any number of users at once.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};

use super::{AddressSpace, ListenerError, RamBlock};

/// Bytes that one bit stands for.
pub const PAGE_SIZE: usize = 4096;
const BITS: usize = u64::BITS as usize;

/// One user's bits: a page each.
#[derive(Debug)]
pub struct DirtyBitmap {
    words: Box<[AtomicU64]>,
    pages: usize,
}

impl DirtyBitmap {
    fn new(bytes: usize) -> Self {
        let pages = bytes.div_ceil(PAGE_SIZE);
        Self {
            words: (0..pages.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect(),
            pages,
        }
    }

    fn mark(&self, pages: Range<usize>) {
        for page in pages.start..pages.end.min(self.pages) {
            self.words[page / BITS].fetch_or(1 << (page % BITS), Ordering::Relaxed);
        }
    }

    fn is_marked(&self, page: usize) -> bool {
        let word = self.words.get(page / BITS);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (page % BITS) != 0)
    }

    /// Takes all bits: they are clear afterwards. Pages in ascending order.
    fn take(&self) -> Vec<usize> {
        let mut pages = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let mut bits = if word.load(Ordering::Relaxed) == 0 {
                continue;
            } else {
                word.swap(0, Ordering::AcqRel)
            };
            while bits != 0 {
                pages.push(index * BITS + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        pages
    }
}

/// Everybody who watches the pages of a block. What writes through the block's mapping marks them for each.
#[derive(Debug, Default)]
pub struct Watchers(ArcSwap<Vec<Arc<DirtyBitmap>>>);

impl Watchers {
    /// Marks pages for all, given as words of bits from page `first` on (a multiple of 64), as the kernel tells them.
    pub fn mark_words(&self, first: usize, words: &[u64]) {
        let watchers = self.0.load();
        for (at, word) in (first..).step_by(BITS).zip(words).filter(|(_, word)| **word != 0) {
            for bitmap in watchers.iter() {
                if at % BITS == 0 {
                    if let Some(target) = bitmap.words.get(at / BITS) {
                        target.fetch_or(*word, Ordering::Relaxed);
                    }
                } else {
                    let set = (0..BITS).filter(|bit| word & 1 << bit != 0);
                    set.for_each(|bit| bitmap.mark(at + bit..at + bit + 1));
                }
            }
        }
    }

    fn update(&self, change: impl Fn(&mut Vec<Arc<DirtyBitmap>>)) -> usize {
        // Changes are made with the topology locked, so none is lost.
        let mut list = self.0.load().as_ref().clone();
        change(&mut list);
        let left = list.len();
        self.0.store(Arc::new(list));
        left
    }

    /// Whether anybody watches.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.0.load().is_empty()
    }

    fn mark_bytes(&self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        let watchers = self.0.load();
        let pages = offset / PAGE_SIZE..(offset + len - 1) / PAGE_SIZE + 1;
        watchers.iter().for_each(|bitmap| bitmap.mark(pages.clone()));
    }
}

impl<'a> WithBitmapSlice<'a> for Watchers {
    type S = WatchersFrom<'a>;
}

impl Bitmap for Watchers {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.mark_bytes(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let watchers = self.0.load();
        watchers.iter().any(|bitmap| bitmap.is_marked(offset / PAGE_SIZE))
    }

    fn slice_at(&self, offset: usize) -> WatchersFrom<'_> {
        WatchersFrom {
            watchers: self,
            from: offset,
        }
    }
}

impl NewBitmap for Watchers {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}

/// The watchers of a block, as seen from an offset in it.
#[derive(Clone, Copy, Debug)]
pub struct WatchersFrom<'a> {
    watchers: &'a Watchers,
    from: usize,
}

impl<'a> WithBitmapSlice<'_> for WatchersFrom<'a> {
    type S = WatchersFrom<'a>;
}

impl BitmapSlice for WatchersFrom<'_> {}

impl Bitmap for WatchersFrom<'_> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.watchers.mark_bytes(self.from + offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.watchers.dirty_at(self.from + offset)
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self {
            watchers: self.watchers,
            from: self.from + offset,
        }
    }
}

/// One user's watch over the pages of a block, until it is dropped. No other user's bits are touched by it.
pub struct DirtyLog {
    space: Arc<AddressSpace>,
    block: Arc<RamBlock>,
    bitmap: Arc<DirtyBitmap>,
}

impl DirtyLog {
    /// Starts to watch. All pages count as clean.
    ///
    /// # Errors
    /// A listener cannot log what the guest writes.
    pub fn new(space: &Arc<AddressSpace>, block: &Arc<RamBlock>) -> Result<Self, ListenerError> {
        let bitmap = Arc::new(DirtyBitmap::new(block.len()));
        let log = Self {
            space: Arc::clone(space),
            block: Arc::clone(block),
            bitmap: Arc::clone(&bitmap),
        };
        space.with_listeners(|listeners| {
            let is_first = block.watchers().update(|list| list.push(Arc::clone(&bitmap))) == 1;
            match is_first {
                true => listeners
                    .iter()
                    .try_for_each(|listener| listener.log_writes(block, true)),
                false => Ok(()),
            }
        })?;
        Ok(log)
    }

    /// The pages written since the last call, by number, ascending.
    ///
    /// # Errors
    /// A listener does not tell what the guest wrote.
    pub fn take(&self) -> Result<Vec<usize>, ListenerError> {
        self.space.with_listeners(|listeners| {
            let mut listeners = listeners.iter();
            listeners.try_for_each(|listener| listener.fetch_writes(&self.block))
        })?;
        Ok(self.bitmap.take())
    }
}

impl Drop for DirtyLog {
    fn drop(&mut self) {
        let (block, bitmap) = (&self.block, &self.bitmap);
        let result = self.space.with_listeners(|listeners| {
            let left = block
                .watchers()
                .update(|list| list.retain(|other| !Arc::ptr_eq(other, bitmap)));
            match left {
                0 => listeners
                    .iter()
                    .try_for_each(|listener| listener.log_writes(block, false)),
                _ => Ok(()),
            }
        });
        if let Err(error) = result {
            tracing::warn!(block = block.id(), %error, "writes are still logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_marked_for_every_watcher_on_all_its_pages() {
        let watchers = Watchers::default();
        let bitmaps = [(); 2].map(|()| Arc::new(DirtyBitmap::new(100 * PAGE_SIZE)));
        watchers.mark_dirty(0, 1);
        for bitmap in &bitmaps {
            watchers.update(|list| list.push(Arc::clone(bitmap)));
        }
        watchers
            .slice_at(PAGE_SIZE)
            .slice_at(PAGE_SIZE)
            .mark_dirty(PAGE_SIZE - 1, 2);
        assert!(watchers.dirty_at(2 * PAGE_SIZE) && !watchers.dirty_at(0));
        assert_eq!(bitmaps[0].take(), [2, 3]);
        assert_eq!(bitmaps[0].take(), [0; 0]);
        assert_eq!(bitmaps[1].take(), [2, 3], "one user's look takes nothing from another");
    }

    #[test]
    fn bits_from_the_kernel_land_on_their_pages() {
        let watchers = Watchers::default();
        let bitmap = Arc::new(DirtyBitmap::new(200 * PAGE_SIZE));
        watchers.update(|list| list.push(Arc::clone(&bitmap)));
        watchers.mark_words(64, &[1 | 1 << 63, 2]);
        watchers.mark_words(3, &[1]);
        watchers.mark_words(199, &[!0]);
        assert_eq!(bitmap.take(), [3, 64, 127, 129, 199]);
    }
}
