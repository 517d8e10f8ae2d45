//! A virtual machine: memory slots, interrupt chips and lines, clock.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting,
    kvm_clock_data, kvm_enable_cap, kvm_irq_routing_entry, kvm_msi, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, VmFd};
use vm_memory::{GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use super::{ioctls, stats, system::System, vcpu::Vcpu};
use crate::accel::{ExitHandler, StatValue, kvm::KvmError};
use crate::cpu::x86::IrqChip;

/// Where KVM puts the page table it needs for real mode on some Intel processors. The three pages of the task state
/// segment follow. Firmware must keep the guest off all four.
pub const IDENTITY_MAP: u64 = 0xfeff_c000;
const TSS: usize = 0xfeff_d000;

/// Pins of the I/O APIC that `kernel_irqchip=split` reserves routes for.
const IOAPIC_PINS: u64 = 24;

/// What happens to timer ticks the guest could not take in time (`kvm-pit.lost_tick_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostTickPolicy {
    /// They are injected later.
    #[default]
    Delay,
    /// They are lost.
    Discard,
}

/// How to make a VM.
#[derive(Clone, Copy, Debug, Default)]
pub struct VmOptions {
    /// Who emulates the interrupt controllers.
    pub irqchip: IrqChip,
    /// What the PIT does about lost ticks.
    pub lost_ticks: LostTickPolicy,
    /// vCPUs there may ever be.
    pub max_vcpus: u32,
    /// Idle vCPUs keep their host CPU (`-overcommit cpu-pm=on`).
    pub keep_idle: bool,
}

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    // Declared first, so that the VM goes before the memory it points to.
    pub(super) fd: VmFd,
    system: System,
    memory: Mutex<Vec<Arc<GuestRegionMmap>>>,
    next_slot: AtomicU32,
    irqchip: IrqChip,
    /// What MSR_CORE_THREAD_COUNT reads as.
    pub(super) core_thread_count: OnceLock<u64>,
}

impl Vm {
    /// Makes a VM with its interrupt chips and without memory or vCPUs.
    ///
    /// # Errors
    /// When KVM refuses a request, or cannot run that many vCPUs.
    pub fn new(system: System, options: VmOptions) -> Result<Self, KvmError> {
        let limit = system.max_vcpus();
        if usize::try_from(options.max_vcpus).is_ok_and(|max| max > limit) {
            return Err(KvmError::TooManyVcpus {
                requested: options.max_vcpus,
                limit,
            });
        }
        let fd = create(&system)?;
        let identity_map = Cap::SetIdentityMapAddr;
        if system.kvm.check_extension(identity_map) {
            fd.set_identity_map_address(IDENTITY_MAP)
                .map_err(|error| KvmError::request("KVM_SET_IDENTITY_MAP_ADDR", error))?;
        }
        fd.set_tss_address(TSS)
            .map_err(|error| KvmError::request("KVM_SET_TSS_ADDR", error))?;
        match options.irqchip {
            IrqChip::Kernel => create_kernel_irqchip(&fd, options.lost_ticks)?,
            IrqChip::Split => enable_split_irqchip(&fd)?,
        }
        if options.keep_idle {
            disable_idle_exits(&fd)?;
        }
        Ok(Self {
            fd,
            system,
            memory: Mutex::new(Vec::new()),
            next_slot: AtomicU32::new(0),
            irqchip: options.irqchip,
            core_thread_count: OnceLock::new(),
        })
    }

    /// Makes vCPU number `index`, whose APIC id is `apic_id`. Guest memory is for crash reports.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn create_vcpu(
        &self,
        index: u32,
        apic_id: u32,
        handler: Arc<dyn ExitHandler>,
        memory: GuestMemoryMmap,
    ) -> Result<Vcpu, KvmError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(apic_id))
            .map_err(|error| KvmError::request("KVM_CREATE_VCPU", error))?;
        let core_thread_count = self.core_thread_count.get().copied();
        Vcpu::new(fd, index, handler, memory, self.fd.run_size(), core_thread_count)
    }

    /// Gives the guest `size` bytes at `guest_addr`, taken from `memory` at `offset`.
    ///
    /// # Errors
    /// When the slot is not within `memory`, or KVM refuses it (out of slots, overlap).
    pub fn add_memory_slot(
        &self,
        guest_addr: u64,
        size: u64,
        memory: &Arc<GuestRegionMmap>,
        offset: u64,
        read_only: bool,
    ) -> Result<u32, KvmError> {
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
        let region = kvm_userspace_memory_region {
            slot,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: guest_addr,
            memory_size: size,
            userspace_addr: 0,
        };
        ioctls::set_memory_slot(&self.fd, region, memory, offset)
            .map_err(|error| KvmError::request("KVM_SET_USER_MEMORY_REGION", error))?;
        let mut kept = self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.push(Arc::clone(memory));
        tracing::debug!(slot, guest_addr, size, start = ?memory.start_addr(), "memory slot");
        Ok(slot)
    }

    /// Who emulates the interrupt controllers.
    #[must_use]
    pub fn irqchip(&self) -> IrqChip {
        self.irqchip
    }

    /// Drives the interrupt line `gsi` of the kernel's interrupt chips.
    ///
    /// # Errors
    /// When KVM refuses (`kernel_irqchip=split` has no such lines).
    pub fn set_irq_line(&self, gsi: u32, level: bool) -> io::Result<()> {
        self.fd.set_irq_line(gsi, level).map_err(io::Error::from)
    }

    /// Sends a message-signalled interrupt.
    ///
    /// # Errors
    /// When KVM refuses. A guest that blocks the message is no error.
    pub fn signal_msi(&self, address: u64, data: u32) -> io::Result<()> {
        let [lo, hi] = [address & 0xffff_ffff, address >> 32].map(|half| u32::try_from(half).unwrap_or_default());
        let msi = kvm_msi {
            address_lo: lo,
            address_hi: hi,
            data,
            ..kvm_msi::default()
        };
        self.fd.signal_msi(msi).map(|_| ()).map_err(io::Error::from)
    }

    /// The VM's descriptor, for ioeventfds, irqfds and dirty logs.
    #[must_use]
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// The host's KVM, which made this VM.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The paravirtual clock in nanoseconds (KVM_GET_CLOCK).
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn clock(&self) -> io::Result<u64> {
        Ok(self.fd.get_clock()?.clock)
    }

    /// Sets the paravirtual clock, in nanoseconds.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn set_clock(&self, clock: u64) -> io::Result<()> {
        let data = kvm_clock_data {
            clock,
            ..kvm_clock_data::default()
        };
        self.fd.set_clock(&data).map_err(io::Error::from)
    }

    /// The VM's statistics, with their values.
    ///
    /// # Errors
    /// When the kernel has none to offer or its answer is malformed.
    pub fn stats(&self) -> io::Result<Vec<StatValue>> {
        stats::read(&self.fd)
    }
}

fn create(system: &System) -> Result<VmFd, KvmError> {
    loop {
        match system.kvm.create_vm() {
            Ok(fd) => return Ok(fd),
            // A signal came while the kernel waited for something; QEMU tries again as well.
            Err(error) if error.errno() == nix::libc::EINTR => {}
            Err(error) => return Err(KvmError::request("KVM_CREATE_VM", error)),
        }
    }
}

/// Lets instructions by which vCPUs wait run without an exit, as far as the host can.
fn disable_idle_exits(fd: &VmFd) -> Result<(), KvmError> {
    let supported = fd.check_extension_raw(KVM_CAP_X86_DISABLE_EXITS.into());
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_X86_DISABLE_EXITS,
        ..kvm_enable_cap::default()
    };
    cap.args[0] = u64::try_from(supported).unwrap_or_default();
    fd.enable_cap(&cap)
        .map_err(|error| KvmError::request("KVM_CAP_X86_DISABLE_EXITS", error))
}

fn create_kernel_irqchip(fd: &VmFd, lost_ticks: LostTickPolicy) -> Result<(), KvmError> {
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
    let routing = KvmIrqRouting::from_entries(&isa_routes())
        .map_err(|error| KvmError::request("irq routing", io::Error::other(format!("{error:?}"))))?;
    fd.set_gsi_routing(&routing)
        .map_err(|error| KvmError::request("KVM_SET_GSI_ROUTING", error))
}

/// The wiring of a PC: lines 0 to 15 reach both the PICs and the I/O APIC, where the timer's line 0 is on pin 2.
fn isa_routes() -> Vec<kvm_irq_routing_entry> {
    let master = (0..8)
        .filter(|gsi| *gsi != 2)
        .map(|gsi| (gsi, KVM_IRQCHIP_PIC_MASTER, gsi));
    let slave = (8..16).map(|gsi| (gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8));
    let ioapic = (0..24)
        .filter(|gsi| *gsi != 2)
        .map(|gsi| (gsi, KVM_IRQCHIP_IOAPIC, if gsi == 0 { 2 } else { gsi }));
    master
        .chain(slave)
        .chain(ioapic)
        .map(|(gsi, irqchip, pin)| {
            let mut entry = kvm_irq_routing_entry {
                gsi,
                type_: KVM_IRQ_ROUTING_IRQCHIP,
                ..kvm_irq_routing_entry::default()
            };
            entry.u.irqchip.irqchip = irqchip;
            entry.u.irqchip.pin = pin;
            entry
        })
        .collect()
}

fn enable_split_irqchip(fd: &VmFd) -> Result<(), KvmError> {
    let mut cap = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        ..kvm_enable_cap::default()
    };
    cap.args[0] = IOAPIC_PINS;
    fd.enable_cap(&cap)
        .map_err(|error| KvmError::request("KVM_CAP_SPLIT_IRQCHIP", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_on_pin_two_of_the_io_apic() {
        let routes = isa_routes();
        assert_eq!(routes.iter().filter(|route| route.gsi == 0).count(), 2);
        assert_eq!(routes.iter().filter(|route| route.gsi == 2).count(), 0);
        assert_eq!(routes.iter().filter(|route| route.gsi == 20).count(), 1);
        assert_eq!(routes.len(), 7 + 8 + 23);
    }
}
