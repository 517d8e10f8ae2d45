//! A vCPU's state after power-on, recorded once and put back at every reset.

use std::io;
use std::ops::RangeInclusive;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Cap, Kvm, KvmNestedStateBuffer, VcpuFd};

use super::initial;
use super::xsave::XsaveState;
use crate::accel::x86_64::BootState;

/// Time stamp counter and its deadline: they run on over a reset.
const RUNNING_MSRS: [u32; 3] = [0x10, 0x6e0, HYPERV_TIME_REF_COUNT];
/// Hyper-V's reference counter cannot be written.
const HYPERV_TIME_REF_COUNT: u32 = 0x4000_0020;

/// IA32_CORE_CAPABILITIES and IA32_PERF_CAPABILITIES tell features, even where KVM does not say so.
const CAPABILITIES: [u32; 2] = [0xcf, 0x345];
/// What VMX can do (Intel SDM volume 3, appendix A); KVM counts only some of them as features.
const VMX_CAPABILITIES: RangeInclusive<u32> = 0x480..=0x493;

/// The recorded state.
pub(super) struct PowerOnState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: XsaveState,
    xcrs: Option<kvm_xcrs>,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
    msrs: Vec<kvm_msr_entry>,
    /// What the vCPU is to guests of its own; none where it can have none.
    nested: Option<Box<KvmNestedStateBuffer>>,
}

impl PowerOnState {
    /// Records the state of a vCPU that has its CPUID and has never run.
    pub(super) fn record(kvm: &Kvm, fd: &VcpuFd) -> io::Result<Self> {
        Ok(Self {
            regs: fd.get_regs()?,
            sregs: fd.get_sregs()?,
            xsave: XsaveState::read(kvm, fd)?,
            xcrs: fd.get_xcrs().ok(),
            debug: fd.get_debug_regs()?,
            lapic: fd.get_lapic()?,
            events: fd.get_vcpu_events()?,
            mp_state: fd.get_mp_state()?,
            msrs: read_msrs(fd, &changeable_msrs(kvm)?)?,
            nested: nested_state(kvm, fd),
        })
    }

    /// Puts the state back. `boot` is for the boot vCPU; the others wait for a start-up interrupt.
    pub(super) fn restore(&self, fd: &VcpuFd, boot: BootState) -> io::Result<()> {
        let (mut regs, mut sregs) = (self.regs, self.sregs);
        initial::apply(boot, &mut regs, &mut sregs);
        // First: a vCPU in VMX operation does not take the control registers of one that is not.
        if let Some(nested) = &self.nested {
            fd.set_nested_state(nested)?;
        }
        fd.set_sregs(&sregs)?;
        fd.set_regs(&regs)?;
        if let Some(xcrs) = &self.xcrs {
            fd.set_xcrs(xcrs)?;
        }
        self.xsave.write(fd)?;
        fd.set_debug_regs(&self.debug)?;
        for refused in set_msrs(fd, &self.msrs)? {
            tracing::debug!(index = refused.index, "KVM refuses to reset this MSR");
        }
        fd.set_lapic(&self.lapic)?;
        fd.set_vcpu_events(&self.events)?;
        fd.set_mp_state(self.mp_state)?;
        Ok(())
    }
}

/// The state of a vCPU that has never had a guest of its own: nothing but the header.
fn nested_state(kvm: &Kvm, fd: &VcpuFd) -> Option<Box<KvmNestedStateBuffer>> {
    if !kvm.check_extension(Cap::NestedState) {
        return None;
    }
    let mut state = Box::new(KvmNestedStateBuffer::empty());
    // A kernel that was told to have no nested guests knows the request and refuses it.
    fd.nested_state(&mut state).ok()?;
    Some(state)
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
pub(super) fn read_msrs(fd: &VcpuFd, indices: &[u32]) -> io::Result<Vec<kvm_msr_entry>> {
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
        let len = batch.as_slice().len();
        let done = fd.get_msrs(&mut batch)?.min(len);
        found.extend_from_slice(&batch.as_slice()[..done]);
        // The one after those that were read, if there is one in the batch, is the one KVM refused.
        rest = &rest[done + usize::from(done < len)..];
    }
    Ok(found)
}

/// Sets these registers, in order, and returns those that KVM refused.
pub(super) fn set_msrs(fd: &VcpuFd, msrs: &[kvm_msr_entry]) -> io::Result<Vec<kvm_msr_entry>> {
    let mut all_refused = Vec::new();
    let mut rest = msrs;
    while !rest.is_empty() {
        let batch = batch(rest)?;
        let done = fd.set_msrs(&batch)?.min(batch.as_slice().len());
        rest = &rest[done..];
        if done < batch.as_slice().len() {
            all_refused.extend(rest.first());
            rest = &rest[1..];
        }
    }
    Ok(all_refused)
}

fn batch(entries: &[kvm_msr_entry]) -> io::Result<Msrs> {
    // KVM takes at most 256 registers (MAX_IO_MSRS) at once.
    let entries = &entries[..entries.len().min(255)];
    Msrs::from_entries(entries).map_err(|error| io::Error::other(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use kvm_bindings::KVM_MAX_CPUID_ENTRIES;

    use super::*;
    use crate::accel::kvm::x86_64::System;

    /// Places in the XSAVE area: XMM0 to XMM15, and which components are not in their initial state.
    const XMM: usize = 160;
    const COMPONENTS: usize = 512;

    /// Components with the place of their state, beside x87 and SSE: AVX, AVX-512, PKRU.
    fn extended_components(system: &System) -> Vec<(u32, usize)> {
        let cpuid = system.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
        let leaf = |index| {
            cpuid
                .as_slice()
                .iter()
                .find(|entry| (entry.function, entry.index) == (0xd, index))
        };
        let offered = leaf(0).map_or(0, |leaf| leaf.eax);
        let wanted = [2, 5, 6, 7, 9]
            .into_iter()
            .filter(|component| offered >> component & 1 != 0);
        let place = |component| Some((component, usize::try_from(leaf(component)?.ebx).ok()?));
        wanted.filter_map(place).collect()
    }

    #[test]
    fn a_reset_clears_what_xsave_knows() {
        let system = match System::open() {
            Ok(system) => system,
            Err(error) => {
                assert!(!std::path::Path::new("/dev/kvm").exists(), "{error}");
                return;
            }
        };
        let vm = system.kvm.create_vm().unwrap();
        vm.create_irq_chip().unwrap();
        let fd = vm.create_vcpu(0).unwrap();
        fd.set_cpuid2(&system.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap())
            .unwrap();
        let fresh = PowerOnState::record(&system.kvm, &fd).unwrap();
        let components = extended_components(&system);
        let mut used = XsaveState::read(&system.kvm, &fd).unwrap();
        let components_in_use = |state: &XsaveState| u64::from_le_bytes(state.bytes(COMPONENTS));
        used.set_bytes(XMM, &[1; 256]);
        let mut in_use = components_in_use(&used) | 2;
        for (component, at) in &components {
            used.set_bytes(*at, &[4]);
            in_use |= 1 << component;
        }
        used.set_bytes(COMPONENTS, &in_use.to_le_bytes());
        used.write(&fd).unwrap();
        let read = XsaveState::read(&system.kvm, &fd).unwrap();
        assert_eq!(read.bytes(XMM), [1_u8; 256]);
        fresh.restore(&fd, BootState::PowerOn).unwrap();
        let reset = XsaveState::read(&system.kvm, &fd).unwrap();
        assert_eq!(reset.bytes(XMM), [0_u8; 256]);
        for (component, at) in components {
            let in_use = components_in_use(&reset) >> component & 1 != 0;
            assert!(!in_use || reset.bytes::<1>(at) == [0], "component {component}");
        }
    }
}
