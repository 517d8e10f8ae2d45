//! The commands that run in the worker.

mod block;
mod devices;
mod input;
mod machine;
mod save;
mod stats;

use serde_json::{Map, Value};

use crate::logging::{self, events};
use crate::machine::guest::Guest;
use crate::qapi::Error;
use crate::qapi::qmp::{
    AnnounceParameters, BlockDeviceInfo, BlockInfo, BlockResizeArgs, BlockStats, BlockdevDelArgs, BlockdevOptions,
    CpuInfoFast, DeviceDelArgs, HotpluggableCPU, IOThreadInfo, InputSendEventArgs, JobInfo, Memdev, MemoryDeviceInfo,
    MemoryInfo, MemsaveArgs, MigrateArgs, MigrateContinueArgs, MigrateIncomingArgs, MigrateSetCapabilitiesArgs,
    MigrationCapabilityStatus, MigrationInfo, MigrationParameters, Netdev, NetdevDelArgs, ObjectDelArgs, ObjectOptions,
    ObjectPropertiesValues, ObjectPropertyInfo, PciInfo, PmemsaveArgs, QomGetArgs, QomListArgs, QomListGetArgs,
    QomSetArgs, QueryBlockstatsArgs, QueryNamedBlockNodesArgs, QueryRxFilterArgs, QueryStatsSchemasArgs, RxFilterInfo,
    SendKeyArgs, SetActionArgs, SetLinkArgs, ShutdownCause, StatsFilter, StatsResult, StatsSchema,
    TraceEventGetStateArgs, TraceEventInfo, TraceEventState, WatchdogSetActionArgs, WorkerCommands,
};
use crate::qapi::visit::{Any, encoded};

use super::core::Core;
use super::runstate::Actions;
use super::{networks, objects};
use crate::io::run_blocking;

/// Checks the name of an event; a pattern may fit none.
///
/// # Errors
/// There is no such event.
pub fn check_event(name: &str) -> Result<(), Error> {
    if events::is_name(name) && !events::EVENTS.contains(&name) {
        return Err(Error::generic(format!("unknown event \"{name}\"")));
    }
    Ok(())
}

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

    async fn send_key(&self, (): &(), args: SendKeyArgs) -> Result<(), Error> {
        input::send_key(self, &args)
    }

    async fn input_send_event(&self, (): &(), args: InputSendEventArgs) -> Result<(), Error> {
        input::send_event(self, &args)
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
        self.guest
            .as_deref()
            .map_or(Ok(Vec::new()), |guest| stats::query(guest, &filter))
    }

    async fn query_stats_schemas(&self, (): &(), args: QueryStatsSchemasArgs) -> Result<Vec<StatsSchema>, Error> {
        self.guest
            .as_deref()
            .map_or(Ok(Vec::new()), |guest| stats::schemas(guest, &args))
    }

    async fn trace_event_get_state(&self, (): &(), args: TraceEventGetStateArgs) -> Result<Vec<TraceEventInfo>, Error> {
        check_event(&args.name)?;
        let events = logging::event_states(&args.name).map(|(name, is_enabled)| TraceEventInfo {
            name: name.to_owned(),
            state: match is_enabled {
                true => TraceEventState::Enabled,
                false => TraceEventState::Disabled,
            },
        });
        Ok(events.collect())
    }

    async fn query_block(&self, (): &()) -> Result<Vec<BlockInfo>, Error> {
        Ok(self.graph.disks())
    }

    async fn query_blockstats(&self, (): &(), args: QueryBlockstatsArgs) -> Result<Vec<BlockStats>, Error> {
        Ok(block::stats(self, &args))
    }

    async fn blockdev_add(&self, (): &(), args: BlockdevOptions) -> Result<(), Error> {
        block::add(self, &args).await
    }

    async fn blockdev_del(&self, (): &(), args: BlockdevDelArgs) -> Result<(), Error> {
        self.graph.remove(&args.node_name).await
    }

    async fn block_resize(&self, (): &(), args: BlockResizeArgs) -> Result<(), Error> {
        block::resize(self, &args).await
    }

    async fn query_named_block_nodes(
        &self,
        (): &(),
        args: QueryNamedBlockNodesArgs,
    ) -> Result<Vec<BlockDeviceInfo>, Error> {
        Ok(self.graph.nodes(args.flat.unwrap_or(false)))
    }

    async fn query_jobs(&self, (): &()) -> Result<Vec<JobInfo>, Error> {
        Ok(Vec::new())
    }

    async fn query_migrate(&self, (): &()) -> Result<MigrationInfo, Error> {
        Ok(self.migration.info(self))
    }

    async fn query_migrate_capabilities(&self, (): &()) -> Result<Vec<MigrationCapabilityStatus>, Error> {
        Ok(self.migration.capabilities())
    }

    async fn migrate_set_capabilities(&self, (): &(), args: MigrateSetCapabilitiesArgs) -> Result<(), Error> {
        self.migration.set_capabilities(&args.capabilities)
    }

    async fn query_migrate_parameters(&self, (): &()) -> Result<MigrationParameters, Error> {
        Ok(self.migration.parameters())
    }

    async fn migrate_set_parameters(&self, (): &(), args: MigrationParameters) -> Result<(), Error> {
        self.migration.set_parameters(&args)
    }

    async fn migrate(&self, (): &(), args: MigrateArgs) -> Result<(), Error> {
        self.migration.migrate(self, args).await
    }

    async fn migrate_incoming(&self, (): &(), args: MigrateIncomingArgs) -> Result<(), Error> {
        self.migration.migrate_incoming(self, args).await
    }

    async fn migrate_cancel(&self, (): &()) -> Result<(), Error> {
        self.migration.cancel(self);
        Ok(())
    }

    async fn migrate_continue(&self, (): &(), args: MigrateContinueArgs) -> Result<(), Error> {
        self.migration.go_on(args.state)
    }

    async fn query_cpus_fast(&self, (): &()) -> Result<Vec<CpuInfoFast>, Error> {
        let cpus = self.guest.as_deref().map(Guest::vcpus).unwrap_or_default();
        Ok(cpus
            .into_iter()
            .map(|vcpu| machine::cpu(self.target, &self.cpu_type, vcpu))
            .collect())
    }

    async fn query_hotpluggable_cpus(&self, (): &()) -> Result<Vec<HotpluggableCPU>, Error> {
        let guest = self.guest()?;
        let (empty, cpus) = (guest.empty_slots().into_iter(), guest.vcpus().into_iter());
        // The last one comes first, as in QEMU.
        let empty = empty
            .rev()
            .map(|slot| machine::empty_slot(self.target, &self.cpu_type, slot));
        let cpus = cpus
            .rev()
            .map(|vcpu| machine::hotpluggable(self.target, &self.cpu_type, vcpu));
        Ok(empty.chain(cpus).collect())
    }

    async fn query_memdev(&self, (): &()) -> Result<Vec<Memdev>, Error> {
        let memdevs = self.guest.as_deref().map(Guest::memdevs).unwrap_or_default();
        let spare = self.objects.borrow().spare_memdevs();
        Ok(memdevs.into_iter().chain(spare).map(machine::memdev).collect())
    }

    async fn query_memory_devices(&self, (): &()) -> Result<Vec<MemoryDeviceInfo>, Error> {
        Ok(Vec::new())
    }

    async fn query_memory_size_summary(&self, (): &()) -> Result<MemoryInfo, Error> {
        Ok(machine::size_summary(self))
    }

    async fn memsave(&self, (): &(), args: MemsaveArgs) -> Result<(), Error> {
        let guest = self.guest()?;
        let index = machine::cpu_index(guest, args.cpu_index.unwrap_or(0))?;
        // What is not mapped is told with the range that was asked for, not with the piece of it.
        let invalid = |error: Error| match error.desc.starts_with("Invalid addr") {
            true => Error::generic(format!("Invalid addr 0x{:016x}/size {} specified", args.val, args.size)),
            false => error,
        };
        save::save(&args.filename, args.val, args.size, |addr, data| {
            guest.read_virtual(index, addr, data).map_err(invalid)
        })
        .await
    }

    async fn pmemsave(&self, (): &(), args: PmemsaveArgs) -> Result<(), Error> {
        let guest = self.guest()?;
        save::save(&args.filename, args.val, args.size, |addr, data| {
            guest.read_physical(addr, data)
        })
        .await
    }

    async fn qom_list(&self, (): &(), args: QomListArgs) -> Result<Vec<ObjectPropertyInfo>, Error> {
        objects::decode_all(self.tree.borrow().list(&args.path)?)
    }

    async fn qom_get(&self, (): &(), args: QomGetArgs) -> Result<Any, Error> {
        self.tree.borrow().get(&args.path, &args.property).map(Any::from)
    }

    async fn qom_set(&self, (): &(), args: QomSetArgs) -> Result<(), Error> {
        self.tree.borrow().set(&args.path, &args.property, args.value.value())
    }

    async fn qom_list_get(&self, (): &(), args: QomListGetArgs) -> Result<Vec<ObjectPropertiesValues>, Error> {
        objects::decode_all(self.tree.borrow().list_get(args.paths.iter().map(String::as_str))?)
    }

    async fn query_iothreads(&self, (): &()) -> Result<Vec<IOThreadInfo>, Error> {
        Ok(self.objects.borrow().iothreads())
    }

    async fn query_pci(&self, (): &()) -> Result<Vec<PciInfo>, Error> {
        Ok(self.guest.as_deref().map(|guest| guest.pci()).unwrap_or_default())
    }

    async fn object_add(&self, (): &(), args: ObjectOptions) -> Result<(), Error> {
        let Ok(Value::Object(properties)) = serde_json::from_slice(&encoded(&args)) else {
            return Err(Error::generic("the object's properties are not an object"));
        };
        let (plan, supply) = self.plan_object(&properties)?;
        let supplied = match supply.is_nothing() {
            true => supply.get(),
            false => run_blocking(move || supply.get()).await?,
        };
        Ok(self.make_object(plan, supplied)?)
    }

    async fn object_del(&self, (): &(), args: ObjectDelArgs) -> Result<(), Error> {
        Ok(self.remove_object(&args.id)?)
    }

    async fn device_add(&self, (): &(), args: Map<String, Value>) -> Result<(), Error> {
        devices::add(self, &args).await
    }

    async fn netdev_add(&self, (): &(), args: Netdev) -> Result<(), Error> {
        networks::add(self, &args).await
    }

    async fn netdev_del(&self, (): &(), args: NetdevDelArgs) -> Result<(), Error> {
        let removed = self.networks()?.remove(&args.id);
        removed.map_err(|error| networks::refusal(&error))
    }

    async fn set_link(&self, (): &(), args: SetLinkArgs) -> Result<(), Error> {
        let set = self.networks()?.set_link(&args.name, args.up);
        set.map_err(|error| networks::refusal(&error))
    }

    async fn query_rx_filter(&self, (): &(), args: QueryRxFilterArgs) -> Result<Vec<RxFilterInfo>, Error> {
        networks::rx_filters(self, args.name.as_deref())
    }

    async fn announce_self(&self, (): &(), args: AnnounceParameters) -> Result<(), Error> {
        self.networks()?.announce(networks::schedule(args));
        Ok(())
    }

    async fn device_del(&self, (): &(), args: DeviceDelArgs) -> Result<(), Error> {
        devices::del(self, &args.id)
    }
}
