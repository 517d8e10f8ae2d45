//! An image that is open: what its parts share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{BlockError, IoBuffer, Node, Pool, WriteFlags};
use super::bitmap::BitmapEntry;
use super::entry::{EntryError, Rules};
use super::header::{field, incompatible};
use super::locks::RangeLocks;
use super::map::Kind;
use super::snapshot::Snapshot;
use super::tables::{Lookup, Tables};
use super::{Compression, Geometry};

/// A qcow2 image: a driver over the node that has the file.
pub struct Qcow2 {
    pub(super) file: Arc<Node>,
    /// Where guest data are: the file, or one of their own.
    pub(super) data: Arc<Node>,
    pub(super) backing: Option<Arc<Node>>,
    pub(super) geometry: Geometry,
    pub(super) rules: Rules,
    pub(super) compression: Compression,
    pub(super) read_only: bool,
    /// Refcounts are written late.
    pub(super) lazy: bool,
    /// The file grows when it is written to beyond its end, and has zeroes in between.
    pub(super) growable: bool,
    pub(super) size: AtomicU64,
    pub(super) tables: Mutex<Tables>,
    /// Held by who loads or writes tables, or allocates.
    pub(super) meta: tokio::sync::Mutex<Meta>,
    pub(super) ranges: RangeLocks,
    /// What was found to be corrupt stays as it is.
    pub(super) broken: AtomicBool,
    /// There are bitmaps that may have to be marked before something changes.
    pub(super) bitmaps_recorded: AtomicBool,
    /// Bitmaps in the file.
    pub(super) bitmaps: Mutex<Vec<BitmapEntry>>,
    /// Its header does not name all that it is made of.
    pub(super) is_described: bool,
    pub(super) snapshots: Vec<Snapshot>,
    /// Bytes of their table.
    pub(super) snapshot_bytes: u64,
    pub(super) pool: Arc<Pool>,
    /// The compressed cluster that was read last, and its data.
    pub(super) unpacked: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

/// The right to load and write tables.
#[derive(Debug)]
pub(super) struct Meta {
    /// The file says that refcounts may be too low.
    pub(super) marked_dirty: bool,
}

/// Which cache a part of a table is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    L2,
    Refblock,
}

impl Qcow2 {
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the guest's disk.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The request may change the image, and lies within it.
    pub(super) async fn begin_write(&self, offset: u64, bytes: u64) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.check_usable()?;
        self.check_within(offset, bytes)?;
        self.mark_bitmaps().await
    }

    /// The request lies within the disk as long as it is now.
    pub(super) fn check_within(&self, offset: u64, bytes: u64) -> Result<(), BlockError> {
        let length = self.size();
        match offset.checked_add(bytes) {
            Some(end) if end <= length => Ok(()),
            _ => Err(BlockError::OutOfRange { offset, bytes, length }),
        }
    }

    pub(super) fn check_usable(&self) -> Result<(), BlockError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(BlockError::Corrupt {
                what: "Image is corrupt; cannot be written to".into(),
                offset: None,
            });
        }
        Ok(())
    }

    /// Something that cannot be right was found. The image is marked, so that nobody writes to it any more.
    pub(super) async fn corrupt(&self, what: impl Into<String>, offset: Option<u64>) -> BlockError {
        let what = what.into();
        if !self.read_only && !self.broken.swap(true, Ordering::AcqRel) {
            tracing::error!(node = self.file.name(), "qcow2: Marking image as corrupt: {what}");
            let features = {
                let mut tables = self.tables();
                tables.header.incompatible |= incompatible::CORRUPT;
                (tables.header.version >= 3).then_some(tables.header.incompatible)
            };
            if let Some(features) = features {
                // There is nothing more to be done if that fails.
                let _ = self.write_field(field::INCOMPATIBLE, &features.to_be_bytes()).await;
                let _ = self.file.flush().await;
            }
        }
        BlockError::Corrupt { what, offset }
    }

    pub(super) async fn corrupt_entry(&self, error: EntryError, guest: u64) -> BlockError {
        self.corrupt(format!("{error} (guest offset: {guest:#x})"), None).await
    }

    /// Writes a field of the header.
    pub(super) async fn write_field(&self, at: u64, value: &[u8]) -> Result<(), BlockError> {
        self.file
            .write(at, IoBuffer::copy_of(value), WriteFlags::default())
            .await
    }

    /// Writes `incompatible_features`: some bits set, others cleared.
    pub(super) async fn change_incompatible(&self, set: u64, clear: u64) -> Result<(), BlockError> {
        let features = {
            let mut tables = self.tables();
            tables.header.incompatible = (tables.header.incompatible | set) & !clear;
            tables.header.incompatible
        };
        self.write_field(field::INCOMPATIBLE, &features.to_be_bytes()).await
    }

    /// Sees to it that a part of a table is here.
    pub(super) async fn load(&self, meta: &mut Meta, which: Which, offset: u64) -> Result<(), BlockError> {
        let (slice, size, end) = {
            let mut tables = self.tables();
            let end = tables.end << self.geometry.cluster_bits;
            let cache = tables.cache(which);
            if cache.get(offset).is_some() {
                return Ok(());
            }
            (cache.slice_of(offset), cache.slice_size(), end)
        };
        if slice >= end {
            let what = match which {
                Which::L2 => "L2 table",
                Which::Refblock => "Refcount block",
            };
            let what = format!("{what} offset {slice:#x} beyond the end of the file");
            return Err(self.corrupt(what, Some(slice)).await);
        }
        if !self.tables().cache(which).make_room() {
            self.write_tables(meta).await?;
            // What was written is unchanged now; what was not stays, and the cache is larger than it should be.
            self.tables().cache(which).make_room();
        }
        let buffer = IoBuffer::zeroed(size as usize);
        self.file.read(slice, buffer.clone()).await?;
        self.tables().cache(which).insert(slice, buffer.to_vec());
        Ok(())
    }

    /// Looks something up in the L2 tables, which are loaded as they are needed.
    pub(super) async fn look_up<T>(
        &self,
        guest: u64,
        look: impl Fn(&mut Tables) -> Result<Lookup<T>, EntryError>,
    ) -> Result<T, BlockError> {
        loop {
            let found = look(&mut self.tables());
            match found {
                Ok(Lookup::Found(found)) => return Ok(found),
                Ok(Lookup::Load(slice)) => {
                    let mut meta = self.meta.lock().await;
                    self.load(&mut meta, Which::L2, slice).await?;
                }
                Err(error) => return Err(self.corrupt_entry(error, guest).await),
            }
        }
    }

    /// As [`Qcow2::look_up`], for who may load already.
    pub(super) async fn look_up_with<T>(
        &self,
        meta: &mut Meta,
        guest: u64,
        look: impl Fn(&mut Tables) -> Result<Lookup<T>, EntryError>,
    ) -> Result<T, BlockError> {
        loop {
            let found = look(&mut self.tables());
            match found {
                Ok(Lookup::Found(found)) => return Ok(found),
                Ok(Lookup::Load(slice)) => self.load(meta, Which::L2, slice).await?,
                Err(error) => return Err(self.corrupt_entry(error, guest).await),
            }
        }
    }

    /// Nothing but the structure it is for may be at a place where a table is about to be written.
    pub(super) async fn check_table(&self, offset: u64, bytes: u64, kind: Kind) -> Result<(), BlockError> {
        if self.tables().may_hold(offset, bytes, kind) {
            return Ok(());
        }
        let what = format!("Preventing invalid write on metadata (overlaps with {kind})");
        Err(self.corrupt(what, Some(offset)).await)
    }

    /// Everything that was written is on the disk.
    pub(super) async fn barrier(&self) -> Result<(), BlockError> {
        if self.rules.data_file {
            self.data.flush().await?;
        }
        self.file.flush().await
    }
}

impl Tables {
    pub(super) fn cache(&mut self, which: Which) -> &mut super::Cache {
        match which {
            Which::L2 => &mut self.l2,
            Which::Refblock => &mut self.refblocks,
        }
    }
}
