//! `blockdev-add` and its kin.

use crate::qapi::Error;
use crate::qapi::qmp::{BlockResizeArgs, BlockStats, BlockdevOptions, QueryBlockstatsArgs};
use crate::worker::core::Core;

pub(super) async fn add(core: &Core, options: &BlockdevOptions) -> Result<(), Error> {
    core.graph.add(&*core.opener, options).await
}

pub(super) async fn resize(core: &Core, args: &BlockResizeArgs) -> Result<(), Error> {
    let (device, node) = (args.device.as_deref(), args.node_name.as_deref());
    core.graph.resize(device, node, args.size).await
}

pub(super) fn stats(core: &Core, args: &QueryBlockstatsArgs) -> Vec<BlockStats> {
    match args.query_nodes {
        Some(true) => core.graph.node_stats(),
        _ => core.graph.disk_stats(),
    }
}
