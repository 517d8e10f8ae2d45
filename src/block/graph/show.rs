//! What clients are told of nodes and disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::qcow2::path_beside;
use super::{Entry, Graph, State};
use crate::block::backend::Counts;
use crate::block::qcow2::bitmap::{AUTO, IN_USE};
use crate::block::qcow2::{Qcow2Details, Snapshot};
use crate::block::{Backend, BlockDriver, DetectZeroes, Failure, IoStatus, Node, Operation, Outcome, Permissions};
use crate::qapi::qmp::{
    BlockDeviceInfo, BlockDeviceIoStatus, BlockDeviceStats, BlockErrorAction, BlockInfo, BlockIoErrorEvent,
    BlockLimitsInfo, BlockStats, BlockStatsSpecific, BlockStatsSpecificFile, BlockdevCacheInfo, BlockdevChild,
    BlockdevDetectZeroesOptions, ImageInfo, ImageInfoSpecific, ImageInfoSpecificFile, ImageInfoSpecificFileWrapper,
    ImageInfoSpecificQCow2, ImageInfoSpecificQCow2Wrapper, IoOperationType, Qcow2BitmapInfo, Qcow2BitmapInfoFlags,
    Qcow2CompressionType, SnapshotInfo,
};
use crate::qapi::visit::{Any, encoded};

/// What begins the name of an image that only a description names.
const DESCRIBED: &str = "json:";
/// A second.
const NANOSECONDS: u64 = 1_000_000_000;
/// Pieces of memory that a request may have.
const MAX_PIECES: i64 = 1024;
/// What memory of a request had better be aligned to.
const PAGE: u64 = 4096;

impl Graph {
    /// Every node, the newest first (`query-named-block-nodes`); with `flat`, without what is behind it.
    #[must_use]
    pub fn nodes(&self, flat: bool) -> Vec<BlockDeviceInfo> {
        let state = self.lock();
        let entries = state.entries.iter().rev();
        entries.map(|entry| state.info(entry, true, flat)).collect()
    }

    /// Every disk of the guest (`query-block`).
    #[must_use]
    pub fn disks(&self) -> Vec<BlockInfo> {
        let state = self.lock();
        let backends = state.live_backends();
        backends.iter().map(|backend| state.disk(backend)).collect()
    }

    /// What went through the disks (`query-blockstats`).
    #[must_use]
    pub fn disk_stats(&self) -> Vec<BlockStats> {
        let backends = self.lock().live_backends();
        let stats = |backend: &std::sync::Arc<Backend>| BlockStats {
            device: Some(String::new()),
            qdev: Some(backend.path().to_owned()),
            stats: counted(backend),
            ..node_stats(backend.node())
        };
        backends.iter().map(stats).collect()
    }

    /// What went through the nodes, the newest first (`query-blockstats` with `query-nodes`).
    #[must_use]
    pub fn node_stats(&self) -> Vec<BlockStats> {
        let state = self.lock();
        let entries = state.entries.iter().rev();
        entries.map(|entry| node_stats(&entry.node)).collect()
    }
}

impl From<Failure> for BlockIoErrorEvent {
    fn from(failure: Failure) -> Self {
        Self {
            qom_path: failure.path,
            device: String::new(),
            node_name: Some(failure.node),
            operation: match failure.operation {
                Operation::Read => IoOperationType::Read,
                _ => IoOperationType::Write,
            },
            action: match failure.outcome {
                Outcome::Report => BlockErrorAction::Report,
                Outcome::Ignore => BlockErrorAction::Ignore,
                Outcome::Stop => BlockErrorAction::Stop,
            },
            nospace: Some(failure.error.is_no_space()),
            reason: failure.error.errno().desc().to_owned(),
        }
    }
}

impl State {
    fn disk(&self, backend: &Backend) -> BlockInfo {
        let entry = self.entry(backend.node().name());
        BlockInfo {
            device: String::new(),
            qdev: Some(backend.path().to_owned()),
            r#type: "unknown".to_owned(),
            removable: false,
            locked: false,
            inserted: entry.map(|entry| self.info(entry, backend.is_writeback(), false)),
            tray_open: None,
            io_status: Some(match backend.status() {
                IoStatus::Ok => BlockDeviceIoStatus::Ok,
                IoStatus::Failed => BlockDeviceIoStatus::Failed,
                IoStatus::NoSpace => BlockDeviceIoStatus::Nospace,
            }),
        }
    }

    fn info(&self, entry: &Entry, writeback: bool, flat: bool) -> BlockDeviceInfo {
        let node = &entry.node;
        let behind = backing(node);
        let config = node.config();
        let is_written = self.uses(node.name()).takes.contains(Permissions::WRITE);
        let children = node.driver().children();
        let child = |(role, child): (&str, std::sync::Arc<Node>)| BlockdevChild {
            child: role.to_owned(),
            node_name: child.name().to_owned(),
        };
        BlockDeviceInfo {
            file: self.filename(node),
            node_name: Some(node.name().to_owned()),
            ro: config.read_only || entry.is_auto_read_only && !is_written,
            drv: node.driver().name().to_owned(),
            backing_file: behind.as_ref().map(|behind| self.filename(behind)),
            backing_file_depth: depth(behind),
            children: children.into_iter().map(child).collect(),
            active: true,
            encrypted: false,
            detect_zeroes: match config.detect_zeroes {
                DetectZeroes::Off => BlockdevDetectZeroesOptions::Off,
                DetectZeroes::On => BlockdevDetectZeroesOptions::On,
                DetectZeroes::Unmap => BlockdevDetectZeroesOptions::Unmap,
            },
            bps: 0,
            bps_rd: 0,
            bps_wr: 0,
            iops: 0,
            iops_rd: 0,
            iops_wr: 0,
            image: self.image(node, flat),
            cache: BlockdevCacheInfo {
                writeback,
                direct: entry.is_direct,
                no_flush: config.no_flush,
            },
            write_threshold: 0,
        }
    }

    /// The name of a node's image: its own, or a description of the node.
    fn filename(&self, node: &Node) -> String {
        node.driver().filename().unwrap_or_else(|| {
            let described = encoded(&Any::from(Value::Object(self.describe(node))));
            format!("{DESCRIBED}{}", String::from_utf8_lossy(&described))
        })
    }

    fn describe(&self, node: &Node) -> Map<String, Value> {
        let mut described = Map::new();
        described.insert("driver".to_owned(), json!(node.driver().name()));
        if let Some(entry) = self.entry(node.name()) {
            described.extend(entry.description.clone());
        }
        for (role, child) in node.driver().children() {
            described.insert(role.to_owned(), Value::Object(self.describe(&child)));
        }
        described
    }
}

/// The node behind another.
fn backing(node: &Node) -> Option<Arc<Node>> {
    let mut children = node.driver().children().into_iter();
    children.find(|(role, _)| *role == "backing").map(|(_, child)| child)
}

/// How many images are behind each other, from this one on.
fn depth(from: Option<Arc<Node>>) -> i64 {
    let mut depth = 0;
    let mut next = from;
    while let Some(node) = next {
        depth += 1;
        next = backing(&node);
    }
    depth
}

fn specific(driver: &dyn BlockDriver, qcow2: Option<Qcow2Details>) -> Option<ImageInfoSpecific> {
    if let Some(details) = qcow2 {
        let data = details.into();
        return Some(ImageInfoSpecific::Qcow2(ImageInfoSpecificQCow2Wrapper { data }));
    }
    driver.discards().is_some().then(|| {
        let data = ImageInfoSpecificFile::default();
        ImageInfoSpecific::File(ImageInfoSpecificFileWrapper { data })
    })
}

impl From<Qcow2Details> for ImageInfoSpecificQCow2 {
    fn from(details: Qcow2Details) -> Self {
        // Version 2 has none of this, and nothing is said of it.
        let newer = |value: bool| (details.version > 2).then_some(value);
        let bitmaps = details.bitmaps.iter().map(|bitmap| Qcow2BitmapInfo {
            name: bitmap.name.clone(),
            granularity: 1u32.checked_shl(bitmap.granularity_bits.into()).unwrap_or(0),
            flags: [
                (IN_USE, Qcow2BitmapInfoFlags::InUse),
                (AUTO, Qcow2BitmapInfoFlags::Auto),
            ]
            .into_iter()
            .filter_map(|(bit, flag)| (bitmap.flags & bit != 0).then_some(flag))
            .collect(),
        });
        Self {
            compat: if details.version > 2 { "1.1" } else { "0.10" }.to_owned(),
            extended_l2: newer(details.extended_l2),
            lazy_refcounts: newer(details.lazy_refcounts),
            corrupt: newer(details.is_corrupt),
            refcount_bits: details.refcount_bits.into(),
            bitmaps: (!details.bitmaps.is_empty()).then(|| bitmaps.collect()),
            compression_type: match details.zstd {
                true => Qcow2CompressionType::Zstd,
                false => Qcow2CompressionType::Zlib,
            },
            data_file_raw: details.data_file.as_ref().map(|(_, raw)| *raw),
            data_file: details.data_file.map(|(name, _)| name),
        }
    }
}

impl From<Snapshot> for SnapshotInfo {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id,
            name: snapshot.name,
            vm_state_size: signed(snapshot.vm_state_size),
            date_sec: snapshot.date.0.into(),
            date_nsec: snapshot.date.1.into(),
            vm_clock_sec: signed(snapshot.vm_clock / NANOSECONDS),
            vm_clock_nsec: signed(snapshot.vm_clock % NANOSECONDS),
            icount: snapshot.icount.map(signed),
        }
    }
}

impl State {
    fn image(&self, node: &Node, flat: bool) -> ImageInfo {
        let (driver, limits) = (node.driver(), node.limits());
        let details = driver.image();
        let behind = backing(node).filter(|_| !flat);
        let file = driver.children().into_iter().find(|(role, _)| *role == "file");
        let full_name = details.backing_file.as_deref().and_then(|name| {
            let (_, file) = file.as_ref()?;
            path_beside(file, name).ok()
        });
        ImageInfo {
            filename: self.filename(node),
            format: driver.name().to_owned(),
            dirty_flag: Some(details.is_dirty),
            backing_filename: details.backing_file,
            full_backing_filename: full_name,
            backing_filename_format: details.backing_format,
            snapshots: (!details.snapshots.is_empty()).then(|| details.snapshots.into_iter().map(Into::into).collect()),
            backing_image: behind.map(|behind| Box::new(self.image(&behind, false))),
            actual_size: driver.allocated().map(signed),
            // Disks have whole sectors.
            virtual_size: signed(node.length().next_multiple_of(512)),
            cluster_size: details.cluster_size.map(signed),
            format_specific: specific(driver, details.qcow2),
            limits: Some(BlockLimitsInfo {
                request_alignment: limits.request_alignment.get(),
                max_discard: None,
                discard_alignment: limits.discard_alignment.map(u32::from),
                max_write_zeroes: None,
                write_zeroes_alignment: limits.zeroes_alignment.map(u32::from),
                opt_transfer: None,
                max_transfer: limits.max_transfer.map(u32::from),
                max_hw_transfer: None,
                max_iov: MAX_PIECES,
                max_hw_iov: None,
                min_mem_alignment: limits.memory_alignment.get().into(),
                opt_mem_alignment: PAGE,
            }),
        }
    }
}

fn node_stats(node: &Node) -> BlockStats {
    let driver = node.driver();
    let counts = driver.discards().map(|discards| BlockStatsSpecificFile {
        discard_nb_ok: discards.done,
        discard_nb_failed: discards.failed,
        discard_bytes_ok: discards.bytes,
    });
    let children = driver.children();
    let of = |role: &str| {
        let child = children.iter().find(|(own, _)| *own == role);
        child.map(|(_, child)| Box::new(node_stats(child)))
    };
    BlockStats {
        device: None,
        qdev: None,
        node_name: Some(node.name().to_owned()),
        stats: BlockDeviceStats {
            wr_highest_offset: signed(node.highest_written()),
            ..BlockDeviceStats::default()
        },
        driver_specific: counts.map(|counts| match driver.name() {
            "host_device" => BlockStatsSpecific::HostDevice(counts),
            _ => BlockStatsSpecific::File(counts),
        }),
        parent: of("file"),
        backing: of("backing"),
    }
}

/// What went through a disk.
fn counted(backend: &Backend) -> BlockDeviceStats {
    let stats = &backend.stats;
    let number = |counter: &AtomicU64| signed(counter.load(Ordering::Relaxed));
    let of = |counts: &Counts| {
        (
            number(&counts.bytes),
            number(&counts.operations),
            number(&counts.nanoseconds),
            number(&counts.failed),
            number(&counts.invalid),
        )
    };
    let (read, write, unmap, flush) = (of(&stats.read), of(&stats.write), of(&stats.unmap), of(&stats.flush));
    BlockDeviceStats {
        rd_bytes: read.0,
        wr_bytes: write.0,
        unmap_bytes: unmap.0,
        rd_operations: read.1,
        wr_operations: write.1,
        unmap_operations: unmap.1,
        flush_operations: flush.1,
        rd_total_time_ns: read.2,
        wr_total_time_ns: write.2,
        unmap_total_time_ns: unmap.2,
        flush_total_time_ns: flush.2,
        failed_rd_operations: read.3,
        failed_wr_operations: write.3,
        failed_unmap_operations: unmap.3,
        failed_flush_operations: flush.3,
        invalid_rd_operations: read.4,
        invalid_wr_operations: write.4,
        invalid_unmap_operations: unmap.4,
        invalid_flush_operations: flush.4,
        wr_highest_offset: signed(backend.node().highest_written()),
        idle_time_ns: stats
            .idle()
            .map(|idle| i64::try_from(idle.as_nanos()).unwrap_or(i64::MAX)),
        account_invalid: true,
        account_failed: true,
        ..BlockDeviceStats::default()
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
