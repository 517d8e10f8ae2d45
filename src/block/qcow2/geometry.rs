//! How an image is divided: sizes and indices that follow from three numbers of its header.

/// Subclusters of a cluster in images with extended L2 entries.
const SUBCLUSTERS: u32 = 32;

/// What the layout of an image depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// A cluster is 2^this bytes: 9 to 21.
    pub cluster_bits: u32,
    /// A reference count is 2^this bits wide: 0 to 6.
    pub refcount_order: u32,
    /// L2 entries are 16 bytes long and tell of subclusters.
    pub extended: bool,
}

impl Geometry {
    /// Bytes of a cluster.
    #[must_use]
    pub fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an L2 entry.
    #[must_use]
    pub fn l2_entry_size(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries of an L2 table, which is a cluster.
    #[must_use]
    pub fn l2_entries(self) -> u64 {
        self.cluster_size() / self.l2_entry_size()
    }

    /// Guest bytes that one L2 table, which is one entry of the L1 table, stands for.
    #[must_use]
    pub fn l1_span(self) -> u64 {
        self.l2_entries() << self.cluster_bits
    }

    /// Which entry of the L1 table a guest offset belongs to.
    #[must_use]
    pub fn l1_index(self, guest: u64) -> u64 {
        guest / self.l1_span()
    }

    /// Where in its L2 table the entry of a guest offset lies, in bytes.
    #[must_use]
    pub fn l2_position(self, guest: u64) -> u64 {
        (guest >> self.cluster_bits) % self.l2_entries() * self.l2_entry_size()
    }

    /// How many subclusters a cluster has: 1 without extended entries.
    #[must_use]
    pub fn subclusters(self) -> u32 {
        if self.extended { SUBCLUSTERS } else { 1 }
    }

    /// Bytes of a subcluster.
    #[must_use]
    pub fn subcluster_size(self) -> u64 {
        self.cluster_size() / u64::from(self.subclusters())
    }

    /// All subclusters of a cluster, a bit each.
    #[must_use]
    pub fn all_subclusters(self) -> u32 {
        if self.extended { u32::MAX } else { 1 }
    }

    /// The subclusters that the bytes `from..to` of a cluster touch, a bit each. The range is within a cluster and not empty.
    #[must_use]
    pub fn subclusters_of(self, from: u64, to: u64) -> u32 {
        let size = self.subcluster_size();
        let (first, last) = (from / size, (to - 1) / size);
        (first..=last).fold(0, |mask, index| mask | 1 << index)
    }

    /// Bits of a reference count.
    #[must_use]
    pub fn refcount_bits(self) -> u32 {
        1 << self.refcount_order
    }

    /// The largest reference count.
    #[must_use]
    pub fn refcount_max(self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }

    /// Counts of a refcount block, which is a cluster.
    #[must_use]
    pub fn refblock_entries(self) -> u64 {
        (self.cluster_size() * 8) >> self.refcount_order
    }

    /// The start of the cluster that `offset` is in.
    #[must_use]
    pub fn cluster_start(self, offset: u64) -> u64 {
        offset & !(self.cluster_size() - 1)
    }

    /// Where in its cluster `offset` is.
    #[must_use]
    pub fn in_cluster(self, offset: u64) -> u64 {
        offset & (self.cluster_size() - 1)
    }

    /// How many clusters hold that many bytes.
    #[must_use]
    pub fn clusters(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    /// Whether an offset is where a cluster starts.
    #[must_use]
    pub fn is_aligned(self, offset: u64) -> bool {
        self.in_cluster(offset) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_the_header() {
        let default = Geometry {
            cluster_bits: 16,
            refcount_order: 4,
            extended: false,
        };
        assert_eq!(default.l2_entries(), 8192);
        assert_eq!(default.l1_span(), 512 << 20);
        assert_eq!(default.refblock_entries(), 32768);
        assert_eq!(default.refcount_max(), 65535);
        assert_eq!((default.subclusters(), default.subcluster_size()), (1, 65536));
        assert_eq!(default.subclusters_of(0, 65536), 1);
        let extended = Geometry {
            extended: true,
            refcount_order: 6,
            ..default
        };
        assert_eq!(extended.l2_entries(), 4096);
        assert_eq!(extended.subcluster_size(), 2048);
        assert_eq!(extended.subclusters_of(2047, 4097), 0b111);
        assert_eq!(extended.subclusters_of(0, 65536), u32::MAX);
        assert_eq!(extended.refcount_max(), u64::MAX);
        assert_eq!(extended.l2_position((512 << 20) + 65536), 16);
    }

    #[test]
    fn the_narrowest_count_is_a_bit() {
        let tiny = Geometry {
            cluster_bits: 9,
            refcount_order: 0,
            extended: false,
        };
        assert_eq!((tiny.refcount_max(), tiny.refblock_entries()), (1, 4096));
    }
}
