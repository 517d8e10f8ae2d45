//! CPU models: each target's answers in the schema's types.

mod s390x;
mod x86;

use crate::qapi::Error;
use crate::qapi::qmp::{
    CpuDefinitionInfo, CpuModelBaselineInfo, CpuModelCompareInfo, CpuModelExpansionInfo, CurrentCpuModel,
    QueryCpuModelBaselineArgs, QueryCpuModelComparisonArgs, QueryCpuModelExpansionArgs,
};
use crate::qapi::visit::{Any, Encode};
use crate::target::Target;

use super::Guest;

pub(super) async fn definitions(guest: &Guest) -> Result<Vec<CpuDefinitionInfo>, Error> {
    if !cpu_desc_avail(guest).await {
        return Ok(vec![name_only("host")]);
    }
    match guest.target() {
        Target::X86_64 => x86::definitions(guest).await,
        Target::S390x => s390x::definitions(guest).await,
    }
}

/// Whether the target has CPU descriptions at all.
async fn cpu_desc_avail(guest: &Guest) -> bool {
    match guest.target() {
        Target::X86_64 => true,
        Target::S390x => s390x::cpu_desc_avail(guest).await,
    }
}

/// A model of which nothing is known.
fn name_only(name: &str) -> CpuDefinitionInfo {
    CpuDefinitionInfo {
        name: name.to_owned(),
        migration_safe: None,
        r#static: None,
        unavailable_features: None,
        typename: None,
        alias_of: None,
        deprecated: None,
        accelerators: None,
    }
}

/// `query-cpu-model`: the model of the running guest; nothing where there is no guest.
pub(super) async fn current(guest: &Guest) -> Result<CurrentCpuModel, Error> {
    let nothing = CurrentCpuModel {
        name: None,
        accelerator: None,
    };
    if !guest.has_guest() {
        return Ok(nothing);
    }
    match guest.target() {
        Target::X86_64 => x86::current(guest).await,
        Target::S390x => s390x::current(guest).await,
    }
}

pub(super) async fn expansion(guest: &Guest, args: QueryCpuModelExpansionArgs) -> Result<CpuModelExpansionInfo, Error> {
    match guest.target() {
        Target::X86_64 => x86::expansion(guest, args).await,
        Target::S390x => s390x::expansion(guest, args).await,
    }
}

pub(super) async fn comparison(guest: &Guest, args: QueryCpuModelComparisonArgs) -> Result<CpuModelCompareInfo, Error> {
    match guest.target() {
        Target::X86_64 => Err(Error::generic("CPU model comparison is not supported on this target")),
        Target::S390x => s390x::comparison(guest, args).await,
    }
}

pub(super) async fn baseline(guest: &Guest, args: QueryCpuModelBaselineArgs) -> Result<CpuModelBaselineInfo, Error> {
    match guest.target() {
        Target::X86_64 => Err(Error::generic("CPU model baseline is not supported on this target")),
        Target::S390x => s390x::baseline(guest, args).await,
    }
}

/// Properties in the order given.
fn props<N: AsRef<str>, V: Encode>(pairs: impl IntoIterator<Item = (N, V)>) -> Any {
    Any::object(|object| {
        for (name, value) in pairs {
            object.member(name.as_ref(), &value);
        }
    })
}
