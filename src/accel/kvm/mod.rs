//! The Linux kernel's KVM.

mod error;
pub mod s390x;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

pub use error::KvmError;
