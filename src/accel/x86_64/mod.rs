//! What an accelerator does for guests of x86_64.
//!
//! The order of steps is the machine's: open, create, prepare for the CPU model, memory, interrupt controllers, vCPUs.
//! An [`Accelerator`] can be opened, and made ready, long before anybody knows which guest it will run.

mod boot;
mod exits;

use std::{io, ops::Range, sync::Arc};

pub use boot::{BootState, EntryMode};
pub use exits::X86Exits;

use super::{
    AccelError, Processor, StatValue,
    controllers::InterruptControllers,
    debug::{DebugRegisters, DebugSetup},
    kvm,
};
use crate::{
    cpu::x86::{Host, IrqChip, RealizedVcpu, RealizedVm, vmstate::VcpuState},
    irq::Controller,
    mem::{AddressSpace, ListenerError},
    vmstate::pc::{IoApicState, KvmClockState, PicState, PitState},
};

/// Opens the accelerator of this name.
///
/// # Errors
/// There is none that runs guests, or it cannot be used.
pub fn open(name: &str) -> Result<Box<dyn Accelerator>, AccelError> {
    match name {
        kvm::x86_64::NAME => Ok(Box::new(kvm::x86_64::System::open()?)),
        other => Err(AccelError::Invalid { name: other.to_owned() }),
    }
}

/// An accelerator, opened.
pub trait Accelerator: Send {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// What it offers to CPU models.
    ///
    /// # Errors
    /// It does not tell.
    fn host(&self) -> Result<Host, AccelError>;
    /// vCPUs that all VMs together should not exceed.
    fn recommended_vcpus(&self) -> usize;
    /// Does what can be done for a VM before anything is known of it, so that [`Accelerator::create`] has less to do.
    ///
    /// # Errors
    /// The host refuses.
    fn make_ready(&mut self) -> Result<(), AccelError>;
    /// Makes a VM without memory, interrupt controllers and vCPUs.
    ///
    /// # Errors
    /// The host refuses, or cannot run that many vCPUs.
    fn create(self: Box<Self>, spec: &VmSpec) -> Result<Arc<dyn AccelVm>, AccelError>;
}

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
#[derive(Clone, Debug)]
pub struct VmSpec {
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
    /// Pages of shadow page tables (`kvm-shadow-mem`); none for what the accelerator chooses.
    pub shadow_memory: Option<u64>,
    /// Four pages of guest memory below 4 GiB that the accelerator may have for itself: firmware keeps the guest off
    /// them.
    pub scratch: Range<u64>,
}

/// A VM. It sends and takes interrupts as a [`Controller`].
pub trait AccelVm: Controller {
    /// What the accelerator offers to CPU models.
    ///
    /// # Errors
    /// It does not tell.
    fn host(&self) -> Result<Host, AccelError>;
    /// Prepares for vCPUs of a CPU model. Before memory and vCPUs.
    ///
    /// # Errors
    /// The host lacks what the model needs.
    fn prepare(&self, realized: &RealizedVm) -> Result<(), AccelError>;
    /// Makes the VM's memory and doorbells those of these address spaces, now and whenever they change.
    ///
    /// # Errors
    /// What the host refuses.
    fn follow(self: Arc<Self>, memory: &AddressSpace, ports: &AddressSpace) -> Result<(), ListenerError>;
    /// Makes the interrupt controllers that are the accelerator's: after memory, before vCPUs.
    ///
    /// # Errors
    /// What the host refuses.
    fn create_interrupt_controllers(&self) -> Result<(), AccelError>;
    /// The interrupt controllers that are the accelerator's, as they are now.
    ///
    /// # Errors
    /// The host refuses (`kernel_irqchip=split` has none there).
    fn interrupt_controllers(&self) -> io::Result<InterruptControllers>;
    /// The chips that are the accelerator's, for saving while no vCPU runs. `guest_time` is the guest's clock, in
    /// nanoseconds.
    ///
    /// # Errors
    /// The host refuses (`kernel_irqchip=split` has none there).
    fn save_chips(&self, guest_time: u64) -> io::Result<ChipStates>;
    /// Gives these chips what [`AccelVm::save_chips`] read from others.
    ///
    /// # Errors
    /// The host refuses.
    fn load_chips(&self, states: &ChipStates, guest_time: u64) -> io::Result<()>;
    /// The VM as the end of interrupt lines and messages.
    fn interrupts(self: Arc<Self>) -> Arc<dyn Controller>;
    /// Makes a vCPU.
    ///
    /// # Errors
    /// What the host refuses.
    fn vcpu(&self, spec: VcpuSpec) -> Result<Box<dyn X86Processor>, AccelError>;
    /// The paravirtual clock.
    fn clock(&self) -> &dyn VmClock;
    /// The VM's statistics, with their values.
    ///
    /// # Errors
    /// The host has none to offer.
    fn stats(&self) -> io::Result<Vec<StatValue>>;
}

/// Interrupt controllers and timer of a PC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipStates {
    /// The 8259As.
    pub pics: [PicState; 2],
    /// The I/O APIC.
    pub ioapic: IoApicState,
    /// The timer.
    pub pit: PitState,
    /// The speaker follows counter 2.
    pub speaker_on: bool,
}

/// A guest's paravirtual clock, in nanoseconds.
pub trait VmClock {
    /// What it shows.
    ///
    /// # Errors
    /// The host does not tell.
    fn get(&self) -> io::Result<KvmClockState>;
    /// Sets it.
    ///
    /// # Errors
    /// The host refuses.
    fn set(&self, nanoseconds: u64) -> io::Result<()>;
}

/// How to make a vCPU.
#[derive(Clone)]
pub struct VcpuSpec {
    /// Its number, from 0. The first is the boot vCPU, to which PICs are wired.
    pub index: u32,
    /// The id of its local APIC.
    pub apic_id: u32,
    /// Who answers what the accelerator does not.
    pub exits: Arc<dyn X86Exits>,
    /// What it sees as memory, for reports.
    pub memory: Arc<AddressSpace>,
}

/// A vCPU. Made on one thread, configured, then moved to its own.
pub trait X86Processor: Processor {
    /// The rate of its time stamp counter in kHz; 0 where nobody tells.
    fn tsc_rate(&self) -> u32;
    /// Makes it a processor of a CPU model, in the state after power-on. Once, before it first runs.
    ///
    /// # Errors
    /// The host cannot do what the model says.
    fn configure(&mut self, realized: &RealizedVcpu) -> Result<(), AccelError>;
    /// Returns to the state after power-on; the boot vCPU starts as `boot` says.
    ///
    /// # Errors
    /// The host refuses, or it has not been configured.
    fn reset(&mut self, boot: BootState) -> io::Result<()>;
    /// All its registers, for saving. Once it is out of the guest.
    ///
    /// # Errors
    /// The host does not tell.
    fn save(&mut self) -> Result<VcpuState, AccelError>;
    /// Gives a vCPU that has just been reset what [`X86Processor::save`] read from one of the same model.
    ///
    /// # Errors
    /// The host does not take a value; the state of the vCPU is of no use then.
    fn load(&mut self, state: &VcpuState) -> Result<(), AccelError>;
    /// Tells the guest's watchdogs that the vCPU stood still. Guests without a paravirtual clock do not mind.
    fn mark_clock_paused(&mut self);
    /// Injects a non-maskable interrupt.
    ///
    /// # Errors
    /// The host refuses.
    fn inject_nmi(&mut self) -> io::Result<()>;
    /// Registers and code bytes as text.
    fn dump(&mut self) -> String;
    /// The registers that expressions may name; none that cannot be read.
    fn register_values(&mut self) -> Vec<(&'static str, u64)>;
    /// The registers of the local APIC: register n is at offset 16 * n.
    ///
    /// # Errors
    /// The host refuses.
    fn local_apic(&mut self) -> io::Result<Vec<u32>>;
    /// The registers for a debugger.
    ///
    /// # Errors
    /// The host refuses.
    fn debug_registers(&mut self) -> io::Result<DebugRegisters>;
    /// Changes the registers for a debugger.
    ///
    /// # Errors
    /// The host refuses, or a selector would change.
    fn set_debug_registers(&mut self, registers: &DebugRegisters) -> io::Result<()>;
    /// Stops for a debugger from now on, where it wants.
    ///
    /// # Errors
    /// The host refuses; it stops then as before.
    fn set_debug(&mut self, setup: DebugSetup) -> io::Result<()>;
    /// The guest physical address behind a linear one, with the page tables the vCPU uses now.
    fn translate(&mut self, linear: u64) -> Option<u64>;
    /// The vCPU's statistics, with their values.
    ///
    /// # Errors
    /// The host has none to offer.
    fn stats(&mut self) -> io::Result<Vec<StatValue>>;
}
