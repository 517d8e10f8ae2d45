//! Allocation of clusters of the file, and the refcount structures that count them.

use std::ops::Range;

use nix::errno::Errno;

use super::super::{BlockError, IoBuffer, WriteFlags, ZeroFlags};
use super::entry::{COPIED, OFFSET};
use super::header::{MAX_REFTABLE_BYTES, field};
use super::image::{Meta, Qcow2, Which};
use super::locks::Free;
use super::map::Kind;
use super::tables::{self, Lookup, Tables};

/// How far beyond the end of the file clusters may be in use: what was being written when somebody stopped.
const MAX_LEAK: u64 = 64 << 20;
/// How many clusters are looked at before others may look at the tables.
const PATIENCE: u64 = 4096;
/// Offsets of the file fit into this many bits.
const MAX_OFFSET: u64 = 1 << 56;

/// What the search for free clusters found.
enum Search {
    /// These, which are now counted.
    Found(Range<u64>),
    /// The part of a refcount block at this place is needed.
    Load(u64),
    /// A cluster for which there is no refcount block.
    NoBlock(u64),
    /// Nothing yet.
    Again,
    /// A free cluster that is something's.
    Overlap(Kind, u64),
    /// Clusters far beyond the end of the file are in use.
    Beyond(u64),
}

/// Clusters in a row, and which refcount blocks they need.
struct Plan {
    /// First of those that were asked for.
    base: u64,
    /// Indices in the refcount table of blocks to be made; they lie behind those that were asked for.
    blocks: Vec<u64>,
    /// One behind the last.
    end: u64,
}

impl Qcow2 {
    /// Allocates clusters in a row, at least one and `most` at most. Returns their bytes, and whether nothing was ever there.
    pub(super) async fn allocate(&self, meta: &mut Meta, most: u64) -> Result<(Range<u64>, bool), BlockError> {
        self.check_usable()?;
        self.mark_dirty(meta).await?;
        let bits = self.geometry.cluster_bits;
        loop {
            let end = self.tables().end;
            let search = self.tables().search(most);
            match search {
                Search::Found(range) => {
                    let fresh = self.growable && range.start >= end;
                    let bytes = range.start << bits..range.end << bits;
                    if bytes.end > MAX_OFFSET {
                        return Err(Errno::EFBIG.into());
                    }
                    return Ok((bytes, fresh));
                }
                Search::Load(slice) => self.load(meta, Which::Refblock, slice).await?,
                Search::NoBlock(cluster) => self.add_block(meta, cluster).await?,
                Search::Again => {}
                Search::Overlap(kind, cluster) => {
                    let offset = cluster << bits;
                    let what = format!("Preventing invalid allocation of {kind} at offset {offset:#x}");
                    return Err(self.corrupt(what, Some(offset)).await);
                }
                Search::Beyond(cluster) => {
                    let what = "refcounts of clusters far beyond the end of the file are not 0";
                    return Err(self.corrupt(what, Some(cluster << bits)).await);
                }
            }
        }
    }

    /// Nobody refers to these clusters, which were just allocated.
    pub(super) fn abandon(&self, range: Range<u64>) {
        self.tables().frees.push(Free {
            range,
            discarded: false,
        });
    }

    /// Makes a refcount block for a cluster that has none. It is that cluster itself.
    async fn add_block(&self, meta: &mut Meta, cluster: u64) -> Result<(), BlockError> {
        let index = cluster / self.geometry.refblock_entries();
        if index >= self.tables().reftable.entries.len() as u64 {
            return self.grow_reftable(meta, index + 1).await;
        }
        let offset = cluster << self.geometry.cluster_bits;
        let entry = self.tables().reftable.get(index);
        if entry != 0 || offset > MAX_OFFSET {
            let what = format!("Refblock offset {entry:#x} unaligned (reftable index: {index:#x})");
            return Err(self.corrupt(what, Some(entry)).await);
        }
        let occupied = self.tables().map.find(&(offset..offset + self.geometry.cluster_size()));
        if let Some(kind) = occupied {
            let what = format!("Preventing invalid allocation of {kind} at offset {offset:#x}");
            return Err(self.corrupt(what, Some(offset)).await);
        }
        self.write_zero_clusters(offset, 1).await?;
        {
            let mut tables = self.tables();
            tables.reftable.set(index, offset);
            tables
                .map
                .insert(offset..offset + self.geometry.cluster_size(), Kind::RefcountBlock);
            tables.end = tables.end.max(cluster + 1);
        }
        self.set_count(meta, cluster, 1).await
    }

    /// Writes zeroes to clusters that nobody refers to yet.
    async fn write_zero_clusters(&self, offset: u64, clusters: u64) -> Result<(), BlockError> {
        let bytes = clusters << self.geometry.cluster_bits;
        self.file.write_zeroes(offset, bytes, ZeroFlags::default()).await
    }

    /// Allocates exactly so many clusters in a row. Returns where they start.
    pub(super) async fn allocate_exactly(&self, meta: &mut Meta, clusters: u64) -> Result<u64, BlockError> {
        if clusters == 1 {
            return Ok(self.allocate(meta, 1).await?.0.start);
        }
        self.mark_dirty(meta).await?;
        loop {
            let entries = self.tables().reftable.entries.clone();
            let plan = self.plan(meta, clusters, &entries).await?;
            let last = (plan.end - 1) / self.geometry.refblock_entries();
            if last >= entries.len() as u64 {
                self.grow_reftable(meta, last + 1).await?;
                continue;
            }
            self.make_blocks(&plan, clusters, |tables, index, offset| {
                tables.reftable.set(index, offset)
            })
            .await?;
            self.count_region(meta, &plan).await?;
            return Ok(plan.base << self.geometry.cluster_bits);
        }
    }

    /// Looks for room for clusters in a row and the refcount blocks that they need beyond those in `table`.
    async fn plan(&self, meta: &mut Meta, clusters: u64, table: &[u64]) -> Result<Plan, BlockError> {
        let per_block = self.geometry.refblock_entries();
        let mut base = {
            let tables = self.tables();
            if self.growable { tables.end } else { tables.free_hint }
        };
        let start = base;
        loop {
            let mut end = base + clusters;
            let mut blocks = Vec::new();
            let mut index = base / per_block;
            while index <= (end - 1) / per_block {
                if table.get(index as usize).is_none_or(|entry| *entry == 0) {
                    blocks.push(index);
                    end += 1;
                }
                index += 1;
            }
            if end > MAX_OFFSET >> self.geometry.cluster_bits {
                return Err(Errno::EFBIG.into());
            }
            if let Some(cluster) = self.last_in_use(meta, base..end).await? {
                base = cluster + 1;
                if self.growable && (base - start) << self.geometry.cluster_bits > MAX_LEAK {
                    let what = "refcounts of clusters far beyond the end of the file are not 0";
                    let offset = cluster << self.geometry.cluster_bits;
                    return Err(self.corrupt(what, Some(offset)).await);
                }
                continue;
            }
            let size = self.geometry.cluster_bits;
            let occupied = self.tables().map.find(&(base << size..end << size));
            if let Some(kind) = occupied {
                let what = format!("Preventing invalid allocation of {kind}");
                return Err(self.corrupt(what, Some(base << size)).await);
            }
            return Ok(Plan { base, blocks, end });
        }
    }

    /// The last cluster of a range whose refcount is not 0.
    async fn last_in_use(&self, meta: &mut Meta, range: Range<u64>) -> Result<Option<u64>, BlockError> {
        for cluster in range.rev() {
            if self.count(meta, cluster).await? != 0 {
                return Ok(Some(cluster));
            }
        }
        Ok(None)
    }

    /// Makes the refcount blocks of a plan, behind its `clusters`, and tells `enter` of each.
    async fn make_blocks(
        &self,
        plan: &Plan,
        clusters: u64,
        mut enter: impl FnMut(&mut Tables, u64, u64),
    ) -> Result<(), BlockError> {
        let bits = self.geometry.cluster_bits;
        let first = (plan.base + clusters) << bits;
        if !plan.blocks.is_empty() {
            self.write_zero_clusters(first, plan.blocks.len() as u64).await?;
        }
        let mut tables = self.tables();
        for (at, index) in plan.blocks.iter().enumerate() {
            let offset = first + ((at as u64) << bits);
            tables.map.insert(offset..offset + (1 << bits), Kind::RefcountBlock);
            enter(&mut tables, *index, offset);
        }
        tables.end = tables.end.max(plan.end);
        Ok(())
    }

    async fn count_region(&self, meta: &mut Meta, plan: &Plan) -> Result<(), BlockError> {
        for cluster in plan.base..plan.end {
            self.set_count(meta, cluster, 1).await?;
        }
        Ok(())
    }

    /// Makes a larger refcount table, elsewhere, which takes the place of the old one at once.
    async fn grow_reftable(&self, meta: &mut Meta, least: u64) -> Result<(), BlockError> {
        let (old_offset, mut entries) = {
            let tables = self.tables();
            (tables.reftable.offset, tables.reftable.entries.clone())
        };
        let old_clusters = self.geometry.clusters(entries.len() as u64 * 8);
        let mut clusters = self.geometry.clusters(least.max(entries.len() as u64 * 3 / 2) * 8);
        let plan = loop {
            let bytes = clusters << self.geometry.cluster_bits;
            if bytes > MAX_REFTABLE_BYTES {
                return Err(Errno::EFBIG.into());
            }
            entries.resize((bytes / 8) as usize, 0);
            let plan = self.plan(meta, clusters, &entries).await?;
            if (plan.end - 1) / self.geometry.refblock_entries() < entries.len() as u64 {
                break plan;
            }
            clusters += 1;
        };
        self.make_blocks(&plan, clusters, |_, index, offset| entries[index as usize] = offset)
            .await?;
        self.write_refcounts().await?;
        let offset = plan.base << self.geometry.cluster_bits;
        let before = std::mem::replace(&mut self.tables().reftable.entries, entries);
        let switched = self.switch_reftable(meta, &plan, offset, clusters).await;
        let mut tables = self.tables();
        if let Err(error) = switched {
            // The old table is still the file's. What the new one counts beyond it is not referred to.
            tables.reftable.entries = before;
            let size = self.geometry.cluster_size();
            for at in 0..plan.blocks.len() as u64 {
                let block = offset + (clusters + at) * size;
                tables.map.remove(block, Kind::RefcountBlock);
                tables.refblocks.forget(&(block..block + size));
            }
            return Err(error);
        }
        let size = self.geometry.cluster_bits;
        tables.header.reftable = offset;
        tables.header.reftable_clusters = clusters as u32;
        tables.reftable.offset = offset;
        tables.map.remove(old_offset, Kind::RefcountTable);
        tables
            .map
            .insert(offset..offset + (clusters << size), Kind::RefcountTable);
        tables.frees.push(Free {
            range: old_offset..old_offset + (old_clusters << size),
            discarded: false,
        });
        Ok(())
    }

    /// Writes a refcount table that is in memory already to its new place, and the header that refers to it.
    async fn switch_reftable(
        &self,
        meta: &mut Meta,
        plan: &Plan,
        offset: u64,
        clusters: u64,
    ) -> Result<(), BlockError> {
        self.count_region(meta, plan).await?;
        self.write_refcounts().await?;
        let bytes = tables::encode(&self.tables().reftable.entries);
        self.write_table(offset, &bytes).await?;
        self.file.flush().await?;
        let mut value = offset.to_be_bytes().to_vec();
        value.extend_from_slice(&(clusters as u32).to_be_bytes());
        self.write_field(field::REFTABLE, &value).await?;
        self.file.flush().await
    }

    /// Sees to it that the guest cluster has an L2 table that belongs to the active L1 table alone.
    pub(super) async fn l2_for_write(&self, meta: &mut Meta, guest: u64) -> Result<(), BlockError> {
        let index = self.geometry.l1_index(guest);
        let entry = self.tables().l1.get(index);
        let old = entry & OFFSET;
        if old != 0 && entry & COPIED != 0 {
            return Ok(());
        }
        let size = self.geometry.cluster_size();
        let (range, fresh) = self.allocate(meta, 1).await?;
        let filled = if old != 0 {
            self.copy_cluster(old, range.start).await
        } else if fresh {
            // A table is read as a whole: the file must reach to its end.
            self.write_zero_clusters(range.start, 1).await
        } else {
            self.write_table(range.start, &vec![0; size as usize]).await
        };
        if let Err(error) = filled {
            self.abandon(range);
            return Err(error);
        }
        let mut tables = self.tables();
        tables.l1.set(index, range.start | COPIED);
        tables.map.insert(range, Kind::L2);
        if old != 0 {
            tables.map.remove(old, Kind::L2);
            tables.frees.push(Free {
                range: old..old + size,
                discarded: false,
            });
        }
        Ok(())
    }

    async fn copy_cluster(&self, from: u64, to: u64) -> Result<(), BlockError> {
        let buffer = IoBuffer::zeroed(self.geometry.cluster_size() as usize);
        self.file.read(from, buffer.clone()).await?;
        self.file.write(to, buffer, WriteFlags::default()).await
    }
}

impl Tables {
    /// Looks for at most so many free clusters in a row, and counts them.
    fn search(&mut self, most: u64) -> Search {
        let mut at = self.free_hint;
        let leak = if self.growable {
            MAX_LEAK >> self.rules.geometry.cluster_bits
        } else {
            u64::MAX - self.end
        };
        let mut looked = 0;
        let mut start = None;
        while start.is_none_or(|start| at - start < most) {
            match (self.refcount(at), start) {
                (Lookup::Found(Some(0)), None) => start = Some(at),
                (Lookup::Found(Some(0)), Some(_)) => {}
                (_, Some(_)) => break,
                (Lookup::Found(None), None) => return Search::NoBlock(at),
                (Lookup::Load(slice), None) => return Search::Load(slice),
                (Lookup::Found(Some(_)), None) => {
                    self.free_hint = at + 1;
                    looked += 1;
                    if at >= self.end + leak {
                        return Search::Beyond(at);
                    }
                    if looked == PATIENCE {
                        return Search::Again;
                    }
                }
            }
            at += 1;
        }
        let range = start.unwrap_or(at)..at;
        let bits = self.rules.geometry.cluster_bits;
        if let Some(kind) = self.map.find(&(range.start << bits..range.end << bits)) {
            return Search::Overlap(kind, range.start);
        }
        for cluster in range.clone() {
            // They were just looked at.
            let _ = self.set_refcount(cluster, 1);
        }
        self.free_hint = at;
        self.end = self.end.max(at);
        Search::Found(range)
    }
}
