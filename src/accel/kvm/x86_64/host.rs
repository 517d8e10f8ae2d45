//! What this host offers to CPU models.

use std::collections::BTreeMap;

use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV, KVM_CAP_HYPERV_VP_INDEX, KVM_CAP_MCE, KVM_CAP_NESTED_STATE, KVM_CAP_SYS_HYPERV_CPUID,
    KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_X86_DISABLE_EXITS, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry,
};
use kvm_ioctls::Kvm;
use raw_cpuid::native_cpuid::cpuid_count;

use super::{ioctls, system::System};
use crate::accel::kvm::KvmError;
use crate::cpu::x86::{CpuidEntry, Host};

/// The capabilities that CPU models depend on.
const CAPABILITIES: [(u32, &str); 7] = [
    (KVM_CAP_MCE, "KVM_CAP_MCE"),
    (KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"),
    (KVM_CAP_X86_DISABLE_EXITS, "KVM_CAP_X86_DISABLE_EXITS"),
    (KVM_CAP_NESTED_STATE, "KVM_CAP_NESTED_STATE"),
    (KVM_CAP_HYPERV, "KVM_CAP_HYPERV"),
    (KVM_CAP_SYS_HYPERV_CPUID, "KVM_CAP_SYS_HYPERV_CPUID"),
    (KVM_CAP_HYPERV_VP_INDEX, "KVM_CAP_HYPERV_VP_INDEX"),
];

/// Where the ranges of leaves start: processor, hypervisor around this host, AMD's and Centaur's extensions.
const RANGES: [u32; 4] = [0, 0x4000_0000, 0x8000_0000, 0xc000_0000];
/// Most leaves a range is believed to have.
const RANGE_LEN: u32 = 0x100;
/// Leaves whose answer depends on ECX (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
const INDEXED: [u32; 19] = [
    0x4,
    0x7,
    0xb,
    XSAVE,
    0xf,
    0x10,
    0x12,
    0x14,
    0x17,
    0x18,
    0x1b,
    0x1d,
    0x1e,
    0x1f,
    0x20,
    0x23,
    0x24,
    0x8000_001d,
    0x8000_0020,
];
/// The leaf of XSAVE: its first two subleaves list the state components, each of which has a subleaf of its own.
const XSAVE: u32 = 0xd;
/// Most subleaves of other leaves; all end sooner.
const SUBLEAVES: u32 = 32;

/// What this host offers to CPU models, the rate of its time stamp counter included.
///
/// # Errors
/// When KVM cannot be used.
pub fn probe() -> Result<Host, KvmError> {
    let system = System::open()?;
    let mut host = system.host()?;
    host.tsc_khz = tsc_khz(&system.kvm)?;
    Ok(host)
}

/// Only a vCPU knows the rate.
fn tsc_khz(kvm: &Kvm) -> Result<u32, KvmError> {
    let vm = kvm
        .create_vm()
        .map_err(|error| KvmError::request("KVM_CREATE_VM", error))?;
    let vcpu = vm
        .create_vcpu(0)
        .map_err(|error| KvmError::request("KVM_CREATE_VCPU", error))?;
    Ok(vcpu.get_tsc_khz().unwrap_or_default())
}

impl System {
    /// What this host offers to CPU models. The rate of the time stamp counter, which only a vCPU knows, is left at 0.
    ///
    /// # Errors
    /// When KVM refuses a request that every kernel since 5.11 answers.
    pub fn host(&self) -> Result<Host, KvmError> {
        let kvm = &self.kvm;
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|error| KvmError::request("KVM_GET_SUPPORTED_CPUID", error))?;
        let msr_indices = kvm
            .get_msr_index_list()
            .map_err(|error| KvmError::request("KVM_GET_MSR_INDEX_LIST", error))?;
        let caps = CAPABILITIES
            .into_iter()
            .map(|(number, name)| (name.to_owned(), i64::from(kvm.check_extension_raw(number.into()))));
        let mut host = Host {
            native: native(),
            supported: entries(&supported),
            feature_msrs: feature_msrs(kvm)?,
            msr_indices: msr_indices.as_slice().iter().copied().collect(),
            xcomp_guest_supp: ioctls::guest_xcomp(kvm).ok(),
            caps: caps.collect(),
            ..Host::default()
        };
        if host.cap("KVM_CAP_MCE") > 0 {
            host.mce_cap = ioctls::supported_mce(kvm)
                .map_err(|error| KvmError::request("KVM_X86_GET_MCE_CAP_SUPPORTED", error))?;
        }
        if host.cap("KVM_CAP_SYS_HYPERV_CPUID") > 0 {
            let offered = ioctls::supported_hv_cpuid(kvm)
                .map_err(|error| KvmError::request("KVM_GET_SUPPORTED_HV_CPUID", error))?;
            host.hyperv = entries(&offered);
        }
        Ok(host)
    }
}

/// What the CPUID instruction says.
fn native() -> Vec<CpuidEntry> {
    let mut found = Vec::new();
    for first in RANGES {
        let last = cpuid_count(first, 0).eax;
        if !(first..first + RANGE_LEN).contains(&last) {
            continue;
        }
        for leaf in first..=last {
            match leaf {
                XSAVE => found.extend(xsave_subleaves()),
                _ if INDEXED.contains(&leaf) => found.extend(subleaves(leaf)),
                _ => found.push(CpuidEntry {
                    flags: 0,
                    ..indexed(leaf, 0)
                }),
            }
        }
    }
    found
}

/// The subleaves of XSAVE that are there. Asking for all 64 takes long where the instruction traps.
fn xsave_subleaves() -> Vec<CpuidEntry> {
    let (user, supervisor) = (indexed(XSAVE, 0), indexed(XSAVE, 1));
    let low = user.eax | supervisor.ecx;
    let high = user.edx | supervisor.edx;
    let components = u64::from(high) << 32 | u64::from(low);
    let listed = (2..64).filter(|index| components >> index & 1 != 0);
    let mut found = vec![user, supervisor];
    found.extend(listed.map(|index| indexed(XSAVE, index)));
    found
}

/// All subleaves of a leaf, up to and with the first that says nothing.
fn subleaves(leaf: u32) -> Vec<CpuidEntry> {
    let mut found = Vec::new();
    for index in 0..SUBLEAVES {
        let entry = indexed(leaf, index);
        found.push(entry);
        // Some leaves repeat the index in the low byte of ECX even when they have ended.
        let says_nothing = (entry.eax, entry.ebx, entry.edx) == (0, 0, 0) && entry.ecx & !0xff == 0;
        let is_end = match leaf {
            0x4 | 0x8000_001d => entry.eax & 0x1f == 0,
            0xb | 0x1f => entry.ecx & 0xff00 == 0,
            // The first may be empty though others are not, but not all of its registers: one of them lists the others.
            _ => says_nothing && (index > 2 || entry.registers() == [0; 4] && index == 0),
        };
        if is_end {
            break;
        }
    }
    found
}

fn indexed(function: u32, index: u32) -> CpuidEntry {
    let answer = cpuid_count(function, index);
    CpuidEntry {
        function,
        index,
        flags: CpuidEntry::INDEX_MATTERS,
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
    }
}

fn entries(cpuid: &CpuId) -> Vec<CpuidEntry> {
    let entries = cpuid.as_slice().iter();
    entries
        .map(|entry| CpuidEntry {
            function: entry.function,
            index: entry.index,
            flags: entry.flags,
            eax: entry.eax,
            ebx: entry.ebx,
            ecx: entry.ecx,
            edx: entry.edx,
        })
        .collect()
}

/// The registers that tell features. Kernels that list one and do not tell its value are taken at their word.
fn feature_msrs(kvm: &Kvm) -> Result<BTreeMap<u32, u64>, KvmError> {
    let list = kvm
        .get_msr_feature_index_list()
        .map_err(|error| KvmError::request("KVM_GET_MSR_FEATURE_INDEX_LIST", error))?;
    let mut found = BTreeMap::new();
    for index in list.as_slice() {
        let wanted = kvm_msr_entry {
            index: *index,
            ..kvm_msr_entry::default()
        };
        let Ok(mut msrs) = Msrs::from_entries(&[wanted]) else {
            continue;
        };
        if kvm.get_msrs(&mut msrs).is_ok_and(|count| count == 1) {
            found.extend(msrs.as_slice().iter().map(|entry| (entry.index, entry.data)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_says_who_made_it_and_where_leaves_end() {
        let found = native();
        let leaf = |function, index| {
            found
                .iter()
                .find(|entry| (entry.function, entry.index) == (function, index))
        };
        assert_ne!(leaf(0, 0).unwrap().ebx, 0);
        assert!(leaf(0x8000_0000, 0).is_some());
        let places: Vec<(u32, u32)> = found.iter().map(|entry| (entry.function, entry.index)).collect();
        let mut unique = places.clone();
        unique.dedup();
        assert_eq!(places, unique);
    }
}
