//! A virtual machine: memory slots, interrupt chips and lines, clock.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use kvm_bindings::{KVM_CAP_X86_DISABLE_EXITS, kvm_enable_cap};
use kvm_ioctls::{Cap, Kvm, VmFd};

use super::{
    chips, ioctls, irqchip,
    slots::{MemorySlots, PortDoorbells, SlotTable},
    stats,
    system::System,
    vcpu::Vcpu,
};
use crate::accel::{
    AccelError, StatValue,
    controllers::InterruptControllers,
    kvm::KvmError,
    x86_64::{AccelVm, ChipStates, LostTickPolicy, VcpuSpec, VmClock, VmSpec, X86Processor},
};
use crate::cpu::x86::{Host, IrqChip, RealizedVm};
use crate::irq::Controller;
use crate::mem::{AddressSpace, ListenerError};
use crate::vmstate::pc::KvmClockState;

/// Offset of the task state segment's three pages behind the page with the page table; both are what KVM needs for real
/// mode on some Intel processors.
const TSS_OFFSET: u64 = 0x1000;

/// A virtual machine.
#[derive(Debug)]
pub(super) struct Vm {
    // Declared first, so that the VM goes before the memory it points to.
    pub(super) fd: VmFd,
    pub(super) slots: SlotTable,
    pub(super) system: Arc<System>,
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
    pub(super) fn new(mut system: System, spec: &VmSpec) -> Result<Self, KvmError> {
        let limit = system.max_vcpus();
        if usize::try_from(spec.max_vcpus).is_ok_and(|max| max > limit) {
            return Err(KvmError::TooManyVcpus {
                requested: spec.max_vcpus,
                limit,
            });
        }
        let fd = match system.ready.take() {
            Some(fd) => fd,
            None => create(&system.kvm)?,
        };
        let identity_map = Cap::SetIdentityMapAddr;
        if system.kvm.check_extension(identity_map) {
            fd.set_identity_map_address(spec.scratch.start)
                .map_err(|error| KvmError::request("KVM_SET_IDENTITY_MAP_ADDR", error))?;
        }
        let tss = usize::try_from(spec.scratch.start + TSS_OFFSET).unwrap_or(usize::MAX);
        fd.set_tss_address(tss)
            .map_err(|error| KvmError::request("KVM_SET_TSS_ADDR", error))?;
        let wide_ids = irqchip::widen_ids(&fd, spec.max_apic_id)?;
        if let Some(bytes) = spec.shadow_memory {
            ioctls::set_shadow_pages(&fd, bytes / 4096)
                .map_err(|error| KvmError::request("KVM_SET_NR_MMU_PAGES", error))?;
        }
        if spec.keep_idle {
            disable_idle_exits(&fd)?;
        }
        Ok(Self {
            fd,
            slots: SlotTable::default(),
            system: Arc::new(system),
            irqchip: spec.irqchip,
            lost_ticks: spec.lost_ticks,
            wide_ids,
            core_thread_count: OnceLock::new(),
        })
    }
}

impl AccelVm for Vm {
    fn host(&self) -> Result<Host, AccelError> {
        Ok(self.system.host()?)
    }

    fn prepare(&self, realized: &RealizedVm) -> Result<(), AccelError> {
        Ok(self.prepare(realized)?)
    }

    fn follow(self: Arc<Self>, memory: &AddressSpace, ports: &AddressSpace) -> Result<(), ListenerError> {
        memory.listen(Arc::new(MemorySlots::new(&self)))?;
        ports.listen(Arc::new(PortDoorbells(self)))
    }

    /// The kernel retires what a chip's registration replaces in its own time, some milliseconds, and whoever changes
    /// memory slots next waits for that.
    fn create_interrupt_controllers(&self) -> Result<(), AccelError> {
        Ok(match self.irqchip {
            IrqChip::Kernel => irqchip::create_in_kernel(&self.fd, self.lost_ticks),
            IrqChip::Split => irqchip::create_split(&self.fd),
        }?)
    }

    fn interrupt_controllers(&self) -> io::Result<InterruptControllers> {
        irqchip::read(&self.fd)
    }

    fn save_chips(&self, guest_time: u64) -> io::Result<ChipStates> {
        chips::save(&self.fd, guest_time)
    }

    fn load_chips(&self, states: &ChipStates, guest_time: u64) -> io::Result<()> {
        chips::load(&self.fd, states, guest_time)
    }

    fn interrupts(self: Arc<Self>) -> Arc<dyn Controller> {
        self
    }

    fn vcpu(&self, spec: VcpuSpec) -> Result<Box<dyn X86Processor>, AccelError> {
        let takes_external = spec.index == 0 && self.irqchip == IrqChip::Split;
        Ok(Box::new(Vcpu::new(self, spec, takes_external)?))
    }

    fn clock(&self) -> &dyn VmClock {
        self
    }

    fn stats(&self) -> io::Result<Vec<StatValue>> {
        stats::read(&self.fd)
    }
}

/// KVM_GET_CLOCK and KVM_SET_CLOCK.
impl VmClock for Vm {
    fn get(&self) -> io::Result<KvmClockState> {
        chips::clock(&self.fd)
    }

    fn set(&self, nanoseconds: u64) -> io::Result<()> {
        chips::set_clock(&self.fd, nanoseconds)
    }
}

/// A VM of which nothing is known yet.
pub(super) fn create(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
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
