//! x86_64 CPU models.

use crate::accel::hostfile::HostDescription;
use crate::cpu::x86::{Cpus, DEFAULT_MODEL, DefinitionInfo, Expansion, Host, PropValue};
use crate::machine::processor::ProcessorRequest;
use crate::monitor::guest::Guest;
use crate::qapi::Error;
use crate::qapi::qmp::{
    CpuDefinitionAccelerator, CpuDefinitionInfo, CpuModelExpansionInfo, CpuModelExpansionType, CpuModelInfo,
    CurrentCpuModel, QueryCpuModelExpansionArgs,
};
use crate::qapi::visit::{Any, Encode};

pub(super) async fn definitions(guest: &Guest) -> Result<Vec<CpuDefinitionInfo>, Error> {
    let request = ProcessorRequest::new(&guest.config.machine)?;
    let hosts = hosts(guest).await;
    let in_use = hosts.first().map(|(_, host)| *host);
    let definitions = request.cpus(in_use).definitions();
    let others: Vec<(&str, Cpus<'_>)> = hosts
        .iter()
        .skip(1)
        .map(|(name, host)| (*name, request.cpus(Some(host))))
        .collect();
    let accelerators = |definition: &DefinitionInfo| {
        let first = hosts.first().zip(definition.unavailable_features.as_ref());
        let first = first.map(|((name, _), missing)| accelerator(name, definition.name, missing.is_empty()));
        let others = others.iter().filter_map(|(name, cpus)| {
            let missing = cpus.unavailable_features(cpus.find(definition.name)?);
            Some(accelerator(name, definition.name, missing.is_empty()))
        });
        first.into_iter().chain(others).collect::<Vec<_>>()
    };
    let info = |definition: DefinitionInfo| {
        let accelerators = accelerators(&definition);
        let missing = definition.unavailable_features;
        CpuDefinitionInfo {
            name: definition.name.to_owned(),
            migration_safe: Some(definition.migration_safe),
            r#static: Some(definition.is_static),
            unavailable_features: missing.map(|names| names.into_iter().map(str::to_owned).collect()),
            typename: Some(definition.typename.to_owned()),
            alias_of: definition.alias_of.map(str::to_owned),
            deprecated: Some(false),
            accelerators: (!accelerators.is_empty()).then_some(accelerators),
        }
    };
    Ok(definitions.into_iter().map(info).collect())
}

fn accelerator(name: &str, model: &str, runnable: bool) -> CpuDefinitionAccelerator {
    CpuDefinitionAccelerator {
        name: name.to_owned(),
        runnable,
        default: model == DEFAULT_MODEL,
    }
}

pub(super) async fn current(guest: &Guest) -> Result<CurrentCpuModel, Error> {
    let request = ProcessorRequest::new(&guest.config.machine)?;
    let in_use = guest.hosts.in_use().await;
    Ok(CurrentCpuModel {
        name: in_use.map(|_| request.model.name().to_owned()),
        accelerator: in_use.map(|(name, _)| name.to_owned()),
    })
}

pub(super) async fn expansion(guest: &Guest, args: QueryCpuModelExpansionArgs) -> Result<CpuModelExpansionInfo, Error> {
    let request = ProcessorRequest::new(&guest.config.machine)?;
    let hosts = hosts(guest).await;
    let kind = match args.r#type {
        CpuModelExpansionType::Static => Expansion::Static,
        CpuModelExpansionType::Full => Expansion::Full,
    };
    let expanded = request
        .cpus(hosts.first().map(|(_, host)| *host))
        .expand(kind, &args.model.name, args.model.props.as_ref().map(Any::value))
        .map_err(|error| Error::generic(error.to_string()))?;
    Ok(CpuModelExpansionInfo {
        model: CpuModelInfo {
            props: Some(Any::object(|props| {
                expanded.for_each_prop(|name, value| props.member(name, &value));
            })),
            name: expanded.name,
        },
        deprecated_props: None,
    })
}

impl Encode for PropValue {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => value.encode(out),
            Self::Int(value) => value.encode(out),
            Self::Uint(value) => value.encode(out),
            Self::Text(value) => value.as_ref().encode(out),
        }
    }
}

/// The hosts of all accelerators that can be used, by accelerator; the first is the one in use.
async fn hosts(guest: &Guest) -> Vec<(&str, &Host)> {
    let probed = guest.hosts.all().await.iter();
    probed
        .filter_map(|probed| match &probed.host {
            Ok(HostDescription::X86(host)) => Some((probed.name.as_str(), &**host)),
            _ => None,
        })
        .collect()
}
