//! A vCPU's state after power-on, recorded once and put back at every reset.

use std::io;
use std::ops::RangeInclusive;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuFd};

use super::initial::BootState;

/// Time stamp counter and its deadline: they run on over a reset.
const RUNNING_MSRS: [u32; 3] = [0x10, 0x6e0, HYPERV_TIME_REF_COUNT];
/// Hyper-V's reference counter cannot be written.
const HYPERV_TIME_REF_COUNT: u32 = 0x4000_0020;

/// IA32_CORE_CAPABILITIES and IA32_PERF_CAPABILITIES tell features, even where KVM does not say so.
const CAPABILITIES: [u32; 2] = [0xcf, 0x345];
/// What VMX can do (Intel SDM volume 3, appendix A); KVM counts only some of them as features.
const VMX_CAPABILITIES: RangeInclusive<u32> = 0x480..=0x493;

/// The recorded state.
#[derive(Clone, Debug)]
pub(super) struct PowerOnState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    xcrs: Option<kvm_xcrs>,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
    msrs: Vec<kvm_msr_entry>,
}

impl PowerOnState {
    /// Records the state of a vCPU that has its CPUID and has never run.
    pub(super) fn record(kvm: &Kvm, fd: &VcpuFd) -> io::Result<Self> {
        Ok(Self {
            regs: fd.get_regs()?,
            sregs: fd.get_sregs()?,
            fpu: fd.get_fpu()?,
            xcrs: fd.get_xcrs().ok(),
            debug: fd.get_debug_regs()?,
            lapic: fd.get_lapic()?,
            events: fd.get_vcpu_events()?,
            mp_state: fd.get_mp_state()?,
            msrs: read_msrs(fd, &changeable_msrs(kvm)?)?,
        })
    }

    /// Puts the state back. `boot` is for the boot vCPU; the others wait for a start-up interrupt.
    pub(super) fn restore(&self, fd: &VcpuFd, boot: BootState) -> io::Result<()> {
        let (mut regs, mut sregs) = (self.regs, self.sregs);
        boot.apply(&mut regs, &mut sregs);
        fd.set_sregs(&sregs)?;
        fd.set_regs(&regs)?;
        fd.set_fpu(&self.fpu)?;
        if let Some(xcrs) = &self.xcrs {
            fd.set_xcrs(xcrs)?;
        }
        fd.set_debug_regs(&self.debug)?;
        write_msrs(fd, &self.msrs)?;
        fd.set_lapic(&self.lapic)?;
        fd.set_vcpu_events(&self.events)?;
        fd.set_mp_state(self.mp_state)?;
        Ok(())
    }
}

/// The registers that a guest may change. Those that tell features are the CPU model's, and stay.
fn changeable_msrs(kvm: &Kvm) -> io::Result<Vec<u32>> {
    let features = kvm.get_msr_feature_index_list()?;
    let all = kvm.get_msr_index_list()?;
    let fixed = |index: &&u32| {
        RUNNING_MSRS.contains(index)
            || CAPABILITIES.contains(index)
            || VMX_CAPABILITIES.contains(index)
            || features.as_slice().contains(index)
    };
    Ok(all.as_slice().iter().filter(|index| !fixed(index)).copied().collect())
}

/// Reads these registers; those the vCPU's CPU model lacks are left out.
fn read_msrs(fd: &VcpuFd, indices: &[u32]) -> io::Result<Vec<kvm_msr_entry>> {
    let wanted: Vec<kvm_msr_entry> = indices
        .iter()
        .map(|index| kvm_msr_entry {
            index: *index,
            ..kvm_msr_entry::default()
        })
        .collect();
    let mut found = Vec::with_capacity(wanted.len());
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        let mut batch = batch(rest)?;
        let done = fd.get_msrs(&mut batch)?.min(rest.len());
        found.extend_from_slice(&batch.as_slice()[..done]);
        // The one after those that were read is the one KVM refused.
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(found)
}

fn write_msrs(fd: &VcpuFd, msrs: &[kvm_msr_entry]) -> io::Result<()> {
    let mut rest = msrs;
    while !rest.is_empty() {
        let done = fd.set_msrs(&batch(rest)?)?.min(rest.len());
        if let Some(refused) = rest.get(done) {
            tracing::debug!(index = refused.index, "KVM refuses to reset this MSR");
        }
        rest = rest.get(done + 1..).unwrap_or_default();
    }
    Ok(())
}

fn batch(entries: &[kvm_msr_entry]) -> io::Result<Msrs> {
    // KVM takes at most 256 registers (MAX_IO_MSRS) at once.
    let entries = &entries[..entries.len().min(255)];
    Msrs::from_entries(entries).map_err(|error| io::Error::other(format!("{error:?}")))
}
