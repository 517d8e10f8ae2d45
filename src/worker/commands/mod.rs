//! The commands that run in the worker.

mod stats;

use crate::qapi::Error;
use crate::qapi::qmp::{
    BlockDeviceInfo, BlockInfo, BlockStats, JobInfo, MigrateSetCapabilitiesArgs, MigrationCapability,
    MigrationCapabilityStatus, MigrationInfo, QueryBlockstatsArgs, QueryNamedBlockNodesArgs, QueryStatsSchemasArgs, SetActionArgs, ShutdownCause, StatsFilter, StatsResult, StatsSchema,
    WatchdogSetActionArgs, WorkerCommands,
};

use super::core::Core;
use super::runstate::Actions;

impl WorkerCommands for Core {
    type Context = ();

    async fn stop(&self, (): &()) -> Result<(), Error> {
        self.stop()
    }

    async fn cont(&self, (): &()) -> Result<(), Error> {
        self.cont()
    }

    async fn system_reset(&self, (): &()) -> Result<(), Error> {
        self.reset(ShutdownCause::HostQmpSystemReset)
    }

    async fn system_powerdown(&self, (): &()) -> Result<(), Error> {
        self.powerdown()
    }

    async fn system_wakeup(&self, (): &()) -> Result<(), Error> {
        self.wakeup()
    }

    async fn inject_nmi(&self, (): &()) -> Result<(), Error> {
        self.guest()?.inject_nmi()
    }

    async fn set_action(&self, (): &(), args: SetActionArgs) -> Result<(), Error> {
        let actions = self.actions();
        self.set_actions(Actions {
            reboot: args.reboot.unwrap_or(actions.reboot),
            shutdown: args.shutdown.unwrap_or(actions.shutdown),
            panic: args.panic.unwrap_or(actions.panic),
        });
        if let Some(action) = args.watchdog {
            self.watchdog.set(action);
        }
        Ok(())
    }

    async fn watchdog_set_action(&self, (): &(), args: WatchdogSetActionArgs) -> Result<(), Error> {
        self.watchdog.set(args.action);
        Ok(())
    }

    async fn query_stats(&self, (): &(), filter: StatsFilter) -> Result<Vec<StatsResult>, Error> {
        self.guest.as_deref().map_or(Ok(Vec::new()), |guest| stats::query(guest, &filter))
    }

    async fn query_stats_schemas(&self, (): &(), args: QueryStatsSchemasArgs) -> Result<Vec<StatsSchema>, Error> {
        self.guest.as_deref().map_or(Ok(Vec::new()), |guest| stats::schemas(guest, &args))
    }

    async fn query_block(&self, (): &()) -> Result<Vec<BlockInfo>, Error> {
        Ok(Vec::new())
    }

    async fn query_blockstats(&self, (): &(), _: QueryBlockstatsArgs) -> Result<Vec<BlockStats>, Error> {
        Ok(Vec::new())
    }

    async fn query_named_block_nodes(
        &self,
        (): &(),
        _: QueryNamedBlockNodesArgs,
    ) -> Result<Vec<BlockDeviceInfo>, Error> {
        Ok(Vec::new())
    }

    async fn query_jobs(&self, (): &()) -> Result<Vec<JobInfo>, Error> {
        Ok(Vec::new())
    }

    async fn query_migrate(&self, (): &()) -> Result<MigrationInfo, Error> {
        let reason = "the machine's devices cannot be saved";
        Ok(MigrationInfo { status: None, blocked_reasons: Some(vec![reason.to_owned()]) })
    }

    async fn query_migrate_capabilities(&self, (): &()) -> Result<Vec<MigrationCapabilityStatus>, Error> {
        let state = self.migration_events.get();
        Ok(vec![MigrationCapabilityStatus { capability: MigrationCapability::Events, state }])
    }

    async fn migrate_set_capabilities(&self, (): &(), args: MigrateSetCapabilitiesArgs) -> Result<(), Error> {
        for status in args.capabilities {
            match status.capability {
                MigrationCapability::Events => self.migration_events.set(status.state),
            }
        }
        Ok(())
    }
}
