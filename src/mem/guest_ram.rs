//! A guest's RAM at one moment, in the form that loaders and virtqueues take.

use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
    bitmap::{BS, Bitmap},
};

use super::{RamBlock, Watchers};

/// A piece of a block that shows as RAM.
#[derive(Clone, Debug)]
pub struct RamRange {
    block: Arc<RamBlock>,
    offset: u64,
    start: u64,
    last: u64,
}

impl RamRange {
    /// `block` from `offset` on shows from `start` to `last`.
    pub(super) fn new(block: &Arc<RamBlock>, offset: u64, start: u64, last: u64) -> Self {
        Self {
            block: Arc::clone(block),
            offset,
            start,
            last,
        }
    }
}

impl GuestMemoryRegion for RamRange {
    type B = Watchers;

    fn len(&self) -> GuestUsize {
        // RAM never spans all 64 bits.
        self.last - self.start + 1
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) -> BS<'_, Watchers> {
        self.block
            .watchers()
            .slice_at(usize::try_from(self.offset).unwrap_or(usize::MAX))
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, Watchers>>, GuestMemoryError> {
        let end = offset.0.checked_add(count as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        self.block.slice(self.offset + offset.0, count)
    }
}

impl GuestMemoryRegionBytes for RamRange {}

/// All RAM of a guest that can be written, by address.
#[derive(Clone, Debug, Default)]
pub struct GuestRam(Vec<RamRange>);

impl GuestRam {
    /// `ranges` are sorted and do not overlap.
    pub(super) fn new(ranges: Vec<RamRange>) -> Self {
        Self(ranges)
    }

    /// The blocks that `len` bytes at `addr` lie in: each with the offset and the number of bytes there. None if a part is no
    /// RAM.
    #[must_use]
    pub fn pieces(&self, addr: u64, len: u64) -> Option<Vec<(Arc<RamBlock>, u64, usize)>> {
        let mut pieces = Vec::with_capacity(1);
        let (mut at, mut left) = (addr, len);
        while left != 0 {
            let range = self.find_region(GuestAddress(at))?;
            let from = at - range.start;
            let here = left.min(range.len() - from);
            let bytes = usize::try_from(here).ok()?;
            pieces.push((Arc::clone(&range.block), range.offset + from, bytes));
            left -= here;
            at = if left == 0 { at } else { at.checked_add(here)? };
        }
        Some(pieces)
    }
}

impl GuestMemoryBackend for GuestRam {
    type R = RamRange;

    fn find_region(&self, addr: GuestAddress) -> Option<&RamRange> {
        let index = self.0.partition_point(|range| range.last < addr.0);
        self.0.get(index).filter(|range| range.start <= addr.0)
    }

    fn iter(&self) -> impl Iterator<Item = &RamRange> {
        self.0.iter()
    }
}
