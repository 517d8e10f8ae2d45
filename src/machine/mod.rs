//! Machines: which devices, memory map, firmware tables and boot protocol make up a guest.

pub mod config;
