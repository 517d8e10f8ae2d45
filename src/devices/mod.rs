//! Devices: one file or folder for each.
//!
//! A device is a plain value that answers guest accesses. It knows neither KVM nor QMP: interrupts leave through
//! [`IrqLine`], everything the run-state machine must hear about leaves through [`Notifier`].

pub mod debugcon;
mod device;

pub use device::{Device, DeviceState, IrqLine, MmioDevice, Notice, Notifier, PioDevice};
