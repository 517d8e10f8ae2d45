//! KVM requests that kvm-ioctls does not offer or cannot offer as safe functions.
#![expect(unsafe_code, reason = "ioctls")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd},
};

use crate::mem::RamBlock;
use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_ENLIGHTENED_VMCS, KVM_MAX_CPUID_ENTRIES, KVMIO, kvm_cpuid2, kvm_device_attr, kvm_enable_cap,
    kvm_interrupt, kvm_irqchip, kvm_reinject_control, kvm_sregs2, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::libc::{SYS_arch_prctl, syscall};
use vmm_sys_util::{
    ioctl::{ioctl, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val},
    ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr, ioctl_iowr_nr,
};

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);
ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);
ioctl_io_nr!(KVM_REINJECT_CONTROL, KVMIO, 0x71);
ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, KVMIO, 0x44);
ioctl_iow_nr!(KVM_X86_SETUP_MCE, KVMIO, 0x9c, u64);
ioctl_ior_nr!(KVM_X86_GET_MCE_CAP_SUPPORTED, KVMIO, 0x9d, u64);
ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, KVMIO, 0xc1, kvm_cpuid2);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);
ioctl_ior_nr!(KVM_GET_SREGS2, KVMIO, 0xcc, kvm_sregs2);
ioctl_iow_nr!(KVM_SET_SREGS2, KVMIO, 0xcd, kvm_sregs2);

/// The attribute of `/dev/kvm` with the state components of XSAVE that a guest may get (`linux/kvm.h`).
const KVM_X86_XCOMP_GUEST_SUPP: u64 = 0;
/// Asks the kernel to let guests use a state component (`asm/prctl.h`).
const ARCH_REQ_XCOMP_GUEST_PERM: i32 = 0x1025;

/// The descriptor a VM's or vCPU's statistics are read from (KVM_GET_STATS_FD).
pub(super) fn stats_file(of: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: the request takes no argument and returns a new descriptor or -1.
    let fd = unsafe { ioctl(of, KVM_GET_STATS_FD()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Limits how many pages the kernel may use to shadow the guest's page tables (KVM_SET_NR_MMU_PAGES).
pub(super) fn set_shadow_pages(vm: &VmFd, pages: u64) -> io::Result<()> {
    // SAFETY: the request takes a number and touches no memory.
    if unsafe { ioctl_with_val(vm, KVM_SET_NR_MMU_PAGES(), pages) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Capabilities of machine check registers, and in the low byte how many banks there are
/// (KVM_X86_GET_MCE_CAP_SUPPORTED).
pub(super) fn supported_mce(kvm: &Kvm) -> io::Result<u64> {
    let mut capabilities = 0_u64;
    // SAFETY: the kernel writes one `u64`.
    if unsafe { ioctl_with_mut_ref(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED(), &mut capabilities) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(capabilities)
}

/// Sets a vCPU's MCG_CAP (KVM_X86_SETUP_MCE).
pub(super) fn set_mce(vcpu: &VcpuFd, capabilities: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one `u64`.
    if unsafe { ioctl_with_ref(vcpu, KVM_X86_SETUP_MCE(), &capabilities) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Switches Hyper-V's enlightened VMCS on (KVM_CAP_HYPERV_ENLIGHTENED_VMCS). Which version the kernel speaks, the guest
/// learns by CPUID.
pub(super) fn enable_evmcs(vcpu: &VcpuFd) -> io::Result<()> {
    let mut version = 0_u16;
    let mut capability = kvm_enable_cap {
        cap: KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
        ..kvm_enable_cap::default()
    };
    // The kernel writes one `u16` there, which lives until the request is done.
    capability.args[0] = &raw mut version as u64;
    vcpu.enable_cap(&capability).map_err(io::Error::from)
}

/// The leaves of Hyper-V that KVM offers (KVM_GET_SUPPORTED_HV_CPUID on `/dev/kvm`).
pub(super) fn supported_hv_cpuid(kvm: &Kvm) -> io::Result<CpuId> {
    let mut cpuid = CpuId::new(KVM_MAX_CPUID_ENTRIES).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let entries = cpuid.as_mut_fam_struct_ptr();
    // SAFETY: `nent` of the structure says for how many entries there is room behind it; the kernel lowers it to the
    // number it wrote.
    if unsafe { ioctl_with_mut_ptr(kvm, KVM_GET_SUPPORTED_HV_CPUID(), entries) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cpuid)
}

/// The state components of XSAVE that a guest may get (KVM_GET_DEVICE_ATTR on `/dev/kvm`).
pub(super) fn guest_xcomp(kvm: &Kvm) -> io::Result<u64> {
    let mut components = 0_u64;
    let attribute = kvm_device_attr {
        attr: KVM_X86_XCOMP_GUEST_SUPP,
        addr: &raw mut components as u64,
        ..kvm_device_attr::default()
    };
    // SAFETY: the kernel writes one `u64` to `addr`.
    if unsafe { ioctl_with_ref(kvm, KVM_GET_DEVICE_ATTR(), &attribute) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(components)
}

/// Asks the kernel to let this process's guests use a state component of XSAVE.
pub(super) fn permit_xcomp(component: u32) -> io::Result<()> {
    // SAFETY: this request of arch_prctl takes a number and touches no memory.
    if unsafe { syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, u64::from(component)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives a vCPU an interrupt of PICs outside the kernel (KVM_INTERRUPT).
pub(super) fn interrupt(vcpu: &VcpuFd, vector: u8) -> io::Result<()> {
    let interrupt = kvm_interrupt { irq: vector.into() };
    // SAFETY: the kernel reads one `kvm_interrupt`.
    if unsafe { ioctl_with_ref(vcpu, KVM_INTERRUPT(), &interrupt) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the timer makes up for ticks the guest could not take in time (KVM_REINJECT_CONTROL).
pub(super) fn set_pit_reinject(vm: &VmFd, reinject: bool) -> io::Result<()> {
    let control = kvm_reinject_control {
        pit_reinject: u8::from(reinject),
        ..kvm_reinject_control::default()
    };
    // SAFETY: the kernel reads one `kvm_reinject_control`.
    if unsafe { ioctl_with_ref(vm, KVM_REINJECT_CONTROL(), &control) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the guest `region.memory_size` bytes of `memory`, or takes the slot back when that is 0
/// (KVM_SET_USER_MEMORY_REGION).
///
/// `offset` is where the slot starts in `memory`; `region.userspace_addr` is filled in here.
pub(super) fn set_memory_slot(
    vm: &VmFd,
    mut region: kvm_userspace_memory_region,
    memory: &RamBlock,
    offset: u64,
) -> io::Result<()> {
    let size = u64::try_from(memory.len()).map_err(io::Error::other)?;
    if offset.checked_add(region.memory_size).is_none_or(|end| end > size) {
        return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
    }
    region.userspace_addr = memory.mapping().as_ptr() as u64 + offset;
    // SAFETY: the slot lies within `memory`, whose mapping the caller keeps for as long as the slot exists.
    unsafe { vm.set_user_memory_region(region) }.map_err(io::Error::from)
}

/// The open file behind a vCPU, for a mapping of its run page.
pub(super) fn borrow(fd: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the returned value borrows the owner of the descriptor.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

/// The state of an interrupt controller in the kernel, as `struct kvm_pic_state` or `struct kvm_ioapic_state` lays it out.
pub(super) fn irqchip(vm: &VmFd, chip_id: u32) -> io::Result<[u8; 512]> {
    let mut chip = kvm_irqchip {
        chip_id,
        ..kvm_irqchip::default()
    };
    vm.get_irqchip(&mut chip)?;
    // SAFETY: the member `dummy` is all bytes of the union, each of which was zero before the kernel wrote to it.
    let bytes = unsafe { chip.chip.dummy };
    Ok(bytes.map(|byte| byte as u8))
}

/// Sets what [`irqchip`] reads.
pub(super) fn set_irqchip(vm: &VmFd, chip_id: u32, bytes: &[u8; 512]) -> io::Result<()> {
    let mut chip = kvm_irqchip {
        chip_id,
        ..kvm_irqchip::default()
    };
    // `c_char`, which has a sign here.
    chip.chip.dummy = bytes.map(|byte| byte as _);
    vm.set_irqchip(&chip).map_err(io::Error::from)
}

/// Segment and control registers, with the pointers that PAE paging has loaded (KVM_GET_SREGS2).
pub(super) fn sregs2(vcpu: &VcpuFd) -> io::Result<kvm_sregs2> {
    let mut sregs = kvm_sregs2::default();
    // SAFETY: the kernel writes one `kvm_sregs2`.
    if unsafe { ioctl_with_mut_ref(vcpu, KVM_GET_SREGS2(), &mut sregs) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(sregs)
}

/// Sets what [`sregs2`] reads (KVM_SET_SREGS2).
pub(super) fn set_sregs2(vcpu: &VcpuFd, sregs: &kvm_sregs2) -> io::Result<()> {
    // SAFETY: the kernel reads one `kvm_sregs2`.
    if unsafe { ioctl_with_ref(vcpu, KVM_SET_SREGS2(), sregs) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
