//! Blocks of RAM: the host memory behind what a guest sees, by the names that a saved state knows.

use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::{
    Bytes, FileOffset, GuestMemoryError, MmapRegion, VolatileMemory, VolatileSlice, mmap::MmapRegionError,
};

use super::Watchers;
use super::aligned::{self, Reservation};
use super::dirty::WatchersFrom;

/// Host memory whose writes are seen by everybody who watches the block.
pub type RamMapping = MmapRegion<Watchers>;

/// A block of RAM or ROM. Where, and whether, a guest sees it is not its business.
#[derive(Debug)]
pub struct RamBlock {
    id: String,
    mapping: RamMapping,
    /// Where the mapping lies, if that is not its own. Goes after it.
    _place: Option<Reservation>,
}

impl RamBlock {
    /// The block `id`, whose bytes are those of `mapping`.
    #[must_use]
    pub fn new(id: impl Into<String>, mapping: RamMapping) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            mapping,
            _place: None,
        })
    }

    /// The block `id` with `len` bytes (not 0) of `file`, or of nothing, mapped at a multiple of `align`: a power of two and
    /// a multiple of the page size. `prot_and_flags` are mmap's.
    ///
    /// # Errors
    /// The host refuses the mapping.
    pub fn aligned(
        id: impl Into<String>,
        file: Option<FileOffset>,
        len: usize,
        prot_and_flags: (i32, i32),
        align: usize,
    ) -> Result<Arc<Self>, MmapRegionError> {
        let (protection, flags) = prot_and_flags;
        let (mapping, place) = aligned::map(file, len, protection, flags, align)?;
        Ok(Arc::new(Self {
            id: id.into(),
            mapping,
            _place: Some(place),
        }))
    }

    /// The block `id` with `len` zero bytes of its own; the host gives them pages when they are written.
    ///
    /// # Errors
    /// The host refuses the mapping.
    pub fn anonymous(id: impl Into<String>, len: usize) -> Result<Arc<Self>, MmapRegionError> {
        Ok(Self::new(id, RamMapping::new(len)?))
    }

    /// Its name in a saved state: `pc.ram`, `pc.bios`, or the id of a memory backend.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.mapping.size()
    }

    /// The memory itself.
    #[must_use]
    pub fn mapping(&self) -> &RamMapping {
        &self.mapping
    }

    /// Who watches its pages.
    #[must_use]
    pub fn watchers(&self) -> &Watchers {
        self.mapping.bitmap()
    }

    /// Reads from `offset` on.
    ///
    /// # Errors
    /// The range is not within the block.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), GuestMemoryError> {
        let slice = self.slice(offset, data.len())?;
        slice.read_slice(data, 0).map_err(Into::into)
    }

    /// Writes from `offset` on.
    ///
    /// # Errors
    /// The range is not within the block.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), GuestMemoryError> {
        let slice = self.slice(offset, data.len())?;
        slice.write_slice(data, 0).map_err(Into::into)
    }

    /// `len` bytes from `offset` on, to be read and written while a guest may do so as well.
    ///
    /// # Errors
    /// The range is not within the block.
    pub fn slice(&self, offset: u64, len: usize) -> Result<VolatileSlice<'_, WatchersFrom<'_>>, GuestMemoryError> {
        let start = usize::try_from(offset).map_err(|_| GuestMemoryError::InvalidBackendAddress)?;
        self.mapping.get_slice(start, len).map_err(Into::into)
    }
}

/// There is a block of this name already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RAM block \"{id}\" already registered")]
pub struct BlockExists {
    /// The name.
    pub id: String,
}

/// All blocks of a machine, whether a guest sees them now or not.
#[derive(Debug, Default)]
pub struct RamBlocks(Mutex<Vec<Arc<RamBlock>>>);

impl RamBlocks {
    /// Adds a block.
    ///
    /// # Errors
    /// There is one of this name already.
    pub fn add(&self, block: &Arc<RamBlock>) -> Result<(), BlockExists> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.iter().any(|other| other.id == block.id) {
            return Err(BlockExists { id: block.id.clone() });
        }
        blocks.push(Arc::clone(block));
        // The largest first; those of one size in the order they were made. The sort is stable.
        blocks.sort_by_key(|block| std::cmp::Reverse(block.len()));
        Ok(())
    }

    /// Takes a block out.
    pub fn remove(&self, block: &Arc<RamBlock>) {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|other| !Arc::ptr_eq(other, block));
    }

    /// The blocks in the order in which a saved state lists them.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<RamBlock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_listed_by_size_then_age() {
        let blocks = RamBlocks::default();
        let make = |id: &str, pages: usize| RamBlock::anonymous(id, pages * 4096).unwrap();
        for (id, pages) in [("pc.bios", 64), ("pc.ram", 4096), ("pc.rom", 32), ("other", 64)] {
            blocks.add(&make(id, pages)).unwrap();
        }
        let list = blocks.list();
        let ids: Vec<_> = list.iter().map(|block| block.id()).collect();
        assert_eq!(ids, ["pc.ram", "pc.bios", "other", "pc.rom"]);
        let error = blocks.add(&make("pc.ram", 1)).unwrap_err();
        assert_eq!(error.to_string(), "RAM block \"pc.ram\" already registered");
        blocks.remove(&list[0]);
        blocks.add(&make("pc.ram", 1)).unwrap();
    }

    #[test]
    fn accesses_stay_within_the_block() {
        let block = RamBlock::anonymous("b", 4096).unwrap();
        block.write(4092, &[1, 2, 3, 4]).unwrap();
        let mut data = [0; 2];
        block.read(4094, &mut data).unwrap();
        assert_eq!(data, [3, 4]);
        assert!(block.write(4093, &[0; 4]).is_err());
        assert!(block.read(u64::MAX, &mut data).is_err());
    }
}
