//! Machines: which devices, memory map, firmware tables and boot protocol make up a guest.

#[cfg(target_arch = "x86_64")]
pub mod backend;
pub mod chardevs;
pub mod compat;
pub mod config;
mod create;
pub mod entropy;
mod error;
mod fields;
pub mod guest;
#[cfg(target_arch = "x86_64")]
mod host_memory;
pub mod info;
#[cfg(target_arch = "x86_64")]
mod local_time;
pub mod numa;
#[cfg(target_arch = "x86_64")]
pub mod pc;
pub mod pci;
pub mod processor;
mod registry;
mod s390_ccw;
pub mod saved;
pub mod streams;
pub mod topology;
pub mod types;

pub use create::{BackEnds, create};
#[cfg(target_arch = "x86_64")]
pub use pc::{Resources, Vm};
pub use registry::{check_properties, pluggable, refuse_devices, registry, without_bus};
