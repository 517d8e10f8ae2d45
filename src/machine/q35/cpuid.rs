//! What CPUID tells the guest.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};

use crate::{
    accel::kvm::{KvmError, x86_64::System},
    machine::config::SmpConfig,
};

/// Leaf 1, ECX: TSC deadline timer. The in-kernel APIC has it, though KVM_GET_SUPPORTED_CPUID leaves it out.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: there is a hypervisor, whose leaves start at 0x40000000. Left out as well.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ECX: the local APIC has its x2APIC mode. The in-kernel one always has.
const X2APIC: u32 = 1 << 21;
/// Leaf 1, EDX: more than one logical processor in a package.
const HTT: u32 = 1 << 28;

/// All that the host's KVM offers, with the vCPU's place in the topology.
pub(crate) fn host(system: &System, apic_id: u32, smp: &SmpConfig) -> Result<CpuId, KvmError> {
    let supported = system
        .kvm()
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| KvmError::request("KVM_GET_SUPPORTED_CPUID", error))?;
    let mut entries: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    for entry in &mut entries {
        set_topology(entry, apic_id, smp);
    }
    CpuId::from_entries(&entries)
        .map_err(|error| KvmError::request("CPUID entries", std::io::Error::other(format!("{error:?}"))))
}

fn set_topology(entry: &mut kvm_cpuid_entry2, apic_id: u32, smp: &SmpConfig) {
    let threads = smp.threads.max(1);
    let per_socket = smp.dies.max(1) * smp.modules.max(1) * smp.cores.max(1) * threads;
    match (entry.function, entry.index) {
        (1, _) => {
            entry.ebx = entry.ebx & 0xffff | (apic_id & 0xff) << 24 | (per_socket.min(255)) << 16;
            entry.ecx |= TSC_DEADLINE | X2APIC | HYPERVISOR;
            entry.edx = if per_socket > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        (0xb | 0x1f, 0) => {
            entry.eax = bits(threads);
            entry.ebx = threads;
            entry.ecx = 1 << 8;
            entry.edx = apic_id;
        }
        (0xb | 0x1f, 1) => {
            entry.eax = bits(threads) + bits(smp.cores) + bits(smp.modules) + bits(smp.dies);
            entry.ebx = per_socket;
            entry.ecx = 2 << 8 | 1;
            entry.edx = apic_id;
        }
        (0xb | 0x1f, index) => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, index, apic_id);
        }
        _ => {}
    }
}

/// Bits needed to number `count` things.
fn bits(count: u32) -> u32 {
    u32::BITS - count.max(1).saturating_sub(1).leading_zeros()
}
