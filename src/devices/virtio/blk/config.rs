//! What the driver sees of the disk: features and configuration (virtio 1.2, 5.2.3 and 5.2.4).

use super::Features;
use crate::block::Backend;

/// Bytes of a sector, whatever the blocks are.
pub(super) const SECTOR: u64 = 512;
/// Bytes of what names the disk.
pub(super) const SERIAL: usize = 20;
/// Where the configuration says whether writes are cached.
pub(super) const WCE: usize = 32;

const SEG_MAX: Features = Features::bit(2);
const GEOMETRY: Features = Features::bit(4);
const RO: Features = Features::bit(5);
const BLK_SIZE: Features = Features::bit(6);
pub(super) const FLUSH: Features = Features::bit(9);
const TOPOLOGY: Features = Features::bit(10);
pub(super) const CONFIG_WCE: Features = Features::bit(11);
const MQ: Features = Features::bit(12);
const DISCARD: Features = Features::bit(13);
const WRITE_ZEROES: Features = Features::bit(14);

/// Bytes of the configuration without what discards and zeroes are about.
const WITHOUT_DISCARD: usize = 36;
/// A disk that says nothing of its geometry has one that firmware knows how to use.
const HEADS: u64 = 16;
const SECTORS: u64 = 63;
const MAX_CYLINDERS: u64 = 16_383;

/// What a disk is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkConfig {
    /// Queues.
    pub queues: u16,
    /// Descriptors of each.
    pub queue_size: u16,
    /// What names the disk; its first 20 bytes count.
    pub serial: Vec<u8>,
    /// The driver may change whether writes are cached.
    pub config_wce: bool,
    /// Writes are cached after a reset.
    pub writeback: bool,
    /// Discards are offered.
    pub discard: bool,
    /// Zeroes are offered.
    pub write_zeroes: bool,
    /// Most sectors of a discard.
    pub max_discard: u32,
    /// Most sectors of zeroes.
    pub max_zeroes: u32,
    /// Bytes of a block: a power of two, a sector at least.
    pub logical_block: u32,
    /// Bytes of a block on the medium: a power of two, no less than a block.
    pub physical_block: u32,
    /// Bytes of the smallest request that goes well; 0 for unknown.
    pub min_io: u64,
    /// Bytes of the best request; 0 for unknown.
    pub opt_io: u64,
    /// Bytes that discards had better be aligned to.
    pub discard_granularity: u32,
    /// Buffers may have as many pieces as fit a queue.
    pub seg_max_adjust: bool,
    /// Cylinders, heads and sectors, if somebody gave them.
    pub geometry: Option<(u32, u32, u32)>,
}

impl BlkConfig {
    /// The feature bits on offer.
    pub(super) fn features(&self, backend: &Backend) -> Features {
        (SEG_MAX | GEOMETRY | BLK_SIZE | FLUSH | TOPOLOGY)
            .with(RO, !backend.is_writable())
            .with(CONFIG_WCE, self.config_wce)
            .with(MQ, self.queues > 1)
            .with(DISCARD, self.discard)
            .with(WRITE_ZEROES, self.write_zeroes)
    }

    /// The configuration now.
    pub(super) fn bytes(&self, backend: &Backend) -> Vec<u8> {
        let capacity = backend.node().length().div_ceil(SECTOR);
        let (cylinders, heads, sectors) = self.geometry(capacity);
        let block = u64::from(self.logical_block);
        let units = |bytes: u64| bytes / block;
        let pieces = match self.seg_max_adjust {
            true => u32::from(self.queue_size) - 2,
            false => 126,
        };
        let exponent = (self.physical_block / self.logical_block).trailing_zeros();
        let mut bytes = capacity.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(pieces.to_le_bytes());
        bytes.extend(low(cylinders).to_le_bytes());
        bytes.extend([low(heads) as u8, low(sectors) as u8]);
        bytes.extend(self.logical_block.to_le_bytes());
        bytes.extend([exponent as u8, 0]);
        bytes.extend(low(units(self.min_io)).to_le_bytes());
        bytes.extend(u32::try_from(units(self.opt_io)).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend([u8::from(backend.is_writeback()), 0]);
        bytes.extend(self.queues.to_le_bytes());
        debug_assert_eq!(bytes.len(), WITHOUT_DISCARD);
        if !self.discard && !self.write_zeroes {
            return bytes;
        }
        let discard = match self.discard {
            true => [self.max_discard, 1, self.discard_granularity / SECTOR as u32],
            false => [0; 3],
        };
        let zeroes = match self.write_zeroes {
            true => [self.max_zeroes, 1],
            false => [0; 2],
        };
        let numbers = discard.into_iter().chain(zeroes);
        bytes.extend(numbers.flat_map(u32::to_le_bytes));
        if self.write_zeroes {
            bytes.push(1);
        }
        bytes
    }

    fn geometry(&self, capacity: u64) -> (u64, u64, u64) {
        if let Some((cylinders, heads, sectors)) = self.geometry {
            return (cylinders.into(), heads.into(), sectors.into());
        }
        let cylinders = (capacity / (HEADS * SECTORS)).clamp(2, MAX_CYLINDERS);
        let per_block = u64::from(self.logical_block) / SECTOR;
        (cylinders, HEADS, SECTORS / per_block * per_block)
    }
}

/// The lower half of a word.
fn low(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
