//! Images that become longer or shorter.

use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::super::BlockError;
use super::Header;
use super::entry::{Cluster, OFFSET};
use super::header::{MAX_L1_BYTES, field};
use super::image::{Meta, Qcow2};
use super::locks::Free;
use super::map::Kind;
use super::tables::{self, Lookup};

/// Sizes are multiples of this.
const SECTOR: u64 = 512;

impl Qcow2 {
    /// Makes the guest's disk that long. What is added reads as zeroes.
    pub(super) async fn resize(&self, length: u64) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.check_usable()?;
        if length % SECTOR != 0 {
            return Err(BlockError::Invalid(format!(
                "The new size must be a multiple of {SECTOR}"
            )));
        }
        let (snapshots, bitmaps) = {
            let tables = self.tables();
            (tables.header.snapshots != 0, tables.header.bitmaps.is_some())
        };
        if snapshots && self.rules.version2 {
            let what = "Can't resize a v2 image which has snapshots";
            return Err(BlockError::Unsupported(what.into()));
        }
        if bitmaps {
            let what = "Cannot resize an image which has persistent bitmaps";
            return Err(BlockError::Unsupported(what.into()));
        }
        match length.cmp(&self.size()) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.grow(length).await,
            std::cmp::Ordering::Less => self.shrink(length).await,
        }
    }

    async fn grow(&self, length: u64) -> Result<(), BlockError> {
        if length > i64::MAX as u64 - self.geometry.l1_span() {
            return Err(Errno::EFBIG.into());
        }
        let old = self.size();
        {
            let mut meta = self.meta.lock().await;
            self.grow_l1(&mut meta, Header::l1_entries_for(self.geometry, length))
                .await?;
        }
        if self.rules.data_file && self.data.length() < length {
            self.data.truncate(length).await?;
        }
        // The guest sees zeroes behind its old end, and not what its last cluster has there, nor what a backing file has
        // that was longer all the time.
        let behind = self.backing.as_ref().map_or(0, |backing| backing.length());
        let shown = behind
            .max(old.next_multiple_of(self.geometry.cluster_size()))
            .min(length);
        if shown > old {
            self.size.store(shown, Ordering::Release);
            let hidden = self.hide(old, shown).await;
            self.size.store(old, Ordering::Release);
            hidden?;
        }
        self.write_size(length).await
    }

    /// Makes a range read as zeroes, in one way or another.
    async fn hide(&self, from: u64, to: u64) -> Result<(), BlockError> {
        match self.zero_guest(from, to - from, true).await {
            Err(BlockError::Unsupported(_)) => self.write_zero_data(from, to - from).await,
            result => result,
        }
    }

    async fn write_size(&self, length: u64) -> Result<(), BlockError> {
        self.write_field(field::SIZE, &length.to_be_bytes()).await?;
        self.file.flush().await?;
        self.tables().header.size = length;
        self.size.store(length, Ordering::Release);
        Ok(())
    }

    /// Makes a larger L1 table, elsewhere, which takes the place of the old one at once.
    async fn grow_l1(&self, meta: &mut Meta, entries: u64) -> Result<(), BlockError> {
        let (old_offset, old_entries) = {
            let tables = self.tables();
            (tables.l1.offset, tables.l1.entries.len() as u64)
        };
        if entries <= old_entries {
            return Ok(());
        }
        if entries * 8 > MAX_L1_BYTES {
            return Err(Errno::EFBIG.into());
        }
        // What the old one refers to is in the file, and so is what the new one will refer to.
        self.write_tables(meta).await?;
        let clusters = self.geometry.clusters(entries * 8);
        let offset = self.allocate_exactly(meta, clusters).await?;
        let size = clusters << self.geometry.cluster_bits;
        let switched = self.switch_l1(offset, size, entries).await;
        if let Err(error) = switched {
            self.abandon(offset..offset + size);
            return Err(error);
        }
        let mut tables = self.tables();
        tables.l1.entries.resize(entries as usize, 0);
        tables.l1.offset = offset;
        tables.header.l1 = offset;
        tables.header.l1_entries = entries as u32;
        tables.map.remove(old_offset, Kind::L1);
        tables.map.insert(offset..offset + size, Kind::L1);
        if old_entries != 0 {
            let old_size = (old_entries * 8).next_multiple_of(self.geometry.cluster_size());
            tables.frees.push(Free {
                range: old_offset..old_offset + old_size,
                discarded: false,
            });
        }
        Ok(())
    }

    async fn switch_l1(&self, offset: u64, size: u64, entries: u64) -> Result<(), BlockError> {
        let mut bytes = tables::encode(&self.tables().l1.entries);
        bytes.resize(size as usize, 0);
        self.write_refcounts().await?;
        self.write_table(offset, &bytes).await?;
        self.file.flush().await?;
        let mut value = (entries as u32).to_be_bytes().to_vec();
        value.extend_from_slice(&offset.to_be_bytes());
        self.write_field(field::L1, &value).await?;
        self.file.flush().await
    }

    async fn shrink(&self, length: u64) -> Result<(), BlockError> {
        let geometry = self.geometry;
        let old = self.size();
        let first_whole = length.next_multiple_of(geometry.cluster_size());
        // Behind the end are zeroes, should it become longer again.
        if length < first_whole.min(old) {
            self.hide(length, first_whole.min(old)).await?;
        }
        // Nobody begins anything behind the new end, and who is there already comes to an end first.
        self.size.store(length, Ordering::Release);
        let _alone = self.ranges.lock(first_whole..u64::MAX).await;
        let cut = self.cut_off(first_whole, old, length).await;
        if cut.is_err() {
            self.size.store(old, Ordering::Release);
        }
        cut
    }

    /// Lets go of all clusters from `from` to the old end.
    async fn cut_off(&self, from: u64, old: u64, length: u64) -> Result<(), BlockError> {
        let span = self.geometry.l1_span();
        let mut meta = self.meta.lock().await;
        let mut at = from;
        while at < old {
            let next = ((self.geometry.l1_index(at) + 1) * span).min(old);
            self.drop_range(&mut meta, at, next).await?;
            at = next;
        }
        self.write_tables(&mut meta).await?;
        self.write_size(length).await?;
        self.settle(&mut meta).await
    }

    /// Lets go of the clusters from `from` to `to`, which one L2 table has; `to` may be the end of the disk.
    async fn drop_range(&self, meta: &mut Meta, from: u64, to: u64) -> Result<(), BlockError> {
        let geometry = self.geometry;
        let index = geometry.l1_index(from);
        let table = self.tables().l1.get(index) & OFFSET;
        if table == 0 {
            return Ok(());
        }
        let whole = from == index * geometry.l1_span();
        if !whole {
            self.l2_for_write(meta, from).await?;
        }
        for guest in (from..to).step_by(geometry.cluster_size() as usize) {
            let old = self
                .look_up_with(meta, guest, |tables| tables.mapping(guest))
                .await?
                .cluster;
            if whole {
                self.tables().release(old, None, true);
                continue;
            }
            self.look_up_with(meta, guest, |tables| {
                let set = tables.set_mapping(guest, Cluster::default());
                if set == Lookup::Found(()) {
                    tables.release(old, None, true);
                }
                Ok(set)
            })
            .await?;
        }
        if whole {
            let mut tables = self.tables();
            let size = geometry.cluster_size();
            tables.l1.set(index, 0);
            tables.l2.forget(&(table..table + size));
            tables.map.remove(table, Kind::L2);
            tables.frees.push(Free {
                range: table..table + size,
                discarded: true,
            });
        }
        Ok(())
    }
}
