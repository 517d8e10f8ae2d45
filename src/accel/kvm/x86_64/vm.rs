//! A virtual machine: memory slots, interrupt chips and lines, clock.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use kvm_bindings::{KVM_CAP_X86_DISABLE_EXITS, kvm_clock_data, kvm_enable_cap};
use kvm_ioctls::{Cap, VmFd};

use super::{
    ioctls, irqchip,
    slots::{MemorySlots, PortDoorbells, SlotTable},
    stats,
    system::System,
    vcpu::Vcpu,
};
use crate::accel::{ExitHandler, StatValue, kvm::KvmError};
use crate::cpu::x86::IrqChip;
use crate::mem::{AddressSpace, ListenerError};

/// Where KVM puts the page table it needs for real mode on some Intel processors. The three pages of the task state
/// segment follow. Firmware must keep the guest off all four.
pub const IDENTITY_MAP: u64 = 0xfeff_c000;
const TSS: usize = 0xfeff_d000;

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
    /// The largest id a local APIC may ever have.
    pub max_apic_id: u32,
    /// Idle vCPUs keep their host CPU (`-overcommit cpu-pm=on`).
    pub keep_idle: bool,
    /// Bytes the kernel may use to shadow the guest's page tables; none for as much as it thinks fit.
    pub shadow_memory: Option<u64>,
}

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    // Declared first, so that the VM goes before the memory it points to.
    pub(super) fd: VmFd,
    pub(super) slots: SlotTable,
    system: System,
    irqchip: IrqChip,
    lost_ticks: LostTickPolicy,
    /// Messages may have destinations of 32 bits.
    pub(super) wide_ids: bool,
    /// What MSR_CORE_THREAD_COUNT reads as.
    pub(super) core_thread_count: OnceLock<u64>,
}

impl Vm {
    /// Makes a VM without memory, interrupt chips or vCPUs.
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
        let wide_ids = irqchip::widen_ids(&fd, options.max_apic_id)?;
        if let Some(bytes) = options.shadow_memory {
            ioctls::set_shadow_pages(&fd, bytes / 4096)
                .map_err(|error| KvmError::request("KVM_SET_NR_MMU_PAGES", error))?;
        }
        if options.keep_idle {
            disable_idle_exits(&fd)?;
        }
        Ok(Self {
            fd,
            slots: SlotTable::default(),
            system,
            irqchip: options.irqchip,
            lost_ticks: options.lost_ticks,
            wide_ids,
            core_thread_count: OnceLock::new(),
        })
    }

    /// Makes the interrupt chips: after all memory, before vCPUs. The kernel retires what a chip's registration replaces
    /// in its own time, some milliseconds, and whoever changes memory slots next waits for that.
    ///
    /// # Errors
    /// When KVM refuses a request.
    pub fn create_irqchip(&self) -> Result<(), KvmError> {
        match self.irqchip {
            IrqChip::Kernel => irqchip::create_in_kernel(&self.fd, self.lost_ticks),
            IrqChip::Split => irqchip::create_split(&self.fd),
        }
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
        memory: Arc<AddressSpace>,
    ) -> Result<Vcpu, KvmError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(apic_id))
            .map_err(|error| KvmError::request("KVM_CREATE_VCPU", error))?;
        let core_thread_count = self.core_thread_count.get().copied();
        let mut vcpu = Vcpu::new(fd, index, handler, memory, self.fd.run_size(), core_thread_count)?;
        if index == 0 && self.irqchip == IrqChip::Split {
            vcpu.take_external_interrupts();
        }
        Ok(vcpu)
    }

    /// Makes the VM's memory and doorbells those of these address spaces, now and whenever they change.
    ///
    /// # Errors
    /// KVM refuses a memory slot.
    pub fn follow(self: &Arc<Self>, memory: &AddressSpace, ports: &AddressSpace) -> Result<(), ListenerError> {
        memory.listen(Arc::new(MemorySlots::new(self)))?;
        ports.listen(Arc::new(PortDoorbells(Arc::clone(self))))
    }

    /// Who emulates the interrupt controllers.
    #[must_use]
    pub fn irqchip(&self) -> IrqChip {
        self.irqchip
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
