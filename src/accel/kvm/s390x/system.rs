//! `/dev/kvm` of an S390 host.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::control::VmControl;
use super::ioctl;
use super::uapi::{
    API_VERSION, Attr, CHECK_EXTENSION, Cap, GET_API_VERSION, GET_DEVICE_ATTR, GET_VCPU_MMAP_SIZE, HAS_DEVICE_ATTR,
    SET_DEVICE_ATTR, cap,
};
use crate::accel::kvm::KvmError;

/// `/dev/kvm`, opened.
#[derive(Debug)]
pub struct System(File);

impl System {
    /// Opens the device and makes sure of the interface's version.
    ///
    /// # Errors
    /// `Access` or `Version`.
    pub fn open() -> Result<Self, KvmError> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .map_err(KvmError::Access)?;
        let version = ioctl::number(device.as_fd(), GET_API_VERSION, 0)
            .map_err(|source| KvmError::request("KVM_GET_API_VERSION", source))?;
        if version != API_VERSION {
            return Err(KvmError::Version(version));
        }
        Ok(Self(device))
    }

    /// Makes a VM without memory and vCPUs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create_vm(&self) -> Result<VmFd, KvmError> {
        ioctl::create_vm(self.0.as_fd())
            .map(VmFd)
            .map_err(|source| KvmError::request("KVM_CREATE_VM", source))
    }

    /// Bytes of a vCPU that the kernel shares with us.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn run_page_size(&self) -> Result<usize, KvmError> {
        let size = ioctl::number(self.0.as_fd(), GET_VCPU_MMAP_SIZE, 0)
            .map_err(|source| KvmError::request("KVM_GET_VCPU_MMAP_SIZE", source))?;
        Ok(size.unsigned_abs() as usize)
    }
}

/// A VM of the kernel's.
#[derive(Debug)]
pub struct VmFd(OwnedFd);

impl VmFd {
    /// Makes the vCPU with this number. From now on the CPU model stands.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create_vcpu(&self, id: u32) -> Result<OwnedFd, KvmError> {
        ioctl::create_vcpu(self.0.as_fd(), id).map_err(|source| KvmError::request("KVM_CREATE_VCPU", source))
    }

    /// How many vCPUs the VM can have.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn max_vcpus(&self) -> Result<usize, KvmError> {
        let count = self
            .check_extension(cap::MAX_VCPUS)
            .map_err(|source| KvmError::request("KVM_CHECK_EXTENSION", source))?;
        Ok(count.unsigned_abs() as usize)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl VmControl for VmFd {
    fn check_extension(&self, cap: Cap) -> io::Result<i32> {
        ioctl::number(self.fd(), CHECK_EXTENSION, cap.0)
    }

    fn enable_cap(&self, cap: Cap) -> io::Result<()> {
        ioctl::enable_cap(self.fd(), cap.0)
    }

    fn has_attr(&self, attr: Attr) -> bool {
        ioctl::attr_in(self.fd(), HAS_DEVICE_ATTR, attr.group, attr.attr, &[]).is_ok()
    }

    fn get_attr(&self, attr: Attr, payload: &mut [u8]) -> io::Result<()> {
        check_length(attr, payload.len())?;
        ioctl::attr_out(self.fd(), GET_DEVICE_ATTR, attr.group, attr.attr, payload)
    }

    fn set_attr(&self, attr: Attr, payload: &[u8]) -> io::Result<()> {
        check_length(attr, payload.len())?;
        ioctl::attr_in(self.fd(), SET_DEVICE_ATTR, attr.group, attr.attr, payload)
    }
}

/// The kernel does not learn how long a payload is: it must be right.
fn check_length(attr: Attr, length: usize) -> io::Result<()> {
    if attr.bytes == length {
        return Ok(());
    }
    let text = format!("{} takes {} bytes, not {length}", attr.name, attr.bytes);
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
