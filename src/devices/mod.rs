//! Devices: one file or folder for each.
//!
//! A device is a plain value that answers guest accesses. It knows neither KVM nor QMP: interrupts leave through
//! [`IrqLine`], everything the run-state machine must hear about leaves through [`Notifier`].

mod clock;
pub mod debugcon;
mod device;
pub mod fw_cfg;
pub mod pci;
pub mod pm;
pub mod port92;
mod ram;

pub use clock::Clock;
pub use device::{Device, DeviceState, IrqLine, MmioDevice, Notice, Notifier, PioDevice};
pub use ram::{GuestRam, NoRam};
