//! S390 CPU models.

use super::props;
use crate::accel::hostfile::HostDescription;
use crate::cpu::s390x::{self, Compat, Cpus, DefinitionInfo, Expansion, Host, ModelArgument, ModelInfo};
use crate::monitor::guest::Guest;
use crate::qapi::Error;
use crate::qapi::qmp::{
    CpuDefinitionAccelerator, CpuDefinitionInfo, CpuModelBaselineInfo, CpuModelCompareInfo, CpuModelCompareResult,
    CpuModelExpansionInfo, CpuModelExpansionType, CpuModelInfo, CurrentCpuModel, QueryCpuModelBaselineArgs,
    QueryCpuModelComparisonArgs, QueryCpuModelExpansionArgs,
};
use crate::qapi::visit::Any;

/// Whether there are CPU descriptions: not where no accelerator that can be used knows of CPU models.
pub(super) async fn cpu_desc_avail(guest: &Guest) -> bool {
    s390x::cpu_desc_avail(&hosts(guest).await)
}

pub(super) async fn definitions(guest: &Guest) -> Result<Vec<CpuDefinitionInfo>, Error> {
    let probed = hosts(guest).await;
    let cpus = Cpus::new(compat(guest), probed.first());
    let info = |definition: DefinitionInfo| CpuDefinitionInfo {
        name: definition.name.to_owned(),
        migration_safe: Some(definition.migration_safe),
        r#static: Some(definition.is_static),
        unavailable_features: definition.unavailable_features.map(owned),
        typename: Some(definition.typename.to_owned()),
        alias_of: definition.alias_of.map(str::to_owned),
        deprecated: Some(false),
        accelerators: (!definition.accelerators.is_empty()).then(|| {
            let accelerators = definition.accelerators.into_iter();
            accelerators
                .map(|accelerator| CpuDefinitionAccelerator {
                    name: accelerator.name,
                    runnable: accelerator.runnable,
                    default: accelerator.default,
                })
                .collect()
        }),
    };
    Ok(cpus.definitions(&probed).into_iter().map(info).collect())
}

pub(super) async fn current(guest: &Guest) -> Result<CurrentCpuModel, Error> {
    let probed = hosts(guest).await;
    let Some(host) = probed.first() else {
        return Ok(CurrentCpuModel {
            name: None,
            accelerator: None,
        });
    };
    let cpus = Cpus::new(compat(guest), Some(host));
    let model = cpus
        .parse(guest.config.machine.cpu.as_deref())
        .map_err(|error| generic(&error))?;
    Ok(CurrentCpuModel {
        name: Some(cpus.query_cpu_model(&model).to_owned()),
        accelerator: Some(host.accelerator.clone()),
    })
}

pub(super) async fn expansion(guest: &Guest, args: QueryCpuModelExpansionArgs) -> Result<CpuModelExpansionInfo, Error> {
    let probed = hosts(guest).await;
    let cpus = Cpus::new(compat(guest), probed.first());
    let kind = match args.r#type {
        CpuModelExpansionType::Static => Expansion::Static,
        CpuModelExpansionType::Full => Expansion::Full,
    };
    let expanded = cpus
        .expand(kind, argument(&args.model, "model"))
        .map_err(|error| generic(&error))?;
    Ok(CpuModelExpansionInfo {
        model: model_info(expanded.model),
        deprecated_props: Some(owned(expanded.deprecated_props)),
    })
}

pub(super) async fn comparison(guest: &Guest, args: QueryCpuModelComparisonArgs) -> Result<CpuModelCompareInfo, Error> {
    let probed = hosts(guest).await;
    let cpus = Cpus::new(compat(guest), probed.first());
    let compared = cpus
        .compare(argument(&args.modela, "modela"), argument(&args.modelb, "modelb"))
        .map_err(|error| generic(&error))?;
    let result = compared.result.as_str();
    Ok(CpuModelCompareInfo {
        result: CpuModelCompareResult::from_wire(result)
            .ok_or_else(|| Error::generic(format!("'{result}' is no result of a comparison")))?,
        responsible_properties: owned(compared.responsible_properties),
    })
}

pub(super) async fn baseline(guest: &Guest, args: QueryCpuModelBaselineArgs) -> Result<CpuModelBaselineInfo, Error> {
    let probed = hosts(guest).await;
    let cpus = Cpus::new(compat(guest), probed.first());
    let model = cpus
        .baseline(argument(&args.modela, "modela"), argument(&args.modelb, "modelb"))
        .map_err(|error| generic(&error))?;
    Ok(CpuModelBaselineInfo {
        model: model_info(model),
    })
}

/// The hosts of all accelerators that can be used; the first is the one in use.
async fn hosts(guest: &Guest) -> Vec<Host> {
    let described = |probed: &crate::monitor::cpu::Probed| match &probed.host {
        Ok(HostDescription::S390x(host)) => Some(Host {
            accelerator: probed.name.clone(),
            ..host.clone()
        }),
        _ => None,
    };
    guest.hosts.all().await.iter().filter_map(described).collect()
}

fn compat(guest: &Guest) -> Compat {
    let machine = guest.config.machine.machine_type.as_deref().unwrap_or("none");
    Compat::of_machine(machine).unwrap_or_else(Compat::newest)
}

fn argument<'a>(model: &'a CpuModelInfo, argument: &'a str) -> ModelArgument<'a> {
    ModelArgument {
        name: &model.name,
        props: model.props.as_ref().map(Any::value),
        argument,
    }
}

fn model_info(model: ModelInfo) -> CpuModelInfo {
    let there = !model.props.is_empty();
    CpuModelInfo {
        name: model.name.to_string(),
        props: there.then(|| props(model.props)),
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn generic(error: &s390x::Error) -> Error {
    Error::generic(error.to_string())
}
