//! Whether the refcounts of an image are those of its references, and how they become so.

mod walk;

use std::ops::Range;

use super::super::BlockError;
use super::entry::{COPIED, Cluster, OFFSET};
use super::header::incompatible;
use super::image::{Meta, Qcow2};
use super::map::Kind;
use super::refcount;
use super::tables::{Lookup, Tables};
use walk::{CHUNK, Counts, Walk};

/// How many problems are described.
const MAX_PROBLEMS: usize = 64;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Refcounts that are too low, flags that are wrong, and references that cannot be right.
    pub corruptions: u64,
    /// Clusters whose refcount is too high.
    pub leaks: u64,
    /// Of the corruptions, those that are no more.
    pub corruptions_fixed: u64,
    /// Of the leaks, those that are no more.
    pub leaks_fixed: u64,
    /// The first of them in words.
    pub problems: Vec<String>,
}

impl Report {
    fn corruption(&mut self, what: String) {
        self.corruptions += 1;
        self.describe(|| what);
    }

    fn describe(&mut self, what: impl FnOnce() -> String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what());
        }
    }
}

/// A refcount that is not what it should be.
struct Wrong {
    cluster: u64,
    is: u64,
    wanted: u64,
}

impl Tables {
    /// The refcounts that are wrong of clusters that one block counts, as far as they are in the part of it that has the
    /// first. Returns as well where the next part begins.
    fn wrong_counts(&mut self, clusters: Range<u64>, counts: &Counts) -> (u64, Vec<Wrong>) {
        let wrong = |cluster: u64, is: u64, wanted: u64| Wrong { cluster, is, wanted };
        let Some((at, _, first)) = self.refcount_place(clusters.start) else {
            // There is no block: nothing counts them.
            let wanted = counts.of(&clusters);
            return (
                clusters.end,
                wanted.map(|(cluster, wanted)| wrong(cluster, 0, wanted)).collect(),
            );
        };
        let order = self.rules.geometry.refcount_order;
        let part = (self.refblocks.slice_size() * 8) >> order;
        let range = clusters.start..(clusters.start - first as u64 + part).min(clusters.end);
        let Some(bytes) = self.refblocks.get(at) else {
            // It is to be loaded again.
            return (clusters.start, Vec::new());
        };
        if !counts.any_in(&range) && bytes.iter().all(|byte| *byte == 0) {
            return (range.end, Vec::new());
        }
        let compared = range.clone().enumerate().map(|(index, cluster)| {
            let is = refcount::get(bytes, order, first + index);
            wrong(cluster, is, counts.get(cluster))
        });
        (range.end, compared.filter(|count| count.is != count.wanted).collect())
    }
}

impl Qcow2 {
    /// Compares refcounts with references, and flags with refcounts; with `fix`, makes them agree. Nobody else may use the
    /// image meanwhile.
    ///
    /// # Errors
    /// The image cannot be read, or not written.
    pub async fn check(&self, fix: bool) -> Result<Report, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        let mut meta = self.meta.lock().await;
        self.write_tables(&mut meta).await?;
        self.write_refcounts().await?;
        let mut walk = Walk::through(self).await?;
        if fix && self.add_missing_blocks(&mut meta, &walk.counts).await? {
            walk = Walk::through(self).await?;
        }
        let unfixable = walk.report.corruptions;
        self.compare(&mut meta, &mut walk, fix).await?;
        self.compare_flags(&mut meta, &mut walk, fix).await?;
        let mut report = walk.report;
        if fix {
            self.write_refcounts().await?;
            self.write_tables(&mut meta).await?;
            self.file.flush().await?;
            self.tables().free_hint = 0;
            report.corruptions_fixed = report.corruptions - unfixable;
            report.leaks_fixed = report.leaks;
        }
        Ok(report)
    }

    /// Makes refcount blocks for clusters that are in use and have none. Returns whether there were any.
    async fn add_missing_blocks(&self, meta: &mut Meta, counts: &Counts) -> Result<bool, BlockError> {
        let entries = self.geometry.refblock_entries();
        let mut added = false;
        for chunk in counts.0.keys() {
            let index = chunk * CHUNK / entries;
            if self.tables().reftable.get(index) != 0 {
                continue;
            }
            // Nothing in the file is free until its refcounts are right.
            {
                let mut tables = self.tables();
                tables.free_hint = tables.free_hint.max(tables.end);
            }
            let offset = self.allocate(meta, 1).await?.0.start;
            added = true;
            if index >= self.tables().reftable.entries.len() as u64 || self.tables().reftable.get(index) != 0 {
                // The block came with the cluster, which is not needed; a later walk counts it as a leak.
                continue;
            }
            self.write_table(offset, &vec![0; self.geometry.cluster_size() as usize])
                .await?;
            let mut tables = self.tables();
            tables.reftable.set(index, offset);
            tables
                .map
                .insert(offset..offset + self.geometry.cluster_size(), Kind::RefcountBlock);
        }
        Ok(added)
    }

    /// Compares refcounts.
    async fn compare(&self, meta: &mut Meta, walk: &mut Walk<'_>, fix: bool) -> Result<(), BlockError> {
        let entries = self.geometry.refblock_entries();
        let bits = self.geometry.cluster_bits;
        let mut blocks: Vec<u64> = {
            let tables = self.tables();
            let present = tables.reftable.entries.iter().enumerate();
            present
                .filter(|(_, block)| **block != 0)
                .map(|(index, _)| index as u64)
                .collect()
        };
        blocks.extend(walk.counts.0.keys().map(|chunk| chunk * CHUNK / entries));
        blocks.sort_unstable();
        blocks.dedup();
        for block in blocks {
            let mut at = block * entries;
            while at < (block + 1) * entries {
                // That loads what follows as well.
                self.count(meta, at).await?;
                let (end, wrong) = self.tables().wrong_counts(at..(block + 1) * entries, &walk.counts);
                at = end;
                for Wrong { cluster, is, wanted } in wrong {
                    let offset = cluster << bits;
                    let what = || format!("cluster {cluster} (offset {offset:#x}) refcount={is} reference={wanted}");
                    if is < wanted {
                        walk.report.corruption(format!("ERROR {}", what()));
                    } else {
                        walk.report.leaks += 1;
                        walk.report.describe(|| format!("Leaked {}", what()));
                    }
                    if fix && wanted > self.geometry.refcount_max() {
                        let what = format!("refcount does not fit: {}", what());
                        return Err(BlockError::Corrupt {
                            what,
                            offset: Some(offset),
                        });
                    }
                    if fix {
                        self.set_count(meta, cluster, wanted).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares the flags of the active tables with refcounts.
    async fn compare_flags(&self, meta: &mut Meta, walk: &mut Walk<'_>, fix: bool) -> Result<(), BlockError> {
        let geometry = self.geometry;
        let entries = self.tables().l1.entries.clone();
        for (index, entry) in entries.iter().enumerate() {
            let table = entry & OFFSET;
            if table == 0 || table >> geometry.cluster_bits >= walk.end {
                continue;
            }
            let alone = walk.counts.get(table >> geometry.cluster_bits) == 1;
            if alone != (entry & COPIED != 0) {
                let what = format!("ERROR OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={entry:#x}");
                walk.report.corruption(what);
                if fix {
                    let flag = if alone { COPIED } else { 0 };
                    self.tables().l1.set(index as u64, table | flag);
                }
            }
            if !self.rules.data_file {
                self.compare_l2_flags(meta, walk, index as u64, fix && alone).await?;
            }
        }
        Ok(())
    }

    async fn compare_l2_flags(
        &self,
        meta: &mut Meta,
        walk: &mut Walk<'_>,
        index: u64,
        fix: bool,
    ) -> Result<(), BlockError> {
        let geometry = self.geometry;
        let start = index * geometry.l1_span();
        for guest in (start..start + geometry.l1_span()).step_by(geometry.cluster_size() as usize) {
            let mapping = loop {
                let mapping = self.tables().mapping(guest);
                match mapping {
                    Ok(Lookup::Load(slice)) => self.load(meta, super::image::Which::L2, slice).await?,
                    Ok(Lookup::Found(mapped)) => break Some(mapped.cluster),
                    // It was counted already.
                    Err(_) => break None,
                }
            };
            let Some((cluster, host)) = mapping.and_then(|cluster| cluster.host.map(|host| (cluster, host))) else {
                continue;
            };
            let copied = walk.counts.get(host >> geometry.cluster_bits) == 1;
            if cluster.copied == copied {
                continue;
            }
            walk.report.corruption(format!(
                "ERROR OFLAG_COPIED data cluster: guest offset {guest:#x}, host {host:#x}"
            ));
            if fix {
                let _ = self.tables().set_mapping(guest, Cluster { copied, ..cluster });
            }
        }
        Ok(())
    }

    /// Repairs a dirty image, which is not dirty any more then.
    pub(super) async fn repair(&self) -> Result<(), BlockError> {
        let report = self.check(true).await?;
        tracing::warn!(
            node = self.file.name(),
            corruptions = report.corruptions,
            leaks = report.leaks,
            "a dirty qcow2 image was repaired"
        );
        if report.corruptions != report.corruptions_fixed {
            let first = report.problems.first().map_or("", String::as_str);
            return Err(BlockError::Corrupt {
                what: format!("Could not repair dirty image: {first}"),
                offset: None,
            });
        }
        let mut meta = self.meta.lock().await;
        self.change_incompatible(0, incompatible::DIRTY).await?;
        self.file.flush().await?;
        // Whoever allocates next marks it again.
        meta.marked_dirty = false;
        Ok(())
    }
}
