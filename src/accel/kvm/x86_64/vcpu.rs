//! A vCPU: runs guest code and answers exits.

use std::{io, sync::Arc};

use kvm_bindings::{
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_debug_exit_arch, kvm_translation,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::libc::{EAGAIN, EINTR};

use super::{
    configure::CORE_THREAD_COUNT, debug, external::ExternalInput, ioctls, registers, reset::PowerOnState,
    reset::read_msrs, state, stats, system::System, vm::Vm,
};
use crate::accel::{
    AccelError, Kick, Processor, StatValue, Step, VcpuEvent,
    debug::{DebugRegisters, DebugSetup, DebugStop},
    kvm::KvmError,
    run_page::RunPage,
    x86_64::{BootState, VcpuSpec, X86Exits, X86Processor},
};
use crate::cpu::x86::{RealizedVcpu, vmstate::VcpuState};
use crate::mem::AddressSpace;
use crate::report;

/// How often KVM_RUN is tried before half-done I/O counts as stuck; one or two are enough in practice.
const SETTLE_ATTEMPTS: u32 = 64;

/// A vCPU. It is made on one thread, configured, then moved to its own.
pub(super) struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) system: Arc<System>,
    index: u32,
    handler: Arc<dyn X86Exits>,
    memory: Arc<AddressSpace>,
    run_page: Arc<RunPage>,
    power_on: Option<PowerOnState>,
    core_thread_count: Option<u64>,
    /// Ids of local APICs have 32 bits.
    wide_ids: bool,
    /// On the vCPU that PICs outside the kernel are wired to.
    external: Option<ExternalInput>,
    /// What a debugger wants; none without one.
    debug: Option<Box<DebugSetup>>,
}

impl Vcpu {
    /// Makes a vCPU of `vm`; with `takes_external` the one that PICs outside the kernel are wired to.
    pub(super) fn new(vm: &Vm, spec: VcpuSpec, takes_external: bool) -> Result<Self, KvmError> {
        let fd = vm
            .fd
            .create_vcpu(u64::from(spec.apic_id))
            .map_err(|error| KvmError::request("KVM_CREATE_VCPU", error))?;
        let run_page = RunPage::map(ioctls::borrow(&fd), vm.fd.run_size())
            .map_err(|error| KvmError::request("mmap vcpu state", error))?;
        Ok(Self {
            fd,
            system: Arc::clone(&vm.system),
            index: spec.index,
            handler: spec.exits,
            memory: spec.memory,
            run_page: Arc::new(run_page),
            power_on: None,
            core_thread_count: vm.core_thread_count.get().copied(),
            wide_ids: vm.wide_ids,
            external: takes_external.then(ExternalInput::default),
            debug: None,
        })
    }

    fn event(&self, event: VcpuEvent) -> Step {
        self.handler.event(self.index, event);
        Step::Park
    }

    fn fail(&self, reason: &str) -> Step {
        self.event(VcpuEvent::Failed(format!(
            "{reason}\n{}",
            registers::dump(&self.fd, &self.memory)
        )))
    }

    fn system_event(&self, kind: u32) -> Step {
        match kind {
            KVM_SYSTEM_EVENT_SHUTDOWN => self.event(VcpuEvent::SystemShutdown),
            KVM_SYSTEM_EVENT_RESET => self.event(VcpuEvent::SystemReset),
            KVM_SYSTEM_EVENT_CRASH => self.event(VcpuEvent::SystemCrash(self.crash_parameters())),
            other => {
                tracing::warn!(vcpu = self.index, kind = other, "unknown KVM_EXIT_SYSTEM_EVENT");
                Step::Continue
            }
        }
    }

    /// What the guest wrote into HV_X64_MSR_CRASH_P0 to P4.
    fn crash_parameters(&self) -> Option<[u64; 5]> {
        const CRASH_P0: u32 = 0x4000_0100;
        let entries = read_msrs(&self.fd, &[0, 1, 2, 3, 4].map(|number| CRASH_P0 + number)).ok()?;
        let values: Vec<u64> = entries.iter().map(|entry| entry.data).collect();
        values.try_into().ok()
    }

    /// An exception that a debugger may have wanted, or that the guest made by itself while there is a debugger.
    fn debug_exit(&self, exit: &kvm_debug_exit_arch) -> Step {
        let nothing = DebugSetup::default();
        let setup = self.debug.as_deref().unwrap_or(&nothing);
        if let Some(stop) = debug::reason(setup, exit) {
            return self.event(VcpuEvent::Debug(stop));
        }
        match debug::give_back(&self.fd, exit, setup) {
            Ok(()) => Step::Continue,
            Err(error) => self.fail(&format!("error: KVM_SET_GUEST_DEBUG failed {}", report::reason(&error))),
        }
    }

    /// Whether the vCPU is at a debugger's breakpoint instruction, which KVM's instruction emulator does not know: where it
    /// runs the guest, it gives up there.
    fn is_at_breakpoint(&self) -> bool {
        let Some(setup) = self.debug.as_deref() else {
            return false;
        };
        match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => setup.software.contains(&regs.rip.wrapping_add(sregs.cs.base)),
            _ => false,
        }
    }

    fn internal_error(&self) -> Step {
        const EMULATION_FAILURE: u32 = 1;
        let (suberror, data) = self.run_page.internal_error();
        if suberror == EMULATION_FAILURE && self.is_at_breakpoint() {
            return self.event(VcpuEvent::Debug(DebugStop::Software));
        }
        let name = match suberror {
            1 => " (emulation failure)",
            2 => " (simultaneous exceptions)",
            3 => " (exit while an event was delivered)",
            4 => " (unexpected exit reason)",
            _ => "",
        };
        let mut reason = format!("KVM internal error. Suberror: {suberror}{name}");
        for (index, word) in data.iter().enumerate() {
            reason.push_str(&format!("\nextra data[{index}]: 0x{word:016x}"));
        }
        self.fail(&reason)
    }
}

impl X86Processor for Vcpu {
    fn tsc_rate(&self) -> u32 {
        self.fd.get_tsc_khz().unwrap_or_default()
    }

    fn configure(&mut self, realized: &RealizedVcpu) -> Result<(), AccelError> {
        self.set_model(realized)?;
        let state = PowerOnState::record(&self.system.kvm, &self.fd)
            .map_err(|error| KvmError::request("recording the vCPU's initial state", error))?;
        self.power_on = Some(state);
        Ok(())
    }

    fn reset(&mut self, boot: BootState) -> io::Result<()> {
        if let Some(external) = &mut self.external {
            *external = ExternalInput::default();
        }
        let boot = if self.index == 0 { boot } else { BootState::PowerOn };
        let state = self.power_on.as_ref().ok_or(nix::errno::Errno::EINVAL)?;
        state.restore(&self.fd, boot)
    }

    fn save(&mut self) -> Result<VcpuState, AccelError> {
        let mut state = state::save(&self.system.kvm, &self.fd, self.wide_ids)?;
        // What the PICs have been told is taken is on its way in.
        if let Some(vector) = self.external.as_ref().and_then(ExternalInput::waiting) {
            if state.cpu.interrupt_injected < 0 {
                state.cpu.interrupt_injected = vector.into();
            }
        }
        Ok(state)
    }

    fn load(&mut self, state: &VcpuState) -> Result<(), AccelError> {
        if let Some(external) = &mut self.external {
            *external = ExternalInput::default();
        }
        Ok(state::load(&self.system.kvm, &self.fd, self.wide_ids, state)?)
    }

    /// KVM_KVMCLOCK_CTRL.
    fn mark_clock_paused(&mut self) {
        if let Err(error) = self.fd.kvmclock_ctrl() {
            tracing::trace!(vcpu = self.index, %error, "KVM_KVMCLOCK_CTRL");
        }
    }

    fn inject_nmi(&mut self) -> io::Result<()> {
        self.fd.nmi().map_err(io::Error::from)
    }

    fn dump(&mut self) -> String {
        registers::dump(&self.fd, &self.memory)
    }

    fn register_values(&mut self) -> Vec<(&'static str, u64)> {
        registers::values(&self.fd)
    }

    fn local_apic(&mut self) -> io::Result<Vec<u32>> {
        let page = self.fd.get_lapic()?.regs;
        let bytes: Vec<u8> = page.iter().map(|byte| *byte as u8).collect();
        let registers = bytes.chunks_exact(16);
        Ok(registers
            .map(|register| {
                register[..4]
                    .iter()
                    .rev()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte))
            })
            .collect())
    }

    fn debug_registers(&mut self) -> io::Result<DebugRegisters> {
        debug::read(&self.fd)
    }

    fn set_debug_registers(&mut self, registers: &DebugRegisters) -> io::Result<()> {
        debug::write(&self.fd, registers)
    }

    fn set_debug(&mut self, setup: DebugSetup) -> io::Result<()> {
        debug::arm(&self.fd, &setup)?;
        self.debug = Some(Box::new(setup)).filter(|setup| !setup.is_empty());
        Ok(())
    }

    fn translate(&mut self, linear: u64) -> Option<u64> {
        let kvm_translation {
            physical_address,
            valid,
            ..
        } = self.fd.translate_gva(linear).ok()?;
        (valid != 0).then_some(physical_address)
    }

    fn stats(&mut self) -> io::Result<Vec<StatValue>> {
        stats::read(&self.fd)
    }
}

impl Processor for Vcpu {
    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.run_page) as _
    }

    fn run(&mut self) -> Step {
        if let Some(external) = &mut self.external {
            if let Err(error) = external.offer(&mut self.fd, &*self.handler) {
                return self.fail(&format!("error: KVM_INTERRUPT failed {}", report::reason(&error)));
            }
        }
        self.enter()
    }

    fn settle(&mut self) {
        for _ in 0..SETTLE_ATTEMPTS {
            if self.enter() == Step::Interrupted {
                return;
            }
        }
        tracing::warn!(vcpu = self.index, "an exit is still half-done");
    }
}

impl Vcpu {
    /// KVM_RUN, and the answer to its exit.
    fn enter(&mut self) -> Step {
        let handler = &self.handler;
        match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                let size = usize::from(self.run_page.pio_size()).max(1);
                data.chunks(size).for_each(|chunk| handler.pio_write(port, chunk));
                Step::Continue
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                let size = usize::from(self.run_page.pio_size()).max(1);
                data.chunks_mut(size).for_each(|chunk| handler.pio_read(port, chunk));
                Step::Continue
            }
            Ok(VcpuExit::MmioRead(addr, data)) => {
                handler.mmio_read(addr, data);
                Step::Continue
            }
            Ok(VcpuExit::MmioWrite(addr, data)) => {
                handler.mmio_write(addr, data);
                Step::Continue
            }
            Ok(VcpuExit::X86Rdmsr(exit)) => {
                match self.core_thread_count.filter(|_| exit.index == CORE_THREAD_COUNT) {
                    Some(count) => *exit.data = count,
                    None => *exit.error = 1,
                }
                Step::Continue
            }
            Ok(VcpuExit::X86Wrmsr(exit)) => {
                // The only register that comes here is read-only: the guest gets a general protection exception.
                *exit.error = 1;
                Step::Continue
            }
            Ok(VcpuExit::IoapicEoi(vector)) => {
                handler.end_of_interrupt(vector);
                Step::Continue
            }
            Ok(VcpuExit::Intr) => Step::Interrupted,
            Ok(VcpuExit::IrqWindowOpen | VcpuExit::SetTpr | VcpuExit::Hyperv) => Step::Continue,
            Ok(VcpuExit::Debug(exit)) => self.debug_exit(&exit),
            Ok(VcpuExit::Shutdown) => self.event(VcpuEvent::Shutdown),
            Ok(VcpuExit::SystemEvent(kind, _)) => self.system_event(kind),
            Ok(VcpuExit::InternalError) => self.internal_error(),
            Ok(VcpuExit::FailEntry(reason, cpu)) => self.fail(&format!(
                "KVM: entry failed, hardware error 0x{reason:x} on host CPU {cpu}"
            )),
            Ok(VcpuExit::MemoryFault { gpa, size, .. }) => {
                self.fail(&format!("KVM: memory fault at guest address 0x{gpa:x}, {size} bytes"))
            }
            Ok(other) => {
                let reason = format!("KVM: unknown exit reason: {other:?}");
                self.fail(&reason)
            }
            Err(error) if error.errno() == EINTR => Step::Interrupted,
            Err(error) if error.errno() == EAGAIN => Step::Continue,
            Err(error) => self.fail(&format!("error: kvm run failed {}", report::reason(&error.into()))),
        }
    }
}
