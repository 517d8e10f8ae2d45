//! Entries of L1 and L2 tables.

use super::Geometry;

/// The table or cluster has no other reference and may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeroes.
const ZERO: u64 = 1;
/// Bits of an entry that are an offset in the file.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Compressed data are counted in these.
const SECTOR: u64 = 512;

/// An L2 entry as it lies in a table; `bitmap` is 0 without extended entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawEntry {
    /// The cluster descriptor.
    pub(super) descriptor: u64,
    /// What an extended entry says of subclusters.
    pub(super) bitmap: u64,
}

/// What a guest cluster is made of. Without extended entries a cluster is its own only subcluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The host cluster that belongs to it, whether or not data are there.
    pub(super) host: Option<u64>,
    /// Nobody else refers to the host cluster.
    pub(super) copied: bool,
    /// Subclusters whose data are in the host cluster.
    pub(super) allocated: u32,
    /// Subclusters that read as zeroes. All others, unless compressed, are those of the backing file.
    pub(super) zero: u32,
    /// Compressed data of the whole cluster, instead of all above.
    pub(super) compressed: Option<Compressed>,
}

/// Where the data of a compressed cluster are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compressed {
    /// First byte in the file.
    pub(super) host: u64,
    /// Bytes until the end of the last sector; fewer may be needed.
    pub(super) bytes: u64,
}

/// Why an entry cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    /// The host cluster does not start where a cluster does.
    #[error("cluster offset {0:#x} unaligned")]
    Unaligned(u64),
    /// Version 2 knows no such clusters.
    #[error("zero cluster entry found in pre-v3 image")]
    ZeroInVersion2,
    /// Clusters of a data file are not compressed.
    #[error("compressed cluster entry found in image with external data file")]
    CompressedInDataFile,
    /// In a data file, a cluster lies where the guest sees it.
    #[error("external data file host cluster offset {0:#x} does not match the guest's")]
    NotGuestOffset(u64),
    /// A subcluster cannot be both allocated and zero, and needs a host cluster for its data.
    #[error("invalid subcluster bitmap {0:#x}")]
    Subclusters(u64),
}

/// What decides how an entry is read, beyond the geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Sizes.
    pub(super) geometry: Geometry,
    /// Version 2 of the format.
    pub(super) version2: bool,
    /// Data are in a file of their own.
    pub(super) data_file: bool,
}

impl Cluster {
    /// Reads an entry, which is of the cluster at `guest`.
    ///
    /// # Errors
    /// It contradicts itself or the rules.
    pub(super) fn decode(raw: RawEntry, guest: u64, rules: Rules) -> Result<Self, EntryError> {
        let RawEntry { descriptor, bitmap } = raw;
        let geometry = rules.geometry;
        if descriptor & COMPRESSED != 0 {
            if rules.data_file {
                return Err(EntryError::CompressedInDataFile);
            }
            return Ok(Self {
                compressed: Some(Compressed::decode(descriptor, geometry)),
                ..Self::default()
            });
        }
        let offset = descriptor & OFFSET;
        let copied = descriptor & COPIED != 0;
        // In a data file, offset 0 is a place like any other, and the flag tells that it is meant.
        let host = (offset != 0 || (rules.data_file && copied)).then_some(offset);
        if !geometry.is_aligned(offset) {
            return Err(EntryError::Unaligned(offset));
        }
        if rules.data_file && host.is_some_and(|host| host != geometry.cluster_start(guest)) {
            return Err(EntryError::NotGuestOffset(offset));
        }
        let (allocated, zero) = if geometry.extended {
            let (allocated, zero) = (bitmap as u32, (bitmap >> 32) as u32);
            if allocated & zero != 0 || (allocated != 0 && host.is_none()) {
                return Err(EntryError::Subclusters(bitmap));
            }
            (allocated, zero)
        } else if descriptor & ZERO != 0 {
            if rules.version2 {
                return Err(EntryError::ZeroInVersion2);
            }
            (0, 1)
        } else {
            (u32::from(host.is_some()), 0)
        };
        Ok(Self {
            host,
            copied: copied && host.is_some(),
            allocated,
            zero,
            compressed: None,
        })
    }

    /// The entry for it. A compressed one is never written here: it only ever gives way to others.
    #[must_use]
    pub(super) fn encode(self, geometry: Geometry) -> RawEntry {
        let flag = if self.copied { COPIED } else { 0 };
        if geometry.extended {
            let descriptor = self.host.map_or(0, |host| host | flag);
            let bitmap = u64::from(self.zero) << 32 | u64::from(self.allocated);
            return RawEntry { descriptor, bitmap };
        }
        let descriptor = match self.host {
            Some(host) if self.zero != 0 => host | flag | ZERO,
            Some(host) if self.allocated != 0 => host | flag,
            _ if self.zero != 0 => ZERO,
            _ => 0,
        };
        RawEntry { descriptor, bitmap: 0 }
    }

    /// Nothing is known of it here: its data are the backing file's.
    #[must_use]
    pub(super) fn is_unallocated(self) -> bool {
        self.allocated == 0 && self.zero == 0 && self.compressed.is_none()
    }
}

impl Compressed {
    fn decode(descriptor: u64, geometry: Geometry) -> Self {
        let bits = 62 - (geometry.cluster_bits - 8);
        let host = descriptor & ((1 << bits) - 1);
        let sectors = ((descriptor & (COMPRESSED - 1)) >> bits) + 1;
        Self {
            host,
            bytes: sectors * SECTOR - host % SECTOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(extended: bool) -> Rules {
        Rules {
            geometry: Geometry {
                cluster_bits: 16,
                refcount_order: 4,
                extended,
            },
            version2: false,
            data_file: false,
        }
    }

    fn raw(descriptor: u64, bitmap: u64) -> RawEntry {
        RawEntry { descriptor, bitmap }
    }

    #[test]
    fn entries_are_read_and_written_back() {
        for (descriptor, host, copied, allocated, zero) in [
            (0, None, false, 0, 0),
            (1, None, false, 0, 1),
            (COPIED | 0x5_0000, Some(0x5_0000), true, 1, 0),
            (0x5_0000, Some(0x5_0000), false, 1, 0),
            (COPIED | 0x5_0001, Some(0x5_0000), true, 0, 1),
        ] {
            let cluster = Cluster::decode(raw(descriptor, 0), 0, rules(false)).unwrap();
            assert_eq!(
                (cluster.host, cluster.copied, cluster.allocated, cluster.zero),
                (host, copied, allocated, zero)
            );
            assert_eq!(cluster.encode(rules(false).geometry), raw(descriptor, 0));
        }
    }

    #[test]
    fn subclusters_are_told_apart() {
        let entry = raw(COPIED | 0x5_0000, 0x8000_0000_0000_0003);
        let cluster = Cluster::decode(entry, 0, rules(true)).unwrap();
        assert_eq!((cluster.allocated, cluster.zero), (3, 1 << 31));
        assert_eq!(cluster.encode(rules(true).geometry), entry);
        let both = Cluster::decode(raw(COPIED | 0x5_0000, 1 << 32 | 1), 0, rules(true));
        assert_eq!(both, Err(EntryError::Subclusters(1 << 32 | 1)));
        let nowhere = Cluster::decode(raw(0, 1), 0, rules(true));
        assert_eq!(nowhere, Err(EntryError::Subclusters(1)));
        let zero = Cluster::decode(raw(0, 1 << 32), 0, rules(true)).unwrap();
        assert_eq!((zero.host, zero.zero), (None, 1));
    }

    #[test]
    fn compressed_data_end_with_a_sector() {
        // 64 KiB clusters: 54 bits of offset, then the number of further sectors.
        let entry = raw(COMPRESSED | 2 << 54 | 0x5_0010, 0);
        let cluster = Cluster::decode(entry, 0, rules(false)).unwrap();
        let compressed = Compressed {
            host: 0x5_0010,
            bytes: 3 * 512 - 0x10,
        };
        assert_eq!(cluster.compressed, Some(compressed));
        assert_eq!(cluster.host, None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let unaligned = Cluster::decode(raw(COPIED | 0x5_0200, 0), 0, rules(false));
        assert_eq!(unaligned, Err(EntryError::Unaligned(0x5_0200)));
        let version2 = Rules {
            version2: true,
            ..rules(false)
        };
        assert_eq!(Cluster::decode(raw(1, 0), 0, version2), Err(EntryError::ZeroInVersion2));
        let external = Rules {
            data_file: true,
            ..rules(false)
        };
        let compressed = Cluster::decode(raw(COMPRESSED, 0), 0, external);
        assert_eq!(compressed, Err(EntryError::CompressedInDataFile));
        let elsewhere = Cluster::decode(raw(COPIED | 0x5_0000, 0), 0, external);
        assert_eq!(elsewhere, Err(EntryError::NotGuestOffset(0x5_0000)));
        let first = Cluster::decode(raw(COPIED, 0), 0, external).unwrap();
        assert_eq!((first.host, first.allocated), (Some(0), 1));
        assert_eq!(first.encode(external.geometry), raw(COPIED, 0));
    }
}
