//! PCs: what every one of them has, and the boards that differ (`q35`).

mod acpi;
mod board;
mod boot;
mod cpu;
mod devices;
mod error;
mod firmware_config;
mod guest;
mod input;
mod layout;
mod lines;
mod memory_map;
mod options;
mod pci;
mod pci_info;
mod ram;
mod resources;
mod rtc;
mod saved;
mod shadow;
mod smbios;
mod split;
mod tables;
mod timed;
mod vcpus;
mod vm;

pub use resources::Resources;
pub use vm::Vm;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
