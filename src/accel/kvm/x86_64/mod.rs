//! KVM on x86_64.

mod configure;
mod external;
mod host;
mod initial;
mod ioctls;
mod irqchip;
mod registers;
mod reset;
mod slots;
mod stats;
mod system;
mod vcpu;
mod vm;
mod xsave;

pub use host::probe;
pub use initial::{BootState, EntryMode};
pub use system::System;
pub use vcpu::Vcpu;
pub use vm::{IDENTITY_MAP, LostTickPolicy, Vm, VmOptions};
