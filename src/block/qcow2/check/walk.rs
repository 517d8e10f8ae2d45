//! What refers to clusters of the file, and how often.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::super::entry::{Cluster, OFFSET, RawEntry};
use super::super::image::Qcow2;
use super::super::open::read;
use super::super::tables::{self, REFBLOCK_OFFSET};
use super::Report;
use crate::block::BlockError;

/// Clusters whose counts are kept together.
pub(super) const CHUNK: u64 = 16;

/// How often each cluster is referred to. Takes memory for those that are.
#[derive(Default)]
pub(super) struct Counts(pub(super) BTreeMap<u64, [u32; CHUNK as usize]>);

impl Counts {
    pub(super) fn add(&mut self, cluster: u64, times: u32) {
        let chunk = self.0.entry(cluster / CHUNK).or_default();
        let count = &mut chunk[(cluster % CHUNK) as usize];
        *count = count.saturating_add(times);
    }

    pub(super) fn get(&self, cluster: u64) -> u64 {
        let chunk = self.0.get(&(cluster / CHUNK));
        chunk.map_or(0, |chunk| u64::from(chunk[(cluster % CHUNK) as usize]))
    }

    /// Those of a range that are referred to, and how often.
    pub(super) fn of(&self, clusters: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let chunks = clusters.start / CHUNK..clusters.end.div_ceil(CHUNK);
        let all = self.0.range(chunks).flat_map(|(chunk, counts)| {
            let clusters = chunk * CHUNK..;
            clusters.zip(counts.iter().map(|count| u64::from(*count)))
        });
        all.filter(move |(cluster, count)| clusters.contains(cluster) && *count != 0)
    }

    /// Whether a cluster of the range, or one beside it, is referred to.
    pub(super) fn any_in(&self, clusters: &Range<u64>) -> bool {
        let chunks = clusters.start / CHUNK..clusters.end.div_ceil(CHUNK);
        self.0.range(chunks).next().is_some()
    }
}

/// A walk through everything that refers to clusters.
pub(super) struct Walk<'a> {
    image: &'a Qcow2,
    pub(super) end: u64,
    pub(super) counts: Counts,
    pub(super) report: Report,
}

impl<'a> Walk<'a> {
    /// Looks at all that the image has.
    pub(super) async fn through(image: &'a Qcow2) -> Result<Self, BlockError> {
        let mut walk = Self {
            image,
            end: image.tables().end,
            counts: Counts::default(),
            report: Report::default(),
        };
        walk.everything().await?;
        Ok(walk)
    }

    /// A range of the file is referred to so many times.
    fn range(&mut self, offset: u64, bytes: u64, times: u32, what: &str) {
        let bits = self.image.geometry.cluster_bits;
        if bytes == 0 {
            return;
        }
        let last = offset.saturating_add(bytes - 1) >> bits;
        if last >= self.end {
            self.report.corruption(format!(
                "ERROR {what} at offset {offset:#x} is beyond the end of the file"
            ));
            return;
        }
        for cluster in offset >> bits..=last {
            self.counts.add(cluster, times);
        }
    }

    /// What an L2 table refers to, which itself is referred to so many times.
    async fn l2_table(&mut self, table: u64, times: u32) -> Result<(), BlockError> {
        let geometry = self.image.geometry;
        let size = geometry.cluster_size();
        if !geometry.is_aligned(table) {
            self.report
                .corruption(format!("ERROR L2 table offset {table:#x} unaligned"));
            return Ok(());
        }
        self.range(table, size, times, "L2 table");
        if table >> geometry.cluster_bits >= self.end {
            return Ok(());
        }
        let entries = tables::decode(&read(&self.image.file, table, size).await?);
        let step = geometry.l2_entry_size() as usize / 8;
        for entry in entries.chunks_exact(step) {
            let raw = RawEntry {
                descriptor: entry[0],
                bitmap: if geometry.extended { entry[1] } else { 0 },
            };
            // Where the guest sees it matters with a data file only, whose clusters are not counted.
            let guest = raw.descriptor & OFFSET;
            match Cluster::decode(raw, guest, self.image.rules) {
                Err(error) => self.report.corruption(format!("ERROR L2 table at {table:#x}: {error}")),
                Ok(_) if self.image.rules.data_file => {}
                Ok(Cluster {
                    compressed: Some(data), ..
                }) => self.range(data.host, data.bytes, times, "compressed cluster"),
                Ok(Cluster { host: Some(host), .. }) => self.range(host, size, times, "data cluster"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    async fn bitmaps(&mut self) -> Result<(), BlockError> {
        let Some(extension) = self.image.tables().header.bitmaps else {
            return Ok(());
        };
        self.range(extension.directory, extension.directory_size, 1, "bitmap directory");
        let tables = self.image.bitmaps();
        // Tables that lie over each other could be read without end.
        let all: u64 = tables.iter().map(|table| table.entries * 8).sum();
        if all > self.end << self.image.geometry.cluster_bits {
            self.report.corruption("ERROR bitmap tables overlap".into());
            return Ok(());
        }
        for table in tables {
            self.range(table.offset, table.entries * 8, 1, "bitmap table");
            if table.offset + table.entries * 8 > self.end << self.image.geometry.cluster_bits {
                continue;
            }
            let entries = tables::decode(&read(&self.image.file, table.offset, table.entries * 8).await?);
            for entry in entries.iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0) {
                self.range(entry, self.image.geometry.cluster_size(), 1, "bitmap cluster");
            }
        }
        Ok(())
    }

    async fn everything(&mut self) -> Result<(), BlockError> {
        let geometry = self.image.geometry;
        let size = geometry.cluster_size();
        let (header, active, blocks) = {
            let tables = self.image.tables();
            (
                tables.header.clone(),
                tables.l1.entries.clone(),
                tables.reftable.entries.clone(),
            )
        };
        self.range(0, size, 1, "header");
        self.range(header.l1, active.len() as u64 * 8, 1, "L1 table");
        self.range(
            header.reftable,
            u64::from(header.reftable_clusters) * size,
            1,
            "refcount table",
        );
        for block in blocks
            .iter()
            .map(|block| block & REFBLOCK_OFFSET)
            .filter(|block| *block != 0)
        {
            self.range(block, size, 1, "refcount block");
        }
        if header.snapshots != 0 {
            self.range(header.snapshot_table, self.image.snapshot_bytes, 1, "snapshot table");
        }
        // Snapshots share L2 tables: each is looked at once, whoever refers to it.
        let mut l2_tables: HashMap<u64, u32> = HashMap::new();
        let mut add = |entries: &[u64]| {
            for table in entries.iter().map(|entry| entry & OFFSET).filter(|table| *table != 0) {
                let times = l2_tables.entry(table).or_default();
                *times = times.saturating_add(1);
            }
        };
        add(&active);
        for snapshot in &self.image.snapshots {
            let bytes = u64::from(snapshot.l1_entries) * 8;
            self.range(snapshot.l1, bytes, 1, "L1 table of a snapshot");
            if snapshot.l1 + bytes <= self.end << geometry.cluster_bits {
                add(&tables::decode(&read(&self.image.file, snapshot.l1, bytes).await?));
            }
        }
        for (table, times) in l2_tables {
            self.l2_table(table, times).await?;
        }
        self.bitmaps().await
    }
}
