//! The q35 machine: a PC with PCI Express.

mod board;
mod boot;
mod cpuid;
mod layout;
mod options;
mod ram;
mod resources;
mod vcpus;
mod vm;

pub use resources::Resources;
pub use vm::Vm;

#[cfg(test)]
mod testing;
