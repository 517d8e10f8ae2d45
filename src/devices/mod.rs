//! Devices: one file or folder for each.
//!
//! A device is a plain value that answers guest accesses. It knows neither KVM nor QMP: interrupts leave through
//! [`IrqLine`], everything the run-state machine must hear about leaves through [`Notifier`].

pub mod absent;
pub mod characters;
pub mod class;
pub mod debug_exit;
pub mod debugcon;
mod device;
pub mod drain;
#[cfg(test)]
mod endpoint;
pub mod fw_cfg;
pub mod i8042;
pub mod input;
pub mod ioapic;
pub(crate) mod pace;
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
pub mod virtio;

pub use crate::io::Clock;
pub use crate::irq::IrqLine;
use class::DeviceClass;
pub use device::{AcpiDevice, BootName, Device, MmioDevice, Notice, Notifier, PioDevice, PortNews, ResetKind};
pub use shared::{SharedDevice, ports, registers};

use crate::qom::{PropertyInfo, TypeInfo};
use crate::target::Target;

/// The devices that guests of `target` can have.
pub fn classes(target: Target) -> impl Iterator<Item = &'static DeviceClass> {
    let classes: &'static [&'static DeviceClass] = match target {
        Target::X86_64 => X86_64,
        Target::S390x => &[],
    };
    classes.iter().copied()
}

/// The class of this name.
#[must_use]
pub fn class(target: Target, name: &str) -> Option<&'static DeviceClass> {
    classes(target).find(|class| class.info.name == name)
}

/// The types of these devices, with those that only serve as parents.
pub fn types(target: Target) -> impl Iterator<Item = &'static TypeInfo> {
    let parents: &[&TypeInfo] = match target {
        Target::X86_64 => &virtio::TYPES,
        Target::S390x => &[],
    };
    let timer = (target == Target::X86_64).then_some(&pit::PIT_COMMON);
    timer
        .into_iter()
        .chain(parents.iter().copied())
        .chain(classes(target).map(|class| class.info))
}

static X86_64: &[&DeviceClass] = &[
    &serial::CLASS,
    &debug_exit::CLASS,
    &debugcon::CLASS,
    &pvpanic::CLASS,
    &pci::ROOT_PORT,
    #[cfg(test)]
    &endpoint::CLASS,
    &virtio::rng::CLASSES[0],
    &virtio::rng::CLASSES[1],
    &virtio::rng::CLASSES[2],
    &virtio::console::CLASSES[0],
    &virtio::console::CLASSES[1],
    &virtio::console::CLASSES[2],
    &virtio::console::PORT_CLASSES[0],
    &virtio::console::PORT_CLASSES[1],
    &virtio::net::CLASSES[0],
    &virtio::net::CLASSES[1],
    &virtio::net::CLASSES[2],
    &virtio::blk::CLASSES[0],
    &virtio::blk::CLASSES[1],
    &virtio::blk::CLASSES[2],
    &DeviceClass::built_in(&fw_cfg::FW_CFG),
    &DeviceClass::built_in(&pit::KVM_PIT),
    &DeviceClass::built_in(&pit::ISA_PIT),
    &DeviceClass::built_in(&VMPORT),
    &DeviceClass::built_in(&pci::HOST),
    &DeviceClass::built_in(&pci::MCH),
    &DeviceClass::built_in(&pci::LPC),
    &DeviceClass::built_in(&pic::KVM_PIC),
    &DeviceClass::built_in(&pic::ISA_PIC),
    &DeviceClass::built_in(&ioapic::KVM_IOAPIC),
    &DeviceClass::built_in(&ioapic::IOAPIC),
    &DeviceClass::built_in(&rtc::TYPE),
    &DeviceClass::built_in(&i8042::TYPE),
    &DeviceClass::built_in(&port92::TYPE),
];

/// VMware's port. It is not there, and `-machine vmport=off` says so: clients take the type for the sign that they may.
static VMPORT: TypeInfo = built_in("vmport", "isa-device", "VMware port", &[]);

/// A type whose devices come with the machine.
const fn built_in(
    name: &'static str,
    parent: &'static str,
    description: &'static str,
    properties: &'static [PropertyInfo],
) -> TypeInfo {
    TypeInfo {
        name,
        parent: Some(parent),
        is_abstract: false,
        interfaces: &[],
        bus: None,
        user_creatable: false,
        hotpluggable: false,
        description,
        properties,
    }
}
