//! An image's tables as they are in memory, and what is looked up and changed there without waiting.

use std::collections::BTreeSet;

use super::entry::{COPIED, Cluster, Compressed, EntryError, OFFSET, RawEntry, Rules};
use super::locks::{Free, Frees};
use super::map::{Kind, MetadataMap};
use super::{Cache, Header, refcount};

/// Entries of a table of offsets that are written together: 512 bytes.
pub(super) const SECTOR_ENTRIES: usize = 64;

/// Bits of an entry of the refcount table that are an offset in the file.
pub(super) const REFBLOCK_OFFSET: u64 = !511;

/// A table of offsets that is in memory as a whole: the L1 table and the refcount table.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Where it is in the file.
    pub(super) offset: u64,
    /// What it has.
    pub(super) entries: Vec<u64>,
    /// Which sectors of it the file does not have yet.
    pub(super) dirty: BTreeSet<usize>,
}

impl Offsets {
    /// An entry; 0 beyond the end.
    #[must_use]
    pub(super) fn get(&self, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get(index))
            .map_or(0, |entry| *entry)
    }

    /// Changes an entry, which is there.
    pub(super) fn set(&mut self, index: u64, value: u64) {
        let index = index as usize;
        self.entries[index] = value;
        self.dirty.insert(index / SECTOR_ENTRIES);
    }

    /// A sector: where it goes, and its bytes.
    #[must_use]
    pub(super) fn sector(&self, sector: usize) -> (u64, Vec<u8>) {
        let start = sector * SECTOR_ENTRIES;
        let end = (start + SECTOR_ENTRIES).min(self.entries.len());
        (self.offset + start as u64 * 8, encode(&self.entries[start..end]))
    }
}

/// A table's bytes.
#[must_use]
pub(super) fn encode(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

/// A table's entries.
#[must_use]
pub(super) fn decode(bytes: &[u8]) -> Vec<u64> {
    let entries = bytes.chunks_exact(8);
    entries
        .map(|entry| entry.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        .collect()
}

/// All tables.
#[derive(Debug)]
pub(super) struct Tables {
    /// The header as the file has it.
    pub(super) header: Header,
    /// How entries are read.
    pub(super) rules: Rules,
    /// The active L1 table.
    pub(super) l1: Offsets,
    /// Parts of L2 tables.
    pub(super) l2: Cache,
    /// The refcount table.
    pub(super) reftable: Offsets,
    /// Parts of refcount blocks.
    pub(super) refblocks: Cache,
    /// Where the image's structures are. Empty if nothing is written to the image.
    pub(super) map: MetadataMap,
    /// No cluster before this one is free.
    pub(super) free_hint: u64,
    /// Clusters of the file; nothing that is used lies beyond.
    pub(super) end: u64,
    /// The file grows when it is written to beyond its end.
    pub(super) growable: bool,
    /// Clusters that are about to be free.
    pub(super) frees: Frees,
}

/// What is to be known before a request can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup<T> {
    /// This.
    Found(T),
    /// The part of a table at this place of the file is needed.
    Load(u64),
}

/// An L2 entry, and whether it may be changed where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// What the guest cluster is made of.
    pub(super) cluster: Cluster,
    /// The L2 table belongs to the active L1 table alone.
    pub(super) writable: bool,
}

/// Where a run of guest bytes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Data, from there on.
    Data(u64),
    /// Zeroes.
    Zero,
    /// The backing file.
    Backing,
    /// A compressed cluster.
    Compressed(Compressed),
}

impl Tables {
    /// What the guest cluster with the byte at `guest` is made of. Without an L2 table it is unallocated.
    ///
    /// # Errors
    /// What the tables say cannot be right.
    pub(super) fn mapping(&mut self, guest: u64) -> Result<Lookup<Mapped>, EntryError> {
        let geometry = self.rules.geometry;
        let l1 = self.l1.get(geometry.l1_index(guest));
        let table = l1 & OFFSET;
        if table == 0 {
            return Ok(Lookup::Found(Mapped {
                cluster: Cluster::default(),
                writable: false,
            }));
        }
        if !geometry.is_aligned(table) {
            return Err(EntryError::Unaligned(table));
        }
        let at = table + geometry.l2_position(guest);
        let slice = self.l2.slice_of(at);
        let Some(bytes) = self.l2.get(at) else {
            return Ok(Lookup::Load(slice));
        };
        let at = (at - slice) as usize;
        let raw = RawEntry {
            descriptor: u64_at(bytes, at),
            bitmap: if geometry.extended { u64_at(bytes, at + 8) } else { 0 },
        };
        let cluster = Cluster::decode(raw, guest, self.rules)?;
        let writable = l1 & COPIED != 0;
        Ok(Lookup::Found(Mapped { cluster, writable }))
    }

    /// Where the byte at `guest` comes from, and how many of the `most` bytes from there on come from there as well.
    ///
    /// # Errors
    /// What the tables say cannot be right.
    pub(super) fn source(&mut self, guest: u64, most: u64) -> Result<Lookup<(Source, u64)>, EntryError> {
        let geometry = self.rules.geometry;
        let mut run: Option<(Source, u64)> = None;
        let mut at = guest;
        while at < guest + most {
            if self.l1.get(geometry.l1_index(at)) & OFFSET == 0 {
                let end = (at / geometry.l1_span() + 1) * geometry.l1_span();
                if !extend(&mut run, Source::Backing, end - at) {
                    break;
                }
                at = end;
                continue;
            }
            let mapped = match self.mapping(at) {
                Ok(Lookup::Found(mapped)) => mapped,
                Ok(Lookup::Load(slice)) if run.is_none() => return Ok(Lookup::Load(slice)),
                Err(error) if run.is_none() => return Err(error),
                // What is known so far comes first.
                _ => break,
            };
            let size = geometry.subcluster_size();
            let in_cluster = geometry.in_cluster(at);
            let (source, end) = match mapped.cluster.compressed {
                Some(compressed) => (Source::Compressed(compressed), geometry.cluster_size()),
                None => {
                    let bit = 1 << (in_cluster / size);
                    let end = (in_cluster / size + 1) * size;
                    match mapped.cluster.host {
                        Some(host) if mapped.cluster.allocated & bit != 0 => (Source::Data(host + in_cluster), end),
                        _ if mapped.cluster.zero & bit != 0 => (Source::Zero, end),
                        _ => (Source::Backing, end),
                    }
                }
            };
            if !extend(&mut run, source, end - in_cluster) {
                break;
            }
            at += end - in_cluster;
        }
        let (source, bytes) = run.unwrap_or((Source::Backing, most));
        Ok(Lookup::Found((source, bytes.min(most))))
    }

    /// Where the byte at `guest` is to be written, if it and some of the `most` bytes from there on can be written in
    /// place; how many those are. None if something has to be allocated first.
    ///
    /// # Errors
    /// What the tables say cannot be right.
    pub(super) fn in_place(&mut self, guest: u64, most: u64) -> Result<Lookup<Option<(u64, u64)>>, EntryError> {
        let geometry = self.rules.geometry;
        let mut run: Option<(u64, u64)> = None;
        let mut at = guest;
        while at < guest + most {
            let mapped = match self.mapping(at) {
                Ok(Lookup::Found(mapped)) => mapped,
                Ok(Lookup::Load(slice)) if run.is_none() => return Ok(Lookup::Load(slice)),
                Err(error) if run.is_none() => return Err(error),
                _ => break,
            };
            let from = geometry.in_cluster(at);
            let to = geometry.cluster_size().min(from + (guest + most - at));
            let touched = geometry.subclusters_of(from, to);
            let Cluster {
                host: Some(host),
                copied: true,
                allocated,
                ..
            } = mapped.cluster
            else {
                break;
            };
            if !mapped.writable || allocated & touched != touched {
                break;
            }
            match &mut run {
                None => run = Some((host + from, to - from)),
                Some((start, bytes)) if *start + *bytes == host => *bytes += to - from,
                Some(_) => break,
            }
            at += to - from;
        }
        Ok(Lookup::Found(run))
    }

    /// Changes the entry of a guest cluster, if its L2 table, which is writable, is here; else says what is needed.
    #[must_use]
    pub(super) fn set_mapping(&mut self, guest: u64, cluster: Cluster) -> Lookup<()> {
        let geometry = self.rules.geometry;
        let table = self.l1.get(geometry.l1_index(guest)) & OFFSET;
        let at = table + geometry.l2_position(guest);
        let slice = self.l2.slice_of(at);
        let raw = cluster.encode(geometry);
        let changed = self.l2.change(at, |bytes| {
            let at = (at - slice) as usize;
            bytes[at..at + 8].copy_from_slice(&raw.descriptor.to_be_bytes());
            if geometry.extended {
                bytes[at + 8..at + 16].copy_from_slice(&raw.bitmap.to_be_bytes());
            }
            at..at + geometry.l2_entry_size() as usize
        });
        if changed {
            Lookup::Found(())
        } else {
            Lookup::Load(slice)
        }
    }

    /// What a guest cluster was made of is needed no more, except for the host cluster `kept`.
    pub(super) fn release(&mut self, old: Cluster, kept: Option<u64>, discarded: bool) {
        if self.rules.data_file {
            return;
        }
        let size = self.rules.geometry.cluster_size();
        let range = match (old.compressed, old.host) {
            (Some(data), _) => {
                let geometry = self.rules.geometry;
                let last = geometry.cluster_start(data.host + data.bytes - 1);
                geometry.cluster_start(data.host)..last + size
            }
            (None, Some(host)) if Some(host) != kept => host..host + size,
            _ => return,
        };
        self.frees.push(Free { range, discarded });
    }

    /// The refcount of a cluster of the file. None if there is no refcount block for it.
    pub(super) fn refcount(&mut self, cluster: u64) -> Lookup<Option<u64>> {
        let Some((at, slice, index)) = self.refcount_place(cluster) else {
            return Lookup::Found(None);
        };
        let order = self.rules.geometry.refcount_order;
        match self.refblocks.get(at) {
            Some(bytes) => Lookup::Found(Some(refcount::get(bytes, order, index))),
            None => Lookup::Load(slice),
        }
    }

    /// Sets the refcount of a cluster, for which there is a refcount block, if it is here; else says what is needed.
    #[must_use]
    pub(super) fn set_refcount(&mut self, cluster: u64, count: u64) -> Lookup<()> {
        let Some((at, slice, index)) = self.refcount_place(cluster) else {
            return Lookup::Found(());
        };
        let order = self.rules.geometry.refcount_order;
        if self
            .refblocks
            .change(at, |bytes| refcount::set(bytes, order, index, count))
        {
            Lookup::Found(())
        } else {
            Lookup::Load(slice)
        }
    }

    /// A byte of the refcount of a cluster, the part of a block that it is in, and the index within that part.
    pub(super) fn refcount_place(&self, cluster: u64) -> Option<(u64, u64, usize)> {
        let geometry = self.rules.geometry;
        let entries = geometry.refblock_entries();
        let block = self.reftable.get(cluster / entries) & REFBLOCK_OFFSET;
        if block == 0 {
            return None;
        }
        let bit = (cluster % entries) << geometry.refcount_order;
        let at = block + bit / 8;
        let slice = self.refblocks.slice_of(at);
        let first = ((slice - block) * 8) >> geometry.refcount_order;
        Some((at, slice, (cluster % entries - first) as usize))
    }

    /// Whether all of a range may be written as guest data: within the file, and no structure.
    #[must_use]
    pub(super) fn may_hold_data(&self, host: u64, bytes: u64) -> bool {
        let end = host.saturating_add(bytes);
        end <= self.end << self.rules.geometry.cluster_bits && self.map.find(&(host..end)).is_none()
    }

    /// Whether a part of a table may be written.
    #[must_use]
    pub(super) fn may_hold(&self, offset: u64, bytes: u64, kind: Kind) -> bool {
        self.map.is_within(&(offset..offset + bytes), kind)
    }
}

/// Adds bytes to a run, if they come from where it goes on. A compressed cluster is a run of its own.
fn extend(run: &mut Option<(Source, u64)>, source: Source, bytes: u64) -> bool {
    match (&mut *run, source) {
        (None, _) => *run = Some((source, bytes)),
        (Some((Source::Data(start), len)), Source::Data(host)) if *start + *len == host => *len += bytes,
        (Some((Source::Zero, len)), Source::Zero) | (Some((Source::Backing, len)), Source::Backing) => *len += bytes,
        _ => return false,
    }
    true
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
