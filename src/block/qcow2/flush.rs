//! How tables reach the file, in an order that leaves the image right wherever it ends.
//!
//! ```text
//! refcount blocks - barrier - refcount table - barrier - L2 tables - barrier - L1 table - barrier - refcounts go down
//! ```
//!
//! A reference is never in the file before the refcount that counts it, nor before the data it is for; a refcount goes down
//! when no table of the file has the reference any more. An image that was left in between has leaks at most. With lazy
//! refcounts the image is marked dirty instead, and refcounts are written at the end.

use std::collections::BTreeSet;

use super::super::{BlockError, IoBuffer, WriteFlags};
use super::cache::Pending;
use super::header::incompatible;
use super::image::{Meta, Qcow2, Which};
use super::locks::Free;
use super::map::Kind;
use super::tables::{Lookup, Offsets, Tables};

/// What is on its way to the file. What does not get there is to be written later.
struct Outgoing<'a> {
    image: &'a Qcow2,
    l2: Vec<Pending>,
    l1: BTreeSet<usize>,
    removed: Vec<Free>,
}

impl<'a> Outgoing<'a> {
    /// The references as they are now.
    fn take(image: &'a Qcow2) -> Self {
        let mut tables = image.tables();
        Self {
            image,
            l2: tables.l2.take_dirty(),
            l1: std::mem::take(&mut tables.l1.dirty),
            removed: tables.frees.take_removed(),
        }
    }

    fn has_references(&self) -> bool {
        !self.l2.is_empty() || !self.l1.is_empty()
    }

    /// All has been written: what references were removed of is not found by new requests.
    fn done(mut self) {
        self.l2.clear();
        self.l1.clear();
        let removed = std::mem::take(&mut self.removed);
        self.image.tables().frees.retire(removed);
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let mut tables = self.image.tables();
        tables.l2.restore(std::mem::take(&mut self.l2));
        tables.l1.dirty.append(&mut self.l1);
        let removed = std::mem::take(&mut self.removed);
        tables.frees.restore(removed);
    }
}

/// Refcounts on their way to the file. What does not get there is to be written later.
struct OutgoingRefcounts<'a> {
    image: &'a Qcow2,
    blocks: Vec<Pending>,
    table: BTreeSet<usize>,
}

impl<'a> OutgoingRefcounts<'a> {
    /// The refcounts as they are now.
    fn take(image: &'a Qcow2) -> Self {
        let mut tables = image.tables();
        Self {
            image,
            blocks: tables.refblocks.take_dirty(),
            table: std::mem::take(&mut tables.reftable.dirty),
        }
    }

    /// All has been written.
    fn done(mut self) {
        self.blocks.clear();
        self.table.clear();
    }
}

impl Drop for OutgoingRefcounts<'_> {
    fn drop(&mut self) {
        let mut tables = self.image.tables();
        tables.refblocks.restore(std::mem::take(&mut self.blocks));
        tables.reftable.dirty.append(&mut self.table);
    }
}

impl Qcow2 {
    /// What was written before is on the disk when it ends.
    pub(super) async fn flush_all(&self) -> Result<(), BlockError> {
        if self.read_only {
            return Ok(());
        }
        self.check_usable()?;
        let mut meta = self.meta.lock().await;
        let on_disk = self.write_tables(&mut meta).await?;
        self.settle(&mut meta).await?;
        drop(meta);
        match on_disk {
            true => Ok(()),
            false => self.barrier().await,
        }
    }

    /// Writes all references, and before them what they need. Returns whether all is on the disk as well.
    pub(super) async fn write_tables(&self, meta: &mut Meta) -> Result<bool, BlockError> {
        self.check_usable()?;
        let outgoing = Outgoing::take(self);
        // Refcounts that have grown after the references were looked at do no harm.
        if !meta.marked_dirty {
            self.write_refcounts().await?;
        }
        if !outgoing.has_references() {
            // What was removed is on the disk already: that changed a table, which was written.
            outgoing.done();
            return Ok(false);
        }
        self.barrier().await?;
        for pending in &outgoing.l2 {
            let (offset, bytes) = (pending.offset(), pending.bytes());
            self.check_table(offset, bytes.len() as u64, Kind::L2).await?;
            self.write_table(offset, bytes).await?;
        }
        if !outgoing.l1.is_empty() && !outgoing.l2.is_empty() {
            self.file.flush().await?;
        }
        self.write_sectors(&outgoing.l1, Kind::L1, |tables| &tables.l1).await?;
        self.file.flush().await?;
        outgoing.done();
        Ok(true)
    }

    /// Writes refcount blocks, then the refcount table, if it has changed.
    pub(super) async fn write_refcounts(&self) -> Result<(), BlockError> {
        let outgoing = OutgoingRefcounts::take(self);
        for pending in &outgoing.blocks {
            let (offset, bytes) = (pending.offset(), pending.bytes());
            self.check_table(offset, bytes.len() as u64, Kind::RefcountBlock)
                .await?;
            self.write_table(offset, bytes).await?;
        }
        if !outgoing.table.is_empty() {
            self.file.flush().await?;
            self.write_sectors(&outgoing.table, Kind::RefcountTable, |tables| &tables.reftable)
                .await?;
        }
        outgoing.done();
        Ok(())
    }

    async fn write_sectors(
        &self,
        sectors: &BTreeSet<usize>,
        kind: Kind,
        table: impl Fn(&Tables) -> &Offsets,
    ) -> Result<(), BlockError> {
        for sector in sectors {
            let (offset, bytes) = table(&self.tables()).sector(*sector);
            self.check_table(offset, bytes.len() as u64, kind).await?;
            self.write_table(offset, &bytes).await?;
        }
        Ok(())
    }

    pub(super) async fn write_table(&self, offset: u64, bytes: &[u8]) -> Result<(), BlockError> {
        let buffer = IoBuffer::copy_of(bytes);
        self.file.write(offset, buffer, WriteFlags::default()).await
    }

    /// Lets refcounts go down to which nothing in the file refers any more, and no request.
    pub(super) async fn settle(&self, meta: &mut Meta) -> Result<(), BlockError> {
        loop {
            let settled = self.tables().frees.next_settled();
            let Some(settled) = settled else {
                return Ok(());
            };
            for free in settled {
                self.settle_range(meta, &free).await?;
            }
        }
    }

    async fn settle_range(&self, meta: &mut Meta, free: &Free) -> Result<(), BlockError> {
        let bits = self.geometry.cluster_bits;
        let mut gone: Option<std::ops::Range<u64>> = None;
        for cluster in free.range.start >> bits..free.range.end >> bits {
            if self.count_down(meta, cluster).await? != 0 {
                continue;
            }
            match &mut gone {
                Some(range) if range.end == cluster << bits => range.end += 1 << bits,
                _ => {
                    self.give_back(free, gone.take()).await;
                    gone = Some(cluster << bits..(cluster + 1) << bits);
                }
            }
        }
        self.give_back(free, gone).await;
        Ok(())
    }

    /// Tells the file that a range of it is not needed, if the guest gave it back. Who is about to allocate it waits, as
    /// this is done by who may allocate.
    async fn give_back(&self, free: &Free, range: Option<std::ops::Range<u64>>) {
        if let Some(range) = range.filter(|_| free.discarded) {
            // What cannot be given back is kept.
            let _ = self.file.discard(range.start, range.end - range.start).await;
        }
    }

    /// Takes 1 from the refcount of a cluster. Returns what is left.
    async fn count_down(&self, meta: &mut Meta, cluster: u64) -> Result<u64, BlockError> {
        let offset = cluster << self.geometry.cluster_bits;
        let left = match self.count(meta, cluster).await? {
            0 => {
                let what = format!("refcount of cluster at {offset:#x} is 0, and it was in use");
                return Err(self.corrupt(what, Some(offset)).await);
            }
            count => count - 1,
        };
        self.set_count(meta, cluster, left).await?;
        if left == 0 {
            let mut tables = self.tables();
            tables.free_hint = tables.free_hint.min(cluster);
            if tables.map.kind_at(offset) == Some(Kind::L2) {
                tables.map.remove(offset, Kind::L2);
                tables.l2.forget(&(offset..offset + self.geometry.cluster_size()));
            }
        }
        Ok(left)
    }

    /// The refcount of a cluster; 0 if there is no block for it.
    pub(super) async fn count(&self, meta: &mut Meta, cluster: u64) -> Result<u64, BlockError> {
        loop {
            let found = self.tables().refcount(cluster);
            match found {
                Lookup::Found(count) => return Ok(count.unwrap_or(0)),
                Lookup::Load(slice) => self.load(meta, Which::Refblock, slice).await?,
            }
        }
    }

    /// Sets the refcount of a cluster, for which there is a block.
    pub(super) async fn set_count(&self, meta: &mut Meta, cluster: u64, count: u64) -> Result<(), BlockError> {
        loop {
            let done = self.tables().set_refcount(cluster, count);
            match done {
                Lookup::Found(()) => return Ok(()),
                Lookup::Load(slice) => self.load(meta, Which::Refblock, slice).await?,
            }
        }
    }

    /// Refcounts are written late from now on: the file says so first.
    pub(super) async fn mark_dirty(&self, meta: &mut Meta) -> Result<(), BlockError> {
        if !self.lazy || meta.marked_dirty {
            return Ok(());
        }
        self.change_incompatible(incompatible::DIRTY, 0).await?;
        self.file.flush().await?;
        meta.marked_dirty = true;
        Ok(())
    }

    /// Brings everything to the disk for the last time: refcounts too, which are right then.
    pub(super) async fn finish(&self) -> Result<(), BlockError> {
        if self.read_only || self.check_usable().is_err() {
            return Ok(());
        }
        let mut meta = self.meta.lock().await;
        self.write_tables(&mut meta).await?;
        self.barrier().await?;
        self.settle(&mut meta).await?;
        self.write_refcounts().await?;
        self.file.flush().await?;
        if meta.marked_dirty {
            self.change_incompatible(0, incompatible::DIRTY).await?;
            self.file.flush().await?;
            meta.marked_dirty = false;
        }
        Ok(())
    }
}
