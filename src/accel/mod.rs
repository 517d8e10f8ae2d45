//! Accelerators: what runs a guest, and what a host can offer to its CPU models.

pub mod hostfile;
pub mod kvm;
