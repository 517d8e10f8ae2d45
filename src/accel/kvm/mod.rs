//! The Linux kernel's KVM.
