//! Opening an image.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use super::super::{IoBuffer, Node, Pool};
use super::entry::{OFFSET, Rules};
use super::header::{self, LAZY_REFCOUNTS, autoclear, field};
use super::image::{Meta, Qcow2};
use super::locks::{Frees, RangeLocks};
use super::map::{Kind, MetadataMap};
use super::snapshot::{self, MAX_TABLE, Parsed, Snapshot};
use super::tables::{self, Offsets, REFBLOCK_OFFSET, Tables};
use super::{Cache, Header, ImageError, bitmap};

/// Largest part of a table that is loaded at once.
const SLICE: u64 = 16 << 10;
/// What is kept of L2 tables and of refcount blocks if nobody says otherwise.
const L2_CACHE: u64 = 32 << 20;
const REFCOUNT_CACHE: u64 = 1 << 20;
/// How much of the table of snapshots is read first.
const SNAPSHOT_READ: u64 = 64 << 10;

/// What an image is opened with.
#[derive(Clone)]
pub struct OpenOptions {
    /// The image's file.
    pub file: Arc<Node>,
    /// Where guest data are, for images that say so.
    pub data_file: Option<Arc<Node>>,
    /// What the guest sees where the image has nothing.
    pub backing: Option<Arc<Node>>,
    /// Nothing is written to the image.
    pub read_only: bool,
    /// Whether refcounts are written late; the image says if nobody else does.
    pub lazy_refcounts: Option<bool>,
    /// Bytes of L2 tables that are kept.
    pub l2_cache_size: Option<u64>,
    /// Bytes of refcount blocks that are kept.
    pub refcount_cache_size: Option<u64>,
    /// The names in its header are not all that describes it: other nodes were asked for.
    pub is_described: bool,
    /// Threads that decompress.
    pub pool: Arc<Pool>,
}

impl OpenOptions {
    /// The image in a file, with what its header says.
    #[must_use]
    pub fn new(file: Arc<Node>, pool: Arc<Pool>) -> Self {
        Self {
            file,
            data_file: None,
            backing: None,
            read_only: false,
            lazy_refcounts: None,
            l2_cache_size: None,
            refcount_cache_size: None,
            is_described: false,
            pool,
        }
    }
}

/// Whether a file that begins with these bytes is meant to be an image of qcow2.
#[must_use]
pub fn is_qcow2(start: &[u8]) -> bool {
    start.starts_with(&header::MAGIC.to_be_bytes())
}

/// Reads the header of an image: whoever opens it learns from that which other files belong to it.
///
/// # Errors
/// It is no image, one that is not supported, or it cannot be read.
pub async fn read_header(file: &Node) -> Result<Header, ImageError> {
    let length = file.length();
    let start = read(file, 0, length.min(512)).await?;
    let first = read(file, 0, length.min(Header::length(&start) as u64)).await?;
    Header::parse(&first)
}

impl Qcow2 {
    /// Opens an image. One that is dirty is repaired, unless nothing is to be written to it.
    ///
    /// # Errors
    /// It is no image, one that is not supported, its structures cannot be right, or it cannot be read.
    pub async fn open(options: OpenOptions) -> Result<Self, ImageError> {
        let header = read_header(&options.file).await?;
        if header.is_corrupt() && !options.read_only {
            return Err(ImageError::MarkedCorrupt);
        }
        let data = match (&options.data_file, header.has_data_file()) {
            (Some(data), true) => Arc::clone(data),
            (None, false) => Arc::clone(&options.file),
            (None, true) => return Err(ImageError::DataFileMissing),
            (Some(_), false) => return Err(ImageError::DataFileUnexpected),
        };
        let repair = header.is_dirty() && !options.read_only;
        let image = Self::assemble(header, data, options).await?;
        if !image.read_only {
            image.clear_unknown_autoclear().await?;
        }
        if repair {
            image.repair().await?;
        }
        Ok(image)
    }

    async fn assemble(header: Header, data: Arc<Node>, options: OpenOptions) -> Result<Self, ImageError> {
        let file = options.file;
        let geometry = header.geometry;
        let end = geometry.clusters(file.length());
        let table = |offset: u64, entries: u64, name: &'static str| {
            let file = &file;
            async move {
                if entries != 0 && offset + entries * 8 > end << geometry.cluster_bits {
                    return Err(ImageError::corrupt(
                        format!("{name} is beyond the end of the file"),
                        offset,
                    ));
                }
                let entries = tables::decode(&read(file, offset, entries * 8).await?);
                Ok(Offsets {
                    offset,
                    entries,
                    dirty: BTreeSet::new(),
                })
            }
        };
        let l1 = table(header.l1, u64::from(header.l1_entries), "Active L1 table").await?;
        let snapshots = read_snapshots(&file, &header).await?;
        let mut map = MetadataMap::default();
        let mut reftable = Offsets::default();
        if !options.read_only {
            let entries = u64::from(header.reftable_clusters) << geometry.cluster_bits >> 3;
            reftable = table(header.reftable, entries, "Reference count table").await?;
            map = map_of(&header, &l1, &reftable, &snapshots, end)?;
        }
        let bitmaps = match header.bitmaps {
            Some(extension) => bitmap::read_directory(&file, extension).await?,
            None => Vec::new(),
        };
        let rules = Rules {
            geometry,
            version2: header.version == 2,
            data_file: header.has_data_file(),
        };
        let growable = grows(&file);
        let slice = SLICE.min(geometry.cluster_size());
        let tables = Tables {
            rules,
            l1,
            l2: Cache::new(slice, options.l2_cache_size.unwrap_or(L2_CACHE)),
            reftable,
            refblocks: Cache::new(slice, options.refcount_cache_size.unwrap_or(REFCOUNT_CACHE)),
            map,
            free_hint: 0,
            end,
            growable,
            frees: Frees::default(),
            header: header.clone(),
        };
        Ok(Self {
            file,
            data,
            backing: options.backing,
            geometry,
            rules,
            compression: header.compression,
            read_only: options.read_only,
            lazy: header.version >= 3
                && options
                    .lazy_refcounts
                    .unwrap_or(header.compatible & LAZY_REFCOUNTS != 0),
            growable,
            size: AtomicU64::new(header.size),
            tables: Mutex::new(tables),
            meta: tokio::sync::Mutex::new(Meta { marked_dirty: false }),
            ranges: RangeLocks::default(),
            broken: AtomicBool::new(false),
            bitmaps_recorded: AtomicBool::new(header.bitmaps.is_some()),
            bitmaps: Mutex::new(bitmaps),
            is_described: options.is_described,
            snapshots: snapshots.0,
            snapshot_bytes: snapshots.1,
            pool: options.pool,
            unpacked: Mutex::new(None),
        })
    }

    /// Who writes to an image clears the features that he does not keep up.
    async fn clear_unknown_autoclear(&self) -> Result<(), ImageError> {
        let known = autoclear::BITMAPS | autoclear::RAW_DATA_FILE;
        let features = {
            let mut tables = self.tables();
            if tables.header.autoclear & !known == 0 {
                return Ok(());
            }
            tables.header.autoclear &= known;
            tables.header.autoclear
        };
        self.write_field(field::AUTOCLEAR, &features.to_be_bytes()).await?;
        Ok(self.file.flush().await?)
    }
}

/// Whether a file becomes longer when it is written to beyond its end; a device of the host does not.
fn grows(file: &Node) -> bool {
    let children = file.driver().children();
    let below = children.iter().find(|(role, _)| *role == "file");
    file.driver().name() != "host_device" && below.is_none_or(|(_, below)| grows(below))
}

pub(super) async fn read(file: &Node, offset: u64, bytes: u64) -> Result<Vec<u8>, ImageError> {
    let buffer = IoBuffer::zeroed(bytes as usize);
    file.read(offset, buffer.clone()).await?;
    Ok(buffer.to_vec())
}

/// The snapshots, and how many bytes their table has.
async fn read_snapshots(file: &Node, header: &Header) -> Result<(Vec<Snapshot>, u64), ImageError> {
    let room = file.length().saturating_sub(header.snapshot_table).min(MAX_TABLE);
    let mut bytes = SNAPSHOT_READ;
    loop {
        let now = bytes.min(room);
        let table = read(file, header.snapshot_table, if header.snapshots == 0 { 0 } else { now }).await?;
        match snapshot::parse(&table, header.snapshot_table, header.snapshots, header.geometry)? {
            Parsed::Whole(snapshots, length) => return Ok((snapshots, length)),
            Parsed::Partial if now == room => {
                let what = "Snapshot table is beyond the end of the file";
                return Err(ImageError::corrupt(what, header.snapshot_table));
            }
            Parsed::Partial => bytes *= 8,
        }
    }
}

/// Where the structures of an image are.
fn map_of(
    header: &Header,
    l1: &Offsets,
    reftable: &Offsets,
    (snapshots, snapshot_bytes): &(Vec<Snapshot>, u64),
    end: u64,
) -> Result<MetadataMap, ImageError> {
    let size = header.geometry.cluster_size();
    let mut map = MetadataMap::default();
    let mut add = |offset: u64, bytes: u64, kind: Kind| {
        let range: Range<u64> = offset..offset + bytes.next_multiple_of(size);
        match map.insert(range, kind) {
            Some(other) => {
                let what = format!("{kind} at offset {offset:#x} overlaps with {other}");
                Err(ImageError::corrupt(what, offset))
            }
            None => Ok(()),
        }
    };
    add(0, size, Kind::Header)?;
    add(header.l1, l1.entries.len() as u64 * 8, Kind::L1)?;
    add(header.reftable, reftable.entries.len() as u64 * 8, Kind::RefcountTable)?;
    if header.snapshots != 0 {
        add(header.snapshot_table, *snapshot_bytes, Kind::SnapshotTable)?;
    }
    for snapshot in snapshots {
        add(snapshot.l1, u64::from(snapshot.l1_entries) * 8, Kind::SnapshotL1)?;
    }
    if let Some(bitmaps) = header.bitmaps {
        add(bitmaps.directory, bitmaps.directory_size, Kind::BitmapDirectory)?;
    }
    for (entries, mask, kind, name, index) in [
        (
            &reftable.entries,
            REFBLOCK_OFFSET,
            Kind::RefcountBlock,
            "Refblock",
            "reftable",
        ),
        (&l1.entries, OFFSET, Kind::L2, "L2 table", "L1"),
    ] {
        for (at, entry) in entries.iter().enumerate() {
            let offset = entry & mask;
            if offset == 0 {
                continue;
            }
            if !header.geometry.is_aligned(offset) {
                let what = format!("{name} offset {offset:#x} unaligned ({index} index: {at:#x})");
                return Err(ImageError::corrupt(what, offset));
            }
            if offset >> header.geometry.cluster_bits >= end {
                let what = format!("{name} offset {offset:#x} beyond the end of the file ({index} index: {at:#x})");
                return Err(ImageError::corrupt(what, offset));
            }
            add(offset, size, kind)?;
        }
    }
    Ok(map)
}
