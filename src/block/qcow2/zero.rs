//! Zeroes and bytes that nobody needs: changes of the mapping without data.

use super::super::{BlockError, IoBuffer, ZeroFlags};
use super::entry::{Cluster, OFFSET};
use super::image::Qcow2;
use super::tables::Lookup;

/// How many ranges may wait for the tables to be written before they are.
const MAX_WAITING: usize = 16384;
/// Zeroes that are written as data go in pieces of this.
const PIECE: u64 = 1 << 20;

/// What becomes of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// They read as zeroes, and keep their room unless it may be given back.
    Zero { may_unmap: bool },
    /// Nobody needs them: they read as zeroes and take no room.
    Discard,
}

impl Qcow2 {
    /// Makes a range read as zeroes, without writing them where that can be.
    pub(super) async fn zero_guest(&self, offset: u64, bytes: u64, may_unmap: bool) -> Result<(), BlockError> {
        if self.rules.version2 {
            return Err(BlockError::Unsupported(
                "version 2 of qcow2 has no clusters of zeroes".into(),
            ));
        }
        let unit = self.geometry.subcluster_size();
        let end = offset + bytes;
        // Behind the end of the disk are zeroes already.
        let whole_end = if end == self.size() {
            end.next_multiple_of(unit)
        } else {
            end / unit * unit
        };
        let start = offset.next_multiple_of(unit);
        if start >= whole_end {
            return self.write_zero_data(offset, bytes).await;
        }
        self.write_zero_data(offset, start - offset).await?;
        let cluster = self.geometry.cluster_size();
        let change = Change::Zero { may_unmap };
        let mut at = start;
        while at < whole_end {
            let next = match at % cluster {
                0 if whole_end - at >= cluster => {
                    let span = (self.geometry.l1_index(at) + 1) * self.geometry.l1_span();
                    span.min(whole_end / cluster * cluster)
                }
                _ => whole_end.min(self.geometry.cluster_start(at) + cluster),
            };
            if !self.change_range(at, next, change).await? {
                self.write_zero_data(at, next.min(end) - at).await?;
            }
            at = next;
        }
        if whole_end < end {
            self.write_zero_data(whole_end, end - whole_end).await?;
        }
        self.limit_waiting().await
    }

    /// Writes zeroes, unless they are there.
    pub(super) async fn write_zero_data(&self, offset: u64, bytes: u64) -> Result<(), BlockError> {
        let mut at = offset;
        while at < offset + bytes {
            let piece = PIECE.min(offset + bytes - at);
            if !self.reads_zero(at, piece).await? {
                self.write_guest(at, &IoBuffer::zeroed(piece as usize)).await?;
            }
            at += piece;
        }
        Ok(())
    }

    /// Lets go of the clusters that a range covers.
    pub(super) async fn discard_guest(&self, offset: u64, bytes: u64) -> Result<(), BlockError> {
        let cluster = self.geometry.cluster_size();
        let end = offset + bytes;
        let whole_end = if end == self.size() {
            end.next_multiple_of(cluster)
        } else {
            end / cluster * cluster
        };
        let start = offset.next_multiple_of(cluster);
        // Without clusters of zeroes, what the backing file has would come to light.
        if start >= whole_end || (self.rules.version2 && self.backing.is_some()) {
            return Ok(());
        }
        if self.rules.data_file {
            return self.data.discard(start, whole_end.min(end) - start).await;
        }
        let mut at = start;
        while at < whole_end {
            let span = (self.geometry.l1_index(at) + 1) * self.geometry.l1_span();
            let next = span.min(whole_end);
            self.change_range(at, next, Change::Discard).await?;
            at = next;
        }
        self.limit_waiting().await
    }

    /// Changes what the subclusters from `from` to `to` are, which one L2 table has. Returns whether that can be: part of a
    /// compressed cluster cannot be changed alone.
    async fn change_range(&self, from: u64, to: u64, change: Change) -> Result<bool, BlockError> {
        let geometry = self.geometry;
        let size = geometry.cluster_size();
        let first = geometry.cluster_start(from);
        let _ours = self.ranges.lock(first..to.next_multiple_of(size)).await;
        // As for writes; the last cluster may reach beyond the end.
        self.check_within(from, 0)?;
        if self.tables().l1.get(geometry.l1_index(from)) & OFFSET == 0 && self.backing.is_none() {
            return Ok(true);
        }
        if let (Change::Zero { may_unmap }, true) = (change, self.rules.data_file) {
            // Whoever reads the data file alone sees zeroes too.
            let end = to.min(self.size());
            let flags = ZeroFlags { may_unmap, fua: false };
            if self.tables().header.is_data_file_raw() {
                self.data.write_zeroes(from, end - from, flags).await?;
            }
        }
        let mut meta = self.meta.lock().await;
        self.check_usable()?;
        self.l2_for_write(&mut meta, from).await?;
        for guest in (first..to).step_by(size as usize) {
            let old = self
                .look_up_with(&mut meta, guest, |tables| tables.mapping(guest))
                .await?
                .cluster;
            let touched = geometry.subclusters_of(from.max(guest) - guest, (to - guest).min(size));
            let Some(new) = self.changed(guest, old, touched, change) else {
                return Ok(false);
            };
            if new == old {
                continue;
            }
            let discarded = !matches!(change, Change::Zero { may_unmap: false });
            self.look_up_with(&mut meta, guest, |tables| {
                let set = tables.set_mapping(guest, new);
                if set == Lookup::Found(()) {
                    tables.release(old, new.host, discarded);
                }
                Ok(set)
            })
            .await?;
        }
        Ok(true)
    }

    /// What a cluster becomes.
    fn changed(&self, guest: u64, old: Cluster, touched: u32, change: Change) -> Option<Cluster> {
        let all = self.geometry.all_subclusters();
        let zeroes = Cluster {
            zero: all,
            ..Cluster::default()
        };
        let may_unmap = match change {
            Change::Discard if self.backing.is_none() => return Some(Cluster::default()),
            Change::Discard => return Some(zeroes),
            Change::Zero { may_unmap } => may_unmap,
        };
        if old.is_unallocated() && self.backing.is_none() {
            return Some(old);
        }
        if touched != all {
            let partly = Cluster {
                allocated: old.allocated & !touched,
                zero: old.zero | touched,
                ..old
            };
            return old.compressed.is_none().then_some(partly);
        }
        let kept = match old.host {
            _ if self.rules.data_file => Some(guest),
            Some(host) if old.copied && !may_unmap => Some(host),
            _ => None,
        };
        Some(Cluster {
            host: kept,
            copied: kept.is_some(),
            ..zeroes
        })
    }

    /// Clusters that are about to be free are kept in memory: not too many of them.
    pub(super) async fn limit_waiting(&self) -> Result<(), BlockError> {
        let waiting = self.tables().frees.waiting();
        if waiting > MAX_WAITING {
            self.flush_all().await
        } else {
            Ok(())
        }
    }
}
