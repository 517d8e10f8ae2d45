//! KVM on x86_64.

mod chips;
mod configure;
mod debug;
mod external;
mod host;
mod initial;
mod ioctls;
mod irqchip;
mod registers;
mod reset;
mod slots;
mod state;
mod stats;
mod system;
mod vcpu;
mod vm;
mod xsave;

pub use host::probe;
pub use system::System;

/// Its name on the command line.
pub(in crate::accel) const NAME: &str = "kvm";
