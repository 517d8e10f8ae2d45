//! `query-migrate`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{Job, Migration};
use crate::migration::Progress;
use crate::qapi::qmp::{MigrationInfo, MigrationStats, MigrationStatus};
use crate::worker::core::Core;

impl Migration {
    /// How the move fares that is under way, or how the last one ended.
    #[must_use]
    pub fn info(&self, core: &Core) -> MigrationInfo {
        let blockers = core.migration_blockers();
        let job = self.job.borrow();
        let mut info = MigrationInfo {
            blocked_reasons: (!blockers.is_empty()).then_some(blockers),
            ..MigrationInfo::default()
        };
        if job.status == MigrationStatus::None {
            return info;
        }
        info.status = Some(job.status);
        info.error_desc.clone_from(&job.error);
        if !job.is_incoming {
            describe(&job, &mut info);
        }
        info
    }
}

fn describe(job: &Job, info: &mut MigrationInfo) {
    let is_over = job.total.is_some();
    info.total_time = Some(milliseconds(job.total.unwrap_or_else(|| job.started.elapsed())));
    info.setup_time = job.setup.map(milliseconds);
    if job.setup.is_some() {
        info.ram = Some(stats(job));
    }
    match job.status {
        MigrationStatus::Completed => info.downtime = job.downtime.map(milliseconds),
        _ if is_over => {}
        _ => info.expected_downtime = job.progress.expected_downtime().map(milliseconds),
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn stats(job: &Job) -> MigrationStats {
    const PAGE: i64 = 4096;
    let progress = &job.progress;
    let number = |cell: &AtomicU64| i64::try_from(Progress::get(cell)).unwrap_or(i64::MAX);
    let normal = number(&progress.normal_pages);
    MigrationStats {
        transferred: number(&progress.transferred),
        remaining: number(&progress.remaining),
        total: number(&progress.total),
        duplicate: number(&progress.zero_pages),
        normal,
        normal_bytes: normal.saturating_mul(PAGE),
        dirty_pages_rate: number(&progress.dirty_rate),
        mbps: Progress::get(&progress.bandwidth) as f64 * 8.0 / 1e6,
        dirty_sync_count: number(&progress.syncs),
        postcopy_requests: 0,
        page_size: PAGE,
        multifd_bytes: 0,
        pages_per_second: Progress::get(&progress.page_rate),
        precopy_bytes: Progress::get(&progress.precopy_bytes),
        downtime_bytes: Progress::get(&progress.downtime_bytes),
        postcopy_bytes: 0,
        dirty_sync_missed_zero_copy: 0,
    }
}
