//! Accelerators: what runs a guest, and what a host can offer to its CPU models.
//!
//! A vCPU of any accelerator is a [`Processor`]; a [`VcpuThread`] drives it. What the guest does that the accelerator
//! cannot answer by itself goes to an [`ExitHandler`], which the machine implements.

pub mod choice;
pub mod controllers;
pub mod describe;
mod exit;
pub mod hostfile;
pub mod kvm;
mod run_page;
mod stats;
mod thread;
mod types;

pub use exit::{ExitHandler, VcpuEvent};
pub use run_page::{KICK_SIGNAL, RunPage, install_kick_handler};
pub use stats::{Stat, StatKind, StatUnit, StatValue};
pub use thread::{Gone, Processor, Step, VcpuThread, delay_current_vcpu, stop_current_vcpu};
pub use types::types;
