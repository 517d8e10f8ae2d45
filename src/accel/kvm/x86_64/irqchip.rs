//! Interrupt controllers: what of them is in the kernel, and how interrupts get there.

use std::io;

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
    KVM_X2APIC_API_USE_32BIT_IDS, KvmIrqRouting, kvm_enable_cap, kvm_irq_routing_entry, kvm_msi, kvm_pit_config,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::{ioctls, vm::Vm};
use crate::accel::controllers::{InterruptControllers, IoApicInfo, PicInfo};
use crate::accel::{kvm::KvmError, x86_64::LostTickPolicy};
use crate::irq::{Chip, Controller, Msi, Route, RouteTo};

/// Pins of the I/O APIC that `kernel_irqchip=split` reserves routes for.
const IOAPIC_PINS: u64 = 24;
/// The largest id a local APIC has without x2APIC mode; 255 means all of them.
const MAX_XAPIC_ID: u32 = 254;
/// Bits 5 to 11 of a message's address: bits 8 to 14 of the destination (KVM_FEATURE_MSI_EXT_DEST_ID).
const EXTENDED_DESTINATION: u64 = 0xfe0;

impl Controller for Vm {
    fn set_line(&self, gsi: u32, level: bool) -> io::Result<()> {
        self.fd.set_irq_line(gsi, level).map_err(io::Error::from)
    }

    fn send(&self, message: Msi) -> io::Result<()> {
        let [address_lo, address_hi] = kernel_address(message.address, self.wide_ids);
        let msi = kvm_msi {
            address_lo,
            address_hi,
            data: message.data,
            ..kvm_msi::default()
        };
        self.fd.signal_msi(msi).map(|_| ()).map_err(io::Error::from)
    }

    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        let entries: Vec<_> = routes.iter().map(|route| entry(*route, self.wide_ids)).collect();
        let routing = KvmIrqRouting::from_entries(&entries).map_err(|error| io::Error::other(format!("{error:?}")))?;
        self.fd.set_gsi_routing(&routing).map_err(io::Error::from)
    }

    fn connect(&self, gsi: u32, event: &EventFd, resample: Option<&EventFd>) -> io::Result<()> {
        let connected = match resample {
            Some(resample) => self.fd.register_irqfd_with_resample(event, resample, gsi),
            None => self.fd.register_irqfd(event, gsi),
        };
        connected.map_err(io::Error::from)
    }

    fn disconnect(&self, gsi: u32, event: &EventFd) -> io::Result<()> {
        self.fd.unregister_irqfd(event, gsi).map_err(io::Error::from)
    }
}

/// The interrupt controllers in the kernel.
pub(super) fn read(fd: &VmFd) -> io::Result<InterruptControllers> {
    let ioapic = ioctls::irqchip(fd, KVM_IRQCHIP_IOAPIC)?;
    Ok(InterruptControllers {
        ioapic: ioapic_info(&ioapic),
        pics: [
            pic_info(&ioctls::irqchip(fd, KVM_IRQCHIP_PIC_MASTER)?),
            pic_info(&ioctls::irqchip(fd, KVM_IRQCHIP_PIC_SLAVE)?),
        ],
    })
}

/// From a `struct kvm_ioapic_state`.
fn ioapic_info(bytes: &[u8; 512]) -> IoApicInfo {
    const TABLE: usize = 24;
    let number = |at: usize, len: usize| {
        let bytes = bytes[at..at + len].iter().rev();
        bytes.fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
    };
    let word = |at| u32::try_from(number(at, 4)).unwrap_or_default();
    IoApicInfo {
        version: 0x11,
        id: bytes[12],
        select: bytes[8],
        irr: word(16),
        table: (0..24).map(|pin| number(TABLE + 8 * pin, 8)).collect(),
    }
}

/// From a `struct kvm_pic_state`.
fn pic_info(bytes: &[u8; 512]) -> PicInfo {
    let [_, irr, imr, isr, first, base, reads_isr, ..] = *bytes;
    PicInfo {
        irr,
        imr,
        isr,
        first,
        base,
        reads_isr: reads_isr != 0,
        elcr: bytes[14],
        special_nested: bytes[12] != 0,
    }
}

/// A route as the kernel takes it.
fn entry(route: Route, wide_ids: bool) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi: route.gsi,
        ..kvm_irq_routing_entry::default()
    };
    match route.to {
        RouteTo::Pin { chip, pin } => {
            entry.type_ = KVM_IRQ_ROUTING_IRQCHIP;
            entry.u.irqchip.pin = pin;
            entry.u.irqchip.irqchip = match chip {
                Chip::FirstPic => KVM_IRQCHIP_PIC_MASTER,
                Chip::SecondPic => KVM_IRQCHIP_PIC_SLAVE,
                Chip::IoApic => KVM_IRQCHIP_IOAPIC,
            };
        }
        RouteTo::Msi(message) => {
            let [address_lo, address_hi] = kernel_address(message.address, wide_ids);
            entry.type_ = KVM_IRQ_ROUTING_MSI;
            entry.u.msi.address_lo = address_lo;
            entry.u.msi.address_hi = address_hi;
            entry.u.msi.data = message.data;
        }
    }
    entry
}

/// The halves of a message's address as the kernel takes them: when ids have 32 bits, the upper 24 of the destination
/// are in the upper half.
fn kernel_address(address: u64, wide_ids: bool) -> [u32; 2] {
    let (mut low, mut high) = (address & 0xffff_ffff, address >> 32);
    if wide_ids {
        high |= (low & EXTENDED_DESTINATION) >> 5 << 8;
        low &= !EXTENDED_DESTINATION;
    }
    [low, high].map(|half| u32::try_from(half).unwrap_or_default())
}

/// Makes local APICs, I/O APIC, PICs and PIT.
pub(super) fn create_in_kernel(fd: &VmFd, lost_ticks: LostTickPolicy) -> Result<(), KvmError> {
    fd.create_irq_chip()
        .map_err(|error| KvmError::request("KVM_CREATE_IRQCHIP", error))?;
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    fd.create_pit2(pit)
        .map_err(|error| KvmError::request("KVM_CREATE_PIT2", error))?;
    if lost_ticks == LostTickPolicy::Discard {
        ioctls::set_pit_reinject(fd, false).map_err(|error| KvmError::request("KVM_REINJECT_CONTROL", error))?;
    }
    Ok(())
}

/// Makes local APICs only.
pub(super) fn create_split(fd: &VmFd) -> Result<(), KvmError> {
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        ..kvm_enable_cap::default()
    };
    cap.args[0] = IOAPIC_PINS;
    fd.enable_cap(&cap)
        .map_err(|error| KvmError::request("KVM_CAP_SPLIT_IRQCHIP", error))
}

/// Prepares for local APICs with ids up to `max_apic_id`. Whether messages may have destinations of 32 bits.
pub(super) fn widen_ids(fd: &VmFd, max_apic_id: u32) -> Result<bool, KvmError> {
    if max_apic_id <= MAX_XAPIC_ID {
        return Ok(false);
    }
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_X2APIC_API,
        ..kvm_enable_cap::default()
    };
    cap.args[0] = u64::from(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    fd.enable_cap(&cap)
        .map(|()| true)
        .map_err(|error| KvmError::request("KVM_CAP_X2APIC_API", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_beyond_eight_bits_go_to_the_upper_half() {
        let address = 0xfee0_0000 | 0x2c << 12 | 1 << 5 | 4;
        assert_eq!(kernel_address(address, true), [0xfee2_c004, 0x100]);
        assert_eq!(kernel_address(address, false), [0xfee2_c024, 0]);
    }
}
