//! What the machine is made of: vCPUs and memory, in the schema's types.

use crate::machine::guest::Guest;
use crate::machine::info::{EmptySlotInfo, MemdevInfo, VcpuInfo};
use crate::machine::topology::TopologyIds;
use crate::qapi::Error;
use crate::qapi::qmp::{
    CpuInfoFast, CpuInfoFastVariant, CpuInfoS390, CpuInstanceProperties, HostMemPolicy, HotpluggableCPU, Memdev,
    MemoryInfo, S390CpuState,
};
use crate::target::Target;
use crate::worker::core::Core;

/// A vCPU as `query-cpus-fast` shows it.
pub(super) fn cpu(target: Target, qom_type: &str, vcpu: VcpuInfo) -> CpuInfoFast {
    CpuInfoFast {
        cpu_index: i64::from(vcpu.index),
        qom_type: qom_type.to_owned(),
        thread_id: i64::from(vcpu.thread_id),
        props: Some(place(target, vcpu.index, vcpu.ids, vcpu.node)),
        qom_path: vcpu.qom_path,
        variant: match target {
            Target::X86_64 => CpuInfoFastVariant::X86_64,
            Target::S390x => CpuInfoFastVariant::S390x(CpuInfoS390 {
                cpu_state: S390CpuState::Operating,
            }),
        },
    }
}

/// A vCPU as `query-hotpluggable-cpus` shows it.
pub(super) fn hotpluggable(target: Target, qom_type: &str, vcpu: VcpuInfo) -> HotpluggableCPU {
    HotpluggableCPU {
        r#type: qom_type.to_owned(),
        vcpus_count: 1,
        props: place(target, vcpu.index, vcpu.ids, vcpu.node),
        qom_path: Some(vcpu.qom_path),
    }
}

/// A place for a vCPU as `query-hotpluggable-cpus` shows it.
pub(super) fn empty_slot(target: Target, qom_type: &str, slot: EmptySlotInfo) -> HotpluggableCPU {
    HotpluggableCPU {
        r#type: qom_type.to_owned(),
        vcpus_count: 1,
        props: place(target, slot.index, slot.ids, slot.node),
        qom_path: None,
    }
}

fn place(target: Target, index: u32, ids: TopologyIds, node: Option<u16>) -> CpuInstanceProperties {
    let node_id = node.map(i64::from);
    if target == Target::S390x {
        return CpuInstanceProperties {
            node_id,
            core_id: Some(i64::from(index)),
            ..Default::default()
        };
    }
    CpuInstanceProperties {
        node_id,
        socket_id: Some(i64::from(ids.socket)),
        die_id: ids.die.map(i64::from),
        module_id: ids.module.map(i64::from),
        core_id: Some(i64::from(ids.core)),
        thread_id: Some(i64::from(ids.thread)),
        ..Default::default()
    }
}

/// A memory backend as `query-memdev` shows it.
pub(super) fn memdev(info: MemdevInfo) -> Memdev {
    Memdev {
        id: Some(info.id),
        size: info.size,
        merge: info.merge,
        dump: info.dump,
        prealloc: info.prealloc,
        share: info.share,
        reserve: Some(info.reserve),
        host_nodes: info
            .host_nodes
            .into_iter()
            .filter_map(|node| u16::try_from(node).ok())
            .collect(),
        policy: HostMemPolicy::from_wire(info.policy).unwrap_or(HostMemPolicy::Default),
    }
}

/// The vCPU that a command means.
///
/// # Errors
/// There is none of this index.
pub(super) fn cpu_index(guest: &dyn Guest, index: i64) -> Result<u32, Error> {
    let index = u32::try_from(index).ok();
    let index = index.filter(|index| guest.vcpus().iter().any(|vcpu| vcpu.index == *index));
    index.ok_or_else(|| Error::generic("Parameter 'cpu-index' expects a CPU number"))
}

/// How much memory the guest has.
pub(super) fn size_summary(core: &Core) -> MemoryInfo {
    let base_memory = match core.guest.as_deref() {
        Some(guest) => guest.memory_regions().iter().map(|region| region.size).sum(),
        None => core.spare_ram().map_or(0, |_| core.config.machine.memory.size),
    };
    MemoryInfo {
        base_memory,
        plugged_memory: Some(0),
    }
}
