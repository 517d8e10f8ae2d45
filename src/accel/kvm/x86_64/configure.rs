//! The CPU model on its way to KVM, in the order that KVM needs: permission for big state, the VM, then each vCPU.

use std::io;

use kvm_bindings::{
    CpuId, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2,
    KVM_CAP_TSC_CONTROL, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, Msrs, kvm_cpuid_entry2,
    kvm_enable_cap, kvm_msr_entry,
};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd};

use super::{ioctls, vcpu::Vcpu, vm::Vm};
use crate::accel::kvm::KvmError;
use crate::cpu::x86::{CpuidEntry, RealizedVcpu, RealizedVm};

/// MSR_CORE_THREAD_COUNT: KVM does not know the guest's topology.
pub(super) const CORE_THREAD_COUNT: u32 = 0x35;

impl Vm {
    /// Prepares for vCPUs of a CPU model. Before the first of them, and before memory: a filter that is set just after a
    /// memory slot waits for milliseconds until the kernel has retired what the slot replaced.
    ///
    /// # Errors
    /// When the kernel refuses the permission for state that the model has, or the filter for registers that KVM leaves
    /// to us.
    pub(super) fn prepare(&self, realized: &RealizedVm) -> Result<(), KvmError> {
        if let Some(component) = realized.xcomp_permission {
            ioctls::permit_xcomp(component).map_err(|error| KvmError::request("ARCH_REQ_XCOMP_GUEST_PERM", error))?;
        }
        if self.fd.check_extension_raw(KVM_CAP_X86_USER_SPACE_MSR.into()) > 0 {
            self.filter_msrs()?;
        }
        // A VM is prepared once; what was said first holds.
        let _ = self.core_thread_count.set(realized.core_thread_count);
        Ok(())
    }

    /// Accesses to registers that we answer come out of the guest; all others are KVM's.
    fn filter_msrs(&self) -> Result<(), KvmError> {
        self.fd
            .enable_cap(&capability(
                KVM_CAP_X86_USER_SPACE_MSR,
                KVM_MSR_EXIT_REASON_FILTER.into(),
            ))
            .map_err(|error| KvmError::request("KVM_CAP_X86_USER_SPACE_MSR", error))?;
        let denied = MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: CORE_THREAD_COUNT,
            msr_count: 1,
            bitmap: &[0],
        };
        self.fd
            .set_msr_filter(MsrFilterDefaultAction::ALLOW, &[denied])
            .map_err(|error| KvmError::request("KVM_X86_SET_MSR_FILTER", error))
    }
}

impl Vcpu {
    /// Makes a vCPU a processor of a CPU model. Once, before it first runs.
    ///
    /// # Errors
    /// When the host cannot give the time stamp counter the rate that was asked for, or KVM refuses a request.
    pub(super) fn set_model(&self, realized: &RealizedVcpu) -> Result<(), KvmError> {
        let fd = &self.fd;
        if let Some(khz) = realized.tsc_khz {
            self.set_tsc_rate(khz)?;
        }
        if let Some(only_in_kernel) = realized.hyperv_synic {
            let number = if only_in_kernel {
                KVM_CAP_HYPERV_SYNIC
            } else {
                KVM_CAP_HYPERV_SYNIC2
            };
            enable(fd, number, "KVM_CAP_HYPERV_SYNIC", 0)?;
        }
        if realized.hyperv_evmcs {
            ioctls::enable_evmcs(fd).map_err(|error| KvmError::request("KVM_CAP_HYPERV_ENLIGHTENED_VMCS", error))?;
        }
        if realized.hyperv_enforce_cpuid {
            enable(fd, KVM_CAP_HYPERV_ENFORCE_CPUID, "KVM_CAP_HYPERV_ENFORCE_CPUID", 1)?;
        }
        fd.set_cpuid2(&cpuid(&realized.cpuid)?)
            .map_err(|error| KvmError::request("KVM_SET_CPUID2", error))?;
        if realized.enforce_pv_cpuid {
            enable(
                fd,
                KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
                "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
                1,
            )?;
        }
        if let Some(capabilities) = realized.mcg_cap {
            ioctls::set_mce(fd, capabilities).map_err(|error| KvmError::request("KVM_X86_SETUP_MCE", error))?;
        }
        set_msrs(fd, &realized.msrs)
    }

    /// A rate that is the host's already needs no scaling. Without scaling KVM would make a slower counter up by
    /// exits, at a cost nobody asked for.
    fn set_tsc_rate(&self, khz: u32) -> Result<(), KvmError> {
        let scales = self.system.kvm.check_extension_raw(KVM_CAP_TSC_CONTROL.into()) > 0;
        let host = self.fd.get_tsc_khz().unwrap_or_default();
        if scales && self.fd.set_tsc_khz(khz).is_ok() || host == khz {
            return Ok(());
        }
        Err(KvmError::TscRate { asked: khz, host })
    }
}

fn enable(fd: &VcpuFd, number: u32, name: &'static str, argument: u64) -> Result<(), KvmError> {
    fd.enable_cap(&capability(number, argument))
        .map_err(|error| KvmError::request(name, error))
}

fn capability(number: u32, argument: u64) -> kvm_enable_cap {
    let mut capability = kvm_enable_cap {
        cap: number,
        ..kvm_enable_cap::default()
    };
    capability.args[0] = argument;
    capability
}

fn cpuid(entries: &[CpuidEntry]) -> Result<CpuId, KvmError> {
    let entries: Vec<kvm_cpuid_entry2> = entries
        .iter()
        .map(|entry| kvm_cpuid_entry2 {
            function: entry.function,
            index: entry.index,
            flags: entry.flags,
            eax: entry.eax,
            ebx: entry.ebx,
            ecx: entry.ecx,
            edx: entry.edx,
            ..kvm_cpuid_entry2::default()
        })
        .collect();
    CpuId::from_entries(&entries)
        .map_err(|error| KvmError::request("CPUID entries", io::Error::other(format!("{error:?}"))))
}

/// All of them, or the first that KVM refuses is named.
fn set_msrs(fd: &VcpuFd, msrs: &[(u32, u64)]) -> Result<(), KvmError> {
    let entries: Vec<kvm_msr_entry> = msrs
        .iter()
        .map(|(index, data)| kvm_msr_entry {
            index: *index,
            data: *data,
            ..kvm_msr_entry::default()
        })
        .collect();
    let list = Msrs::from_entries(&entries)
        .map_err(|error| KvmError::request("MSR entries", io::Error::other(format!("{error:?}"))))?;
    let done = fd
        .set_msrs(&list)
        .map_err(|error| KvmError::request("KVM_SET_MSRS", error))?;
    match msrs.get(done) {
        Some((index, value)) => Err(KvmError::Msr {
            index: *index,
            value: *value,
        }),
        None => Ok(()),
    }
}
