//! Writes: in place, or to new clusters.

use super::super::{BlockError, IoBuffer, WriteFlags};
use super::entry::Cluster;
use super::image::{Meta, Qcow2};
use super::tables::{Lookup, Mapped};

/// Most bytes that are allocated at once.
const MAX_RUN: u64 = 64 << 20;

/// Guest clusters in a row that a write gives new contents, and where those go.
struct Run {
    /// Guest offset of the first.
    first: u64,
    /// Where the first goes in the data file.
    host: u64,
    /// What they were made of.
    old: Vec<Cluster>,
    /// The host clusters are theirs already.
    reused: bool,
    /// Nothing was ever written to the host clusters.
    fresh: bool,
}

impl Qcow2 {
    /// Writes a buffer to where the guest sees it at `offset`.
    pub(super) async fn write_guest(&self, offset: u64, from: &IoBuffer) -> Result<(), BlockError> {
        // As for reads. It is also why nobody else gets the clusters that are written to.
        let _stays = self.tables().frees.guard();
        let mut at = 0;
        while at < from.len() {
            let guest = offset + at as u64;
            let most = (from.len() - at) as u64;
            let place = self.look_up(guest, |tables| tables.in_place(guest, most)).await?;
            let done = match place {
                Some((host, bytes)) => {
                    self.check_data(host, bytes).await?;
                    let part = from.slice(at..at + bytes as usize);
                    self.data.write(host, part, WriteFlags::default()).await?;
                    bytes
                }
                None => self.write_new(guest, &from.slice(at..from.len())).await?,
            };
            at += done as usize;
        }
        self.limit_waiting().await
    }

    /// Guest data are not written over the image's structures, nor where there is nothing yet.
    async fn check_data(&self, host: u64, bytes: u64) -> Result<(), BlockError> {
        if self.rules.data_file || self.tables().may_hold_data(host, bytes) {
            return Ok(());
        }
        let what = format!("Preventing invalid write of guest data at offset {host:#x}");
        Err(self.corrupt(what, Some(host)).await)
    }

    /// Writes the beginning of a buffer to clusters whose mapping changes thereby. Returns how much of it.
    async fn write_new(&self, guest: u64, from: &IoBuffer) -> Result<u64, BlockError> {
        let geometry = self.geometry;
        let first = geometry.cluster_start(guest);
        // Not beyond one L2 table.
        let end = (guest + from.len() as u64)
            .min((geometry.l1_index(guest) + 1) * geometry.l1_span())
            .min(first + MAX_RUN);
        let _ours = self
            .ranges
            .lock(first..geometry.cluster_start(end - 1) + geometry.cluster_size())
            .await;
        // It may have become shorter while others had these clusters.
        self.check_within(guest, end - guest)?;
        let run = {
            let mut meta = self.meta.lock().await;
            self.plan_run(&mut meta, first, end).await?
        };
        let covered = run.old.len() as u64 * geometry.cluster_size();
        let end = end.min(first + covered);
        let written = self.fill_run(&run, guest, &from.slice(0..(end - guest) as usize)).await;
        match written {
            Ok(clusters) => self.link(&run, &clusters).await?,
            Err(error) => {
                if !run.reused {
                    self.abandon(run.host..run.host + covered);
                }
                return Err(error);
            }
        }
        Ok(end - guest)
    }

    /// Finds out where clusters from `first` on, until `end` at most, are to be written.
    async fn plan_run(&self, meta: &mut Meta, first: u64, end: u64) -> Result<Run, BlockError> {
        self.l2_for_write(meta, first).await?;
        let size = self.geometry.cluster_size();
        let mut old: Vec<Cluster> = Vec::new();
        let mut reused = None;
        for guest in (first..end).step_by(size as usize) {
            let Mapped { cluster, .. } = self.look_up_with(meta, guest, |tables| tables.mapping(guest)).await?;
            let place = self.reusable(guest, cluster);
            match (reused, place) {
                (None, _) => reused = Some(place),
                (Some(None), None) => {}
                (Some(Some(start)), Some(host)) if start + old.len() as u64 * size == host => {}
                _ => break,
            }
            old.push(cluster);
        }
        if let Some(Some(host)) = reused {
            self.check_data(host, old.len() as u64 * size).await?;
            return Ok(Run {
                first,
                host,
                old,
                reused: true,
                fresh: false,
            });
        }
        let (range, fresh) = self.allocate(meta, old.len() as u64).await?;
        old.truncate(((range.end - range.start) / size) as usize);
        Ok(Run {
            first,
            host: range.start,
            old,
            reused: false,
            fresh,
        })
    }

    /// The host cluster that new data of a guest cluster may be written to, if it has one.
    fn reusable(&self, guest: u64, cluster: Cluster) -> Option<u64> {
        if self.rules.data_file {
            return Some(guest);
        }
        cluster.host.filter(|_| cluster.copied)
    }

    /// Writes the data of a run, with what is before and behind them in their clusters. Returns what the clusters are then.
    async fn fill_run(&self, run: &Run, guest: u64, from: &IoBuffer) -> Result<Vec<Cluster>, BlockError> {
        let geometry = self.geometry;
        let (end, last) = (guest + from.len() as u64, run.old.len() - 1);
        let start = self.start_of_copy(run, run.old[0], guest);
        let stop = self.end_of_copy(run, run.old[last], end);
        let mut buffer = from.clone();
        let mut target = guest;
        if start < guest {
            if let Some(head) = self.copy_of(run, start, guest).await? {
                buffer = head.followed_by(&buffer);
                target = start;
            }
        }
        if end < stop {
            if let Some(tail) = self.copy_of(run, end, stop).await? {
                buffer = buffer.followed_by(&tail);
            }
        }
        self.data
            .write(run.host + (target - run.first), buffer, WriteFlags::default())
            .await?;
        let size = geometry.cluster_size();
        let clusters = run.old.iter().enumerate().map(|(index, old)| {
            let cluster = run.first + index as u64 * size;
            let (from, to) = (start.max(cluster) - cluster, (stop - cluster).min(size));
            let filled = geometry.subclusters_of(from, to);
            let keeps = self.keeps_subclusters(run, *old);
            Cluster {
                host: Some(run.host + index as u64 * size),
                copied: true,
                allocated: filled | if keeps { old.allocated } else { 0 },
                zero: old.zero & !filled,
                compressed: None,
            }
        });
        Ok(clusters.collect())
    }

    /// Whether subclusters that a write does not touch may stay what they are.
    fn keeps_subclusters(&self, run: &Run, old: Cluster) -> bool {
        self.geometry.extended && old.compressed.is_none() && (run.reused || old.allocated == 0)
    }

    /// From where on the first cluster is written, if the guest's data begin at `guest`.
    fn start_of_copy(&self, run: &Run, old: Cluster, guest: u64) -> u64 {
        let in_cluster = self.geometry.in_cluster(guest);
        if !self.keeps_subclusters(run, old) {
            // Data that are there already stay.
            let there = run.reused && old.allocated != 0;
            return if there { guest } else { guest - in_cluster };
        }
        let size = self.geometry.subcluster_size();
        if in_cluster % size == 0 || old.allocated & 1 << (in_cluster / size) != 0 {
            return guest;
        }
        guest - in_cluster % size
    }

    /// Up to where the last cluster is written, if the guest's data end at `end`.
    fn end_of_copy(&self, run: &Run, old: Cluster, end: u64) -> u64 {
        let cluster = self.geometry.cluster_start(end - 1);
        let in_cluster = end - cluster;
        if !self.keeps_subclusters(run, old) {
            let there = run.reused && old.allocated != 0;
            return if there {
                end
            } else {
                cluster + self.geometry.cluster_size()
            };
        }
        let size = self.geometry.subcluster_size();
        if in_cluster % size == 0 || old.allocated & 1 << ((in_cluster - 1) / size) != 0 {
            return end;
        }
        cluster + in_cluster.next_multiple_of(size)
    }

    /// What the guest saw in a range so far. None if those are zeroes, and are where it goes already.
    async fn copy_of(&self, run: &Run, from: u64, to: u64) -> Result<Option<IoBuffer>, BlockError> {
        if run.fresh && self.reads_zero(from, to - from).await? {
            return Ok(None);
        }
        let buffer = IoBuffer::zeroed((to - from) as usize);
        self.read_guest(from, &buffer).await?;
        Ok(Some(buffer))
    }

    /// Makes guest clusters what they are now, after their data were written.
    async fn link(&self, run: &Run, clusters: &[Cluster]) -> Result<(), BlockError> {
        let size = self.geometry.cluster_size();
        for (index, (cluster, old)) in clusters.iter().zip(&run.old).enumerate() {
            let guest = run.first + index as u64 * size;
            if cluster == old {
                continue;
            }
            self.look_up(guest, |tables| {
                let set = tables.set_mapping(guest, *cluster);
                if set == Lookup::Found(()) {
                    tables.release(*old, cluster.host, false);
                }
                Ok(set)
            })
            .await?;
        }
        Ok(())
    }
}
