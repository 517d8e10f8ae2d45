//! PCI functions as `query-pci` shows them.

use super::pci::FunctionView;
use crate::devices::pci::{BarKind, ConfigSpace};
use crate::qapi::qmp::{
    PciBridgeInfo, PciBusInfo, PciDeviceClass, PciDeviceId, PciDeviceInfo, PciInfo, PciMemoryRange, PciMemoryRegion,
};

/// The root bus and everything behind it.
pub(crate) fn pci_info(functions: &[FunctionView]) -> PciInfo {
    PciInfo {
        bus: 0,
        devices: functions.iter().map(|function| device(0, function)).collect(),
    }
}

fn device(bus: u8, function: &FunctionView) -> PciDeviceInfo {
    let config = &function.config;
    let class = config.u16(0x0a);
    let is_endpoint = config.u8(0x0e) & 0x7f == 0;
    let pin = config.u8(0x3d);
    PciDeviceInfo {
        bus: bus.into(),
        slot: function.devfn.slot().into(),
        function: function.devfn.function().into(),
        class_info: PciDeviceClass {
            desc: class_name(class).map(str::to_owned),
            class: class.into(),
        },
        id: PciDeviceId {
            device: config.u16(2).into(),
            vendor: config.u16(0).into(),
            subsystem: is_endpoint.then(|| config.u16(0x2e).into()),
            subsystem_vendor: is_endpoint.then(|| config.u16(0x2c).into()),
        },
        irq: (pin != 0).then(|| config.u8(0x3c).into()),
        irq_pin: pin.into(),
        qdev_id: function.id.clone().unwrap_or_default(),
        pci_bridge: function.behind.as_ref().map(|behind| bridge(bus, config, behind)),
        regions: regions(config),
    }
}

fn bridge(bus: u8, config: &ConfigSpace, behind: &[FunctionView]) -> PciBridgeInfo {
    let (secondary, subordinate) = (config.u8(0x19), config.u8(0x1a));
    let io = |low: usize, high: usize| u64::from(config.u8(low) & 0xf0) << 8 | u64::from(config.u16(high)) << 16;
    let memory = |at: usize| u64::from(config.u16(at) & 0xfff0) << 16;
    let upper = |at: usize| u64::from(config.u32(at)) << 32;
    let devices: Vec<_> = behind.iter().map(|function| device(secondary, function)).collect();
    PciBridgeInfo {
        bus: PciBusInfo {
            number: bus.into(),
            secondary: secondary.into(),
            subordinate: subordinate.into(),
            io_range: range(io(0x1c, 0x30), io(0x1d, 0x32) | 0xfff),
            memory_range: range(memory(0x20), memory(0x22) | 0xf_ffff),
            prefetchable_range: range(memory(0x24) | upper(0x28), memory(0x26) | upper(0x2c) | 0xf_ffff),
        },
        devices: (!devices.is_empty()).then_some(devices),
    }
}

fn regions(config: &ConfigSpace) -> Vec<PciMemoryRegion> {
    let region = |(bar, kind, size): (usize, BarKind, u64)| {
        // A register that maps nothing shows the address no register can have.
        let address = config.bar_range(bar).map_or(-1, |range| signed(range.start));
        let memory = match kind {
            BarKind::Io => None,
            BarKind::Memory32 => Some((false, false)),
            BarKind::Memory64 { prefetchable } => Some((prefetchable, true)),
        };
        PciMemoryRegion {
            bar: i64::try_from(bar).unwrap_or_default(),
            r#type: if memory.is_some() { "memory" } else { "io" }.to_owned(),
            address,
            size: signed(size),
            prefetch: memory.map(|(prefetch, _)| prefetch),
            mem_type_64: memory.map(|(_, wide)| wide),
        }
    };
    config.bars().map(region).collect()
}

fn range(base: u64, limit: u64) -> PciMemoryRange {
    PciMemoryRange {
        base: signed(base),
        limit: signed(limit),
    }
}

/// QMP's numbers are signed.
fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// Names of classes, as QEMU's monitor shows them.
pub(super) fn class_name(class: u16) -> Option<&'static str> {
    Some(match class {
        0x0100 => "SCSI controller",
        0x0101 => "IDE controller",
        0x0106 => "SATA controller",
        0x0108 => "NVME controller",
        0x0200 => "Ethernet controller",
        0x0300 => "VGA controller",
        0x0380 => "Display controller",
        0x0600 => "Host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0c03 => "USB controller",
        0x0c05 => "SMBus",
        _ => return None,
    })
}
