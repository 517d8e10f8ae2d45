//! Where an image's own structures are, so that nothing is written over them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// What a part of the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first cluster.
    Header,
    /// The active L1 table.
    L1,
    /// An L2 table that the active L1 table refers to.
    L2,
    /// The refcount table.
    RefcountTable,
    /// A refcount block.
    RefcountBlock,
    /// The table of snapshots.
    SnapshotTable,
    /// The L1 table of a snapshot.
    SnapshotL1,
    /// The directory of bitmaps.
    BitmapDirectory,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "qcow2_header",
            Self::L1 => "active L1 table",
            Self::L2 => "active L2 table",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::SnapshotTable => "snapshot table",
            Self::SnapshotL1 => "inactive L1 table",
            Self::BitmapDirectory => "bitmap directory",
        })
    }
}

/// Ranges of the file that are structures.
#[derive(Debug, Default)]
pub(super) struct MetadataMap {
    /// Start, end and kind. They do not overlap.
    ranges: BTreeMap<u64, (u64, Kind)>,
    /// Starts of those that something else claims as well: nothing may be written there.
    doubled: BTreeSet<u64>,
}

impl MetadataMap {
    /// Adds a structure. Returns what is there already, if anything is; both are not to be written to from then on.
    pub(super) fn insert(&mut self, range: Range<u64>, kind: Kind) -> Option<Kind> {
        if range.is_empty() {
            return None;
        }
        let Some((start, other)) = self.first_in(&range) else {
            self.ranges.insert(range.start, (range.end, kind));
            return None;
        };
        self.doubled.insert(start);
        Some(other)
    }

    /// Forgets the structure of that kind that starts there, if one does.
    pub(super) fn remove(&mut self, start: u64, kind: Kind) {
        if self.kind_at(start) == Some(kind) {
            self.ranges.remove(&start);
            self.doubled.remove(&start);
        }
    }

    /// What of a range is a structure, if anything is.
    #[must_use]
    pub(super) fn find(&self, range: &Range<u64>) -> Option<Kind> {
        self.first_in(range).map(|(_, kind)| kind)
    }

    /// Whether a range is within one structure of that kind, which nothing else claims.
    #[must_use]
    pub(super) fn is_within(&self, range: &Range<u64>, kind: Kind) -> bool {
        let Some((start, (end, found))) = self.ranges.range(..=range.start).next_back() else {
            return false;
        };
        *found == kind && range.end <= *end && !self.doubled.contains(start)
    }

    /// The kind of the structure that starts there.
    #[must_use]
    pub(super) fn kind_at(&self, start: u64) -> Option<Kind> {
        self.ranges.get(&start).map(|(_, kind)| *kind)
    }

    fn first_in(&self, range: &Range<u64>) -> Option<(u64, Kind)> {
        let before = self.ranges.range(..range.end).next_back()?;
        let (start, (end, kind)) = before;
        (*end > range.start).then_some((*start, *kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_found_and_nothing_is_written_there() {
        let mut map = MetadataMap::default();
        assert_eq!(map.insert(0..512, Kind::Header), None);
        assert_eq!(map.insert(1024..2048, Kind::L1), None);
        assert_eq!(map.insert(5..5, Kind::SnapshotTable), None, "nothing is nowhere");
        assert_eq!(map.find(&(512..1024)), None);
        assert_eq!(map.find(&(512..1025)), Some(Kind::L1));
        assert_eq!(map.find(&(0..4096)), Some(Kind::L1));
        assert_eq!(map.find(&(100..101)), Some(Kind::Header));
        assert!(map.is_within(&(1500..1600), Kind::L1));
        assert!(!map.is_within(&(1500..1600), Kind::L2));
        assert!(!map.is_within(&(2000..2049), Kind::L1));
        assert_eq!(map.insert(1536..2560, Kind::L2), Some(Kind::L1));
        assert!(!map.is_within(&(1500..1600), Kind::L1), "claimed twice");
        map.remove(1024, Kind::L1);
        map.remove(0, Kind::L2);
        assert_eq!((map.kind_at(1024), map.kind_at(0)), (None, Some(Kind::Header)));
    }
}
