//! x86_64 CPU models.

use crate::monitor::guest::Guest;
use crate::qapi::Error;
use crate::qapi::qmp::{CpuDefinitionInfo, CpuModelExpansionInfo, CurrentCpuModel, QueryCpuModelExpansionArgs};

pub(super) async fn definitions(_guest: &Guest) -> Result<Vec<CpuDefinitionInfo>, Error> {
    Ok(Vec::new())
}

pub(super) async fn current(_guest: &Guest) -> Result<CurrentCpuModel, Error> {
    Ok(CurrentCpuModel {
        name: None,
        accelerator: None,
    })
}

pub(super) async fn expansion(
    _guest: &Guest,
    args: QueryCpuModelExpansionArgs,
) -> Result<CpuModelExpansionInfo, Error> {
    Err(Error::generic(format!("CPU model '{}' not found", args.model.name)))
}
