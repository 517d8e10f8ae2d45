//! CPU models of S390 guests through KVM.
//!
//! The order of steps is the kernel's: capabilities are enabled first, as they widen what the machine offers; then the
//! machine is read ([`prepare`]); then the model is set ([`apply`]); then the first vCPU is made, after which nothing can be
//! changed. [`Guest`] walks it for a guest, [`probe`] up to the reading.
//!
//! All but the device itself is behind [`VmControl`], so a simulated kernel with the real one's rules can be asked instead.

mod apply;
mod control;
mod guest;
mod host;
mod ioctl;
#[cfg(test)]
mod sim;
mod system;
pub mod uapi;

pub use apply::{Applied, apply, apply_without_model};
pub use control::{ControlError, VmControl};
pub use guest::{Guest, GuestConfig, GuestError, probe};
pub use host::{host, prepare};
pub use system::{System, VmFd};
