//! What is being delivered to a vCPU, or waits for it.

use kvm_bindings::{
    KVM_CAP_X86_TRIPLE_FAULT_EVENT, KVM_MP_STATE_HALTED, KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW,
    KVM_VCPUEVENT_VALID_SIPI_VECTOR, KVM_VCPUEVENT_VALID_SMM, KVM_VCPUEVENT_VALID_TRIPLE_FAULT, kvm_mp_state,
    kvm_vcpu_events,
};
use kvm_ioctls::{Kvm, VcpuFd};

use super::{core::SHADOW, failed};
use crate::accel::kvm::KvmError;
use crate::cpu::x86::vmstate::{CpuCommonState, CpuState};

/// `hflags`: system management mode.
const IN_SMM: u32 = 1 << 19;
/// `hflags2`: NMIs are blocked; system management mode was entered from an NMI; what is usual.
const NMI_BLOCKED: u32 = 1 << 2;
const SMM_INSIDE_NMI: u32 = 1 << 4;
const GLOBAL_INTERRUPTS: u32 = 0x101;
/// `interrupt_request`: a system management interrupt waits; an INIT is latched.
const SMI_WAITS: u32 = 1 << 6;
const INIT_LATCHED: u32 = 1 << 10;
/// After STI, and after a move to SS.
const ANY_SHADOW: u8 = 3;
const SHADOW_OF_STI: u8 = 2;

pub(super) fn save(fd: &VcpuFd, cpu: &mut CpuState, common: &mut CpuCommonState) -> Result<(), KvmError> {
    let events = fd.get_vcpu_events().map_err(failed("KVM_GET_VCPU_EVENTS"))?;
    let exception = events.exception;
    if exception.injected != 0 || exception.pending != 0 {
        cpu.exception_nr = exception.nr.into();
        cpu.has_error_code = exception.has_error_code != 0;
        cpu.error_code = cpu.has_error_code.then_some(exception.error_code as i32);
    }
    if events.interrupt.injected != 0 {
        cpu.interrupt_injected = events.interrupt.nr.into();
    }
    cpu.soft_interrupt = events.interrupt.soft != 0;
    cpu.nmi_injected = events.nmi.injected != 0;
    cpu.nmi_pending = events.nmi.pending != 0;
    cpu.sipi_vector = events.sipi_vector;
    cpu.triple_fault_pending = events.triple_fault.pending != 0;
    let flag = |set: u8, bit: u32| if set != 0 { bit } else { 0 };
    cpu.hflags = flag(events.smi.smm, IN_SMM) | flag(events.interrupt.shadow & ANY_SHADOW, SHADOW);
    cpu.hflags2 =
        GLOBAL_INTERRUPTS | flag(events.nmi.masked, NMI_BLOCKED) | flag(events.smi.smm_inside_nmi, SMM_INSIDE_NMI);
    common.interrupt_request = flag(events.smi.pending, SMI_WAITS) | flag(events.smi.latched_init, INIT_LATCHED);
    cpu.mp_state = fd.get_mp_state().map_err(failed("KVM_GET_MP_STATE"))?.mp_state;
    common.halted = cpu.mp_state == KVM_MP_STATE_HALTED;
    Ok(())
}

pub(super) fn load(kvm: &Kvm, fd: &VcpuFd, cpu: &CpuState, common: &CpuCommonState) -> Result<(), KvmError> {
    let bit = |set: bool| u8::from(set);
    let mut events = kvm_vcpu_events {
        sipi_vector: cpu.sipi_vector,
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING
            | KVM_VCPUEVENT_VALID_SIPI_VECTOR
            | KVM_VCPUEVENT_VALID_SHADOW
            | KVM_VCPUEVENT_VALID_SMM,
        ..kvm_vcpu_events::default()
    };
    if let Ok(vector) = u8::try_from(cpu.exception_nr) {
        events.exception.injected = 1;
        events.exception.nr = vector;
        events.exception.has_error_code = bit(cpu.has_error_code);
        events.exception.error_code = cpu.error_code.unwrap_or_default() as u32;
    }
    if let Ok(vector) = u8::try_from(cpu.interrupt_injected) {
        events.interrupt.injected = 1;
        events.interrupt.nr = vector;
        events.interrupt.soft = bit(cpu.soft_interrupt);
    }
    if cpu.hflags & SHADOW != 0 {
        events.interrupt.shadow = SHADOW_OF_STI;
    }
    events.nmi.injected = bit(cpu.nmi_injected);
    events.nmi.pending = bit(cpu.nmi_pending);
    events.nmi.masked = bit(cpu.hflags2 & NMI_BLOCKED != 0);
    events.smi.smm = bit(cpu.hflags & IN_SMM != 0);
    events.smi.pending = bit(common.interrupt_request & SMI_WAITS != 0);
    events.smi.smm_inside_nmi = bit(cpu.hflags2 & SMM_INSIDE_NMI != 0);
    events.smi.latched_init = bit(common.interrupt_request & INIT_LATCHED != 0);
    if kvm.check_extension_raw(KVM_CAP_X86_TRIPLE_FAULT_EVENT.into()) > 0 && cpu.triple_fault_pending {
        events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
        events.triple_fault.pending = 1;
    }
    fd.set_vcpu_events(&events).map_err(failed("KVM_SET_VCPU_EVENTS"))?;
    let mp_state = kvm_mp_state { mp_state: cpu.mp_state };
    fd.set_mp_state(mp_state).map_err(failed("KVM_SET_MP_STATE"))
}
