//! A vCPU's registers in the form of saved states, and back.
//!
//! Everything is read while the vCPU is out of the guest, and put back in the order in which KVM takes it: what decides
//! which values others may have comes first.

mod core;
mod events;
mod extended;
mod lapic;
mod msrs;
mod nested;
#[cfg(test)]
mod tests;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::ioctls;
use crate::accel::kvm::KvmError;
use crate::cpu::x86::vmstate::{ApicState, CpuCommonState, CpuState, VcpuState};
use extended::Places;
use msrs::Model;

/// Names a request that failed.
fn failed<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> KvmError {
    move |error| KvmError::request(what, error)
}

/// Reads all registers of a vCPU. `wide_ids`: ids of local APICs have 32 bits.
pub(super) fn save(kvm: &Kvm, fd: &VcpuFd, wide_ids: bool) -> Result<VcpuState, KvmError> {
    let cpuid = fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(failed("KVM_GET_CPUID2"))?;
    let mut cpu = CpuState::default();
    let mut common = CpuCommonState::default();
    let mut apic = ApicState::default();
    events::save(fd, &mut cpu, &mut common)?;
    core::save(kvm, fd, &mut cpu, &mut apic)?;
    extended::save(kvm, fd, &Places::new(&cpuid), &mut cpu)?;
    msrs::save(fd, &Model::new(fd, &cpuid), &mut cpu)?;
    lapic::save(fd, wide_ids, &mut apic)?;
    nested::save(kvm, fd, &mut cpu)?;
    cpu.tsc_khz = fd.get_tsc_khz().map_or(0, i64::from);
    Ok(VcpuState { cpu, common, apic })
}

/// Gives a vCPU, which has its CPUID and has just been reset, all these registers.
pub(super) fn load(kvm: &Kvm, fd: &VcpuFd, wide_ids: bool, state: &VcpuState) -> Result<(), KvmError> {
    let VcpuState { cpu, common, apic } = state;
    let cpuid = fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(failed("KVM_GET_CPUID2"))?;
    let model = Model::new(fd, &cpuid);
    // VMX may be on only where this MSR allows it.
    msrs::load_feature_control(fd, cpu)?;
    core::load_system(kvm, fd, cpu, apic)?;
    nested::load(kvm, fd, cpu)?;
    set_tsc_rate(kvm, fd, cpu)?;
    core::load_general(fd, cpu)?;
    extended::load(kvm, fd, &Places::new(&cpuid), cpu)?;
    msrs::load(fd, &model, cpu)?;
    lapic::load(fd, wide_ids, apic)?;
    events::load(kvm, fd, cpu, common)?;
    // The local APIC, which it belongs to, is there now.
    msrs::load_deadline(fd, cpu)?;
    core::load_debug(fd, cpu)
}

/// Makes the guest's time stamp counter run as fast as it did, if the host can; if it cannot, that is told and no more, as
/// whoever wants it to be certain asks for a rate on the command line.
fn set_tsc_rate(kvm: &Kvm, fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    let Ok(asked @ 1..) = u32::try_from(cpu.tsc_khz) else {
        return Ok(());
    };
    let host = fd.get_tsc_khz().unwrap_or_default();
    if asked == host {
        return Ok(());
    }
    if kvm.check_extension(Cap::TscControl) && fd.set_tsc_khz(asked).is_ok() {
        return Ok(());
    }
    // As far apart as a host's clock is corrected by NTP.
    let tolerated = u64::from(host) * 250 / 1_000_000;
    if u64::from(asked.abs_diff(host)) > tolerated {
        crate::report::warning(KvmError::TscRate { asked, host }.to_string());
    }
    Ok(())
}
