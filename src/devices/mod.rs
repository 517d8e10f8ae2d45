//! Devices: one file or folder for each.
//!
//! A device is a plain value that answers guest accesses. It knows neither KVM nor QMP: interrupts leave through
//! [`IrqLine`], everything the run-state machine must hear about leaves through [`Notifier`].

mod clock;
pub mod debug_exit;
pub mod debugcon;
mod device;
pub mod fw_cfg;
pub mod i8042;
pub mod ioapic;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod port92;
pub mod pvpanic;
pub mod rtc;
pub mod serial;
mod shared;
#[cfg(test)]
mod testing;

pub use crate::irq::IrqLine;
pub use clock::Clock;
pub use device::{Device, MmioDevice, Notice, Notifier, PioDevice};
pub use shared::{SharedDevice, ports, registers};

use crate::qom::TypeInfo;
use crate::target::Target;

/// The devices that guests of `target` can have.
pub fn types(target: Target) -> impl Iterator<Item = &'static TypeInfo> {
    let types: &'static [&'static TypeInfo] = match target {
        Target::X86_64 => X86_64,
        Target::S390x => &[],
    };
    types.iter().copied()
}

static X86_64: &[&TypeInfo] = &[
    &serial::TYPE,
    &debug_exit::TYPE,
    &debugcon::TYPE,
    &pvpanic::TYPE,
    &fw_cfg::FW_CFG,
    &pit::PIT_COMMON,
    &pit::KVM_PIT,
    &VMPORT,
    &pci::MCH,
    &pci::LPC,
    &pci::ROOT_PORT,
];

/// VMware's port. It is not there, and `-machine vmport=off` says so: clients take the type for the sign that they may.
static VMPORT: TypeInfo = TypeInfo {
    name: "vmport",
    parent: Some("isa-device"),
    is_abstract: false,
    interfaces: &[],
    bus: None,
    user_creatable: false,
    hotpluggable: false,
    description: "VMware port",
    properties: &[],
};
