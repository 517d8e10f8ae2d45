//! Accelerators: what runs a guest, and what a host can offer to its CPU models.
//!
//! A vCPU of any accelerator is a [`Processor`]; a [`VcpuThread`] drives it. What a machine asks of an accelerator is a
//! trait for each architecture (`x86_64::Accelerator`), and so is who answers what the guest does and the accelerator
//! cannot answer by itself (`x86_64::X86Exits`).

pub mod choice;
pub mod controllers;
pub mod debug;
pub mod describe;
mod error;
mod event;
pub mod hostfile;
pub mod kvm;
mod run_page;
pub mod s390x;
mod stats;
mod thread;
mod types;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

pub use error::AccelError;
pub use event::VcpuEvent;
pub use stats::{Stat, StatKind, StatUnit, StatValue};
pub use thread::{Gone, Kick, Processor, Step, VcpuThread, delay_current_vcpu, stop_current_vcpu};
pub use types::types;
