//! The commands that run in the monitor.

mod cpu;
mod machine;

use crate::chardev::{ChardevOptions, ChardevRegistry, DataFormat as TextFormat};
use crate::ipc::message::LogChange;
use crate::qapi::Error;
use crate::qapi::qmp::{
    AddFdArgs, AddfdInfo, ChardevAddArgs, ChardevBackend, ChardevBackendInfo, ChardevChangeArgs, ChardevInfo,
    ChardevRemoveArgs, ChardevReturn, ChardevSendBreakArgs, ClosefdArgs, CommandLineOptionInfo, CpuDefinitionInfo,
    CpuModelBaselineInfo, CpuModelCompareInfo, CpuModelExpansionInfo, CurrentCpuModel, CurrentMachineParams,
    DataFormat, DeviceListPropertiesArgs, FdsetFdInfo, FdsetInfo, GetfdArgs, HumanMonitorCommandArgs, KvmInfo,
    MachineInfo, MonitorCommands, NameInfo, ObjectPropertyInfo, ObjectTypeInfo, QemuTargetInfo, QomListPropertiesArgs,
    QomListTypesArgs, QueryCommandLineOptionsArgs, QueryCpuModelBaselineArgs, QueryCpuModelComparisonArgs,
    QueryCpuModelExpansionArgs, RemoveFdArgs, RingbufReadArgs, RingbufWriteArgs, RunState, StatusInfo, SysEmuTarget,
    TraceEventSetStateArgs, UuidInfo, VersionInfo,
};
use crate::qapi::visit::{At, Decode, Mode, encoded};
use crate::target::Target;
use crate::worker::commands::check_event;

use super::guest::Guest;
use super::pump::CallContext;

impl MonitorCommands for Guest {
    type Context = CallContext;

    async fn query_version(&self, _: &CallContext) -> Result<VersionInfo, Error> {
        Ok(super::version())
    }

    async fn query_target(&self, _: &CallContext) -> Result<QemuTargetInfo, Error> {
        let arch = match self.target() {
            Target::X86_64 => SysEmuTarget::X86_64,
            Target::S390x => SysEmuTarget::S390x,
        };
        Ok(QemuTargetInfo { arch })
    }

    async fn query_name(&self, _: &CallContext) -> Result<NameInfo, Error> {
        Ok(NameInfo {
            name: self.config.machine.name.clone(),
        })
    }

    async fn query_uuid(&self, _: &CallContext) -> Result<UuidInfo, Error> {
        Ok(UuidInfo {
            uuid: machine::uuid_text(self.config.machine.uuid.unwrap_or_default()),
        })
    }

    async fn query_status(&self, _: &CallContext) -> Result<StatusInfo, Error> {
        let status = self.status();
        Ok(StatusInfo {
            running: status == RunState::Running,
            status,
        })
    }

    async fn quit(&self, _: &CallContext) -> Result<(), Error> {
        Guest::quit(self).await;
        Ok(())
    }

    async fn query_kvm(&self, _: &CallContext) -> Result<KvmInfo, Error> {
        Ok(KvmInfo {
            enabled: self.hosts.kvm_enabled().await,
            present: self.target().is_native(),
        })
    }

    async fn query_machines(&self, _: &CallContext) -> Result<Vec<MachineInfo>, Error> {
        Ok(machine::machines(self.target(), self.hosts.kvm_enabled().await))
    }

    async fn query_current_machine(&self, _: &CallContext) -> Result<CurrentMachineParams, Error> {
        Ok(CurrentMachineParams {
            wakeup_suspend_support: self.has_guest() && self.target() == Target::X86_64,
        })
    }

    async fn query_command_line_options(
        &self,
        _: &CallContext,
        args: QueryCommandLineOptionsArgs,
    ) -> Result<Vec<CommandLineOptionInfo>, Error> {
        let properties = self.registry.properties(machine::base_type(self.target()));
        let options = crate::cmdline::introspect::command_line_options(self.target(), properties.into_iter());
        let options: Vec<CommandLineOptionInfo> = decode_all(options)?;
        let Some(name) = args.option else {
            return Ok(options);
        };
        let found: Vec<_> = options.into_iter().filter(|option| option.option == name).collect();
        if found.is_empty() {
            return Err(Error::generic(format!("invalid option name: {name}")));
        }
        Ok(found)
    }

    async fn qom_list_types(&self, _: &CallContext, args: QomListTypesArgs) -> Result<Vec<ObjectTypeInfo>, Error> {
        decode_all(
            self.registry
                .list_types(args.implements.as_deref(), args.r#abstract.unwrap_or(false)),
        )
    }

    async fn qom_list_properties(
        &self,
        _: &CallContext,
        args: QomListPropertiesArgs,
    ) -> Result<Vec<ObjectPropertyInfo>, Error> {
        decode_all(self.registry.list_properties(&args.typename)?)
    }

    async fn device_list_properties(
        &self,
        _: &CallContext,
        args: DeviceListPropertiesArgs,
    ) -> Result<Vec<ObjectPropertyInfo>, Error> {
        decode_all(self.registry.list_device_properties(&args.typename)?)
    }

    async fn query_cpu_definitions(&self, _: &CallContext) -> Result<Vec<CpuDefinitionInfo>, Error> {
        cpu::definitions(self).await
    }

    async fn query_cpu_model(&self, _: &CallContext) -> Result<CurrentCpuModel, Error> {
        cpu::current(self).await
    }

    async fn query_cpu_model_expansion(
        &self,
        _: &CallContext,
        args: QueryCpuModelExpansionArgs,
    ) -> Result<CpuModelExpansionInfo, Error> {
        cpu::expansion(self, args).await
    }

    async fn query_cpu_model_comparison(
        &self,
        _: &CallContext,
        args: QueryCpuModelComparisonArgs,
    ) -> Result<CpuModelCompareInfo, Error> {
        cpu::comparison(self, args).await
    }

    async fn query_cpu_model_baseline(
        &self,
        _: &CallContext,
        args: QueryCpuModelBaselineArgs,
    ) -> Result<CpuModelBaselineInfo, Error> {
        cpu::baseline(self, args).await
    }

    async fn getfd(&self, cx: &CallContext, args: GetfdArgs) -> Result<(), Error> {
        Ok(self.chardevs.fds().getfd(&args.fdname, cx.take_fd())?)
    }

    async fn closefd(&self, _: &CallContext, args: ClosefdArgs) -> Result<(), Error> {
        Ok(self.chardevs.fds().closefd(&args.fdname)?)
    }

    async fn add_fd(&self, cx: &CallContext, args: AddFdArgs) -> Result<AddfdInfo, Error> {
        let added = self.chardevs.fds().add_fd(args.fdset_id, args.opaque, cx.take_fd())?;
        Ok(AddfdInfo {
            fdset_id: added.set,
            fd: i64::from(added.fd),
        })
    }

    async fn remove_fd(&self, _: &CallContext, args: RemoveFdArgs) -> Result<(), Error> {
        Ok(self.chardevs.fds().remove_fd(args.fdset_id, args.fd)?)
    }

    async fn query_fdsets(&self, _: &CallContext) -> Result<Vec<FdsetInfo>, Error> {
        let sets = self.chardevs.fds().query_fdsets().into_iter();
        Ok(sets
            .map(|set| FdsetInfo {
                fdset_id: set.id,
                fds: set
                    .fds
                    .into_iter()
                    .map(|(fd, opaque)| FdsetFdInfo {
                        fd: i64::from(fd),
                        opaque,
                    })
                    .collect(),
            })
            .collect())
    }

    async fn query_chardev(&self, _: &CallContext) -> Result<Vec<ChardevInfo>, Error> {
        let chardevs = self.chardevs.query().into_iter();
        Ok(chardevs
            .map(|chardev| ChardevInfo {
                label: chardev.label,
                filename: chardev.filename,
                frontend_open: chardev.frontend_open,
            })
            .collect())
    }

    async fn query_chardev_backends(&self, _: &CallContext) -> Result<Vec<ChardevBackendInfo>, Error> {
        Ok(ChardevRegistry::backends()
            .iter()
            .map(|name| ChardevBackendInfo {
                name: (*name).to_owned(),
            })
            .collect())
    }

    async fn chardev_add(&self, _: &CallContext, args: ChardevAddArgs) -> Result<ChardevReturn, Error> {
        let added = self
            .chardevs
            .qmp_add(&args.id, &chardev_backend(&args.backend)?)
            .await?;
        Ok(ChardevReturn { pty: added.pty })
    }

    async fn chardev_change(&self, _: &CallContext, args: ChardevChangeArgs) -> Result<ChardevReturn, Error> {
        let options = ChardevOptions::from_backend(&args.id, &chardev_backend(&args.backend)?)?;
        Ok(ChardevReturn {
            pty: self.chardevs.change(options).await?.pty,
        })
    }

    async fn chardev_remove(&self, _: &CallContext, args: ChardevRemoveArgs) -> Result<(), Error> {
        Ok(self.chardevs.remove(&args.id).await?)
    }

    async fn chardev_send_break(&self, _: &CallContext, args: ChardevSendBreakArgs) -> Result<(), Error> {
        Ok(self.chardevs.send_break(&args.id)?)
    }

    async fn ringbuf_read(&self, _: &CallContext, args: RingbufReadArgs) -> Result<String, Error> {
        Ok(self
            .chardevs
            .ringbuf_read(&args.device, args.size, text_format(args.format))?)
    }

    async fn ringbuf_write(&self, _: &CallContext, args: RingbufWriteArgs) -> Result<(), Error> {
        Ok(self
            .chardevs
            .ringbuf_write(&args.device, &args.data, text_format(args.format))?)
    }

    async fn trace_event_set_state(&self, _: &CallContext, args: TraceEventSetStateArgs) -> Result<(), Error> {
        check_event(&args.name)?;
        self.change_log(match args.enable {
            true => LogChange::EnableEvents(args.name),
            false => LogChange::DisableEvents(args.name),
        })
        .await
    }

    async fn human_monitor_command(&self, _: &CallContext, args: HumanMonitorCommandArgs) -> Result<String, Error> {
        if let Some(index) = args.cpu_index {
            super::human::check_cpu(self, index).await?;
        }
        Ok(super::human::run(self, &args.command_line, args.cpu_index).await)
    }
}

/// The registry reads what the schema has checked, so that the command line and QMP share one set of rules.
fn chardev_backend(backend: &ChardevBackend) -> Result<serde_json::Value, Error> {
    serde_json::from_slice(&encoded(backend)).map_err(|error| Error::generic(error.to_string()))
}

fn text_format(format: Option<DataFormat>) -> TextFormat {
    match format {
        Some(DataFormat::Base64) => TextFormat::Base64,
        Some(DataFormat::Utf8) | None => TextFormat::Utf8,
    }
}

/// Reads values that a registry made as the schema's types.
fn decode_all<T: Decode>(values: Vec<serde_json::Value>) -> Result<Vec<T>, Error> {
    values
        .into_iter()
        .map(|value| T::decode(value, &At::root(Mode::Json)))
        .collect()
}
