//! The ioctls themselves.

#![expect(unsafe_code, reason = "ioctls read and write memory that they are handed")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::uapi::{CREATE_VCPU, CREATE_VM, DeviceAttr, ENABLE_CAP, EnableCap};

/// An ioctl whose argument is a number and not an address.
///
/// # Errors
/// The kernel's.
pub(super) fn number(fd: BorrowedFd<'_>, request: u32, argument: u32) -> io::Result<i32> {
    // SAFETY: the callers' requests take numbers, so the kernel touches no memory of ours.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), libc::c_ulong::from(argument)) })
}

/// `KVM_CREATE_VM`, for a VM of the default kind.
///
/// # Errors
/// The kernel's.
pub(super) fn create_vm(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let vm = number(fd, CREATE_VM, 0)?;
    // SAFETY: the kernel has just opened this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(vm) })
}

/// `KVM_CREATE_VCPU`.
///
/// # Errors
/// The kernel's.
pub(super) fn create_vcpu(fd: BorrowedFd<'_>, id: u32) -> io::Result<OwnedFd> {
    let vcpu = number(fd, CREATE_VCPU, id)?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(vcpu) })
}

/// `KVM_ENABLE_CAP`, for a capability that takes no arguments.
///
/// # Errors
/// The kernel's.
pub(super) fn enable_cap(fd: BorrowedFd<'_>, cap: u32) -> io::Result<()> {
    let argument = EnableCap {
        cap,
        flags: 0,
        args: [0; 4],
        pad: [0; 64],
    };
    // SAFETY: the kernel reads one `struct kvm_enable_cap`, which `EnableCap` is laid out as.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), ENABLE_CAP.into(), &raw const argument) }).map(|_| ())
}

/// `KVM_SET_DEVICE_ATTR` or `KVM_HAS_DEVICE_ATTR`: the kernel reads at most the bytes of `payload`.
///
/// The caller sees to it that `payload` is as long as the payload of the attribute.
///
/// # Errors
/// The kernel's.
pub(super) fn attr_in(fd: BorrowedFd<'_>, request: u32, group: u32, attr: u64, payload: &[u8]) -> io::Result<()> {
    let argument = device_attr(group, attr, payload.as_ptr().addr());
    // SAFETY: the kernel reads one `struct kvm_device_attr`, and through it a payload that is borrowed until the call returns.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), &raw const argument) }).map(|_| ())
}

/// `KVM_GET_DEVICE_ATTR`: the kernel overwrites the bytes of `payload`.
///
/// The caller sees to it that `payload` is as long as the payload of the attribute.
///
/// # Errors
/// The kernel's.
pub(super) fn attr_out(fd: BorrowedFd<'_>, request: u32, group: u32, attr: u64, payload: &mut [u8]) -> io::Result<()> {
    let argument = device_attr(group, attr, payload.as_mut_ptr().expose_provenance());
    // SAFETY: the kernel reads one `struct kvm_device_attr` and writes a payload that is ours alone until the call returns.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), &raw const argument) }).map(|_| ())
}

fn device_attr(group: u32, attr: u64, address: usize) -> DeviceAttr {
    DeviceAttr {
        flags: 0,
        group,
        attr,
        addr: address as u64,
    }
}

fn answer(result: libc::c_int) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
