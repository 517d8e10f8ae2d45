//! The Linux kernel's KVM.

mod error;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

pub use error::KvmError;
