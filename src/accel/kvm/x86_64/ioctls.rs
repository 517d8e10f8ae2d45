//! KVM requests that kvm-ioctls does not offer or cannot offer as safe functions.
#![expect(unsafe_code, reason = "ioctls")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd},
};

use kvm_bindings::{KVMIO, kvm_reinject_control, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::GuestRegionMmap;
use vmm_sys_util::{
    ioctl::{ioctl, ioctl_with_ref},
    ioctl_io_nr,
};

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);
ioctl_io_nr!(KVM_REINJECT_CONTROL, KVMIO, 0x71);

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

/// Gives the guest `region.memory_size` bytes of `memory` (KVM_SET_USER_MEMORY_REGION).
///
/// `offset` is where the slot starts in `memory`; `region.userspace_addr` is filled in here.
pub(super) fn set_memory_slot(
    vm: &VmFd,
    mut region: kvm_userspace_memory_region,
    memory: &GuestRegionMmap,
    offset: u64,
) -> io::Result<()> {
    let size = u64::try_from(memory.size()).map_err(io::Error::other)?;
    if offset.checked_add(region.memory_size).is_none_or(|end| end > size) {
        return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
    }
    region.userspace_addr = memory.as_ptr() as u64 + offset;
    // SAFETY: the slot lies within `memory`, whose mapping the caller keeps for as long as the VM exists.
    unsafe { vm.set_user_memory_region(region) }.map_err(io::Error::from)
}

/// The open file behind a vCPU, for a mapping of its run page.
pub(super) fn borrow(fd: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the returned value borrows the owner of the descriptor.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}
