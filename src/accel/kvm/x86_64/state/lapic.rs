//! The local APIC.

use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;

use super::failed;
use crate::accel::kvm::KvmError;
use crate::cpu::x86::vmstate::ApicState;

// Offsets of registers (Intel SDM volume 3, section 11.4).
const ID: usize = 0x20;
const TPR: usize = 0x80;
const ARBITRATION: usize = 0x90;
const LOGICAL: usize = 0xd0;
const FORMAT: usize = 0xe0;
const SPURIOUS: usize = 0xf0;
const IN_SERVICE: usize = 0x100;
const TRIGGER: usize = 0x180;
const REQUESTS: usize = 0x200;
const ERROR: usize = 0x280;
const COMMAND: [usize; 2] = [0x300, 0x310];
/// Timer, thermal, performance, LINT0, LINT1, error.
const VECTORS: [usize; 6] = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;

/// IA32_APIC_BASE: x2APIC mode.
const X2APIC: u32 = 1 << 10;
/// The lower bits of the destination format register, which are always ones.
const FORMAT_ONES: u32 = 0x0fff_ffff;

pub(super) fn save(fd: &VcpuFd, wide_ids: bool, apic: &mut ApicState) -> Result<(), KvmError> {
    let page = fd.get_lapic().map_err(failed("KVM_GET_LAPIC"))?;
    let register = |at: usize| get(&page, at);
    // All of these are eight bits wide.
    let high = |at: usize| (register(at) >> 24) as u8;
    let is_wide = wide_ids && apic.base & X2APIC != 0;
    apic.id = if is_wide { register(ID) as u8 } else { high(ID) };
    apic.arb_id = register(ARBITRATION) as u8;
    apic.tpr = register(TPR) as u8;
    apic.spurious = register(SPURIOUS);
    apic.log_dest = high(LOGICAL);
    apic.dest_mode = (register(FORMAT) >> 28) as u8;
    let bits = |from: usize| [0, 1, 2, 3, 4, 5, 6, 7].map(|index: usize| register(from + 0x10 * index));
    (apic.isr, apic.tmr, apic.irr) = (bits(IN_SERVICE), bits(TRIGGER), bits(REQUESTS));
    apic.esr = register(ERROR);
    apic.icr = COMMAND.map(register);
    apic.lvt = VECTORS.map(register);
    apic.divide_conf = register(DIVIDE);
    apic.initial_count = register(INITIAL_COUNT);
    // An alarm is the accelerator's own business.
    apic.timer_expiry = -1;
    Ok(())
}

/// The timer starts anew from its initial count, as the section does not tell how far it was.
pub(super) fn load(fd: &VcpuFd, wide_ids: bool, apic: &ApicState) -> Result<(), KvmError> {
    let mut page = fd.get_lapic().map_err(failed("KVM_GET_LAPIC"))?;
    // In x2APIC mode the id is that with which the vCPU was made, and the logical destination follows from it.
    if apic.base & X2APIC == 0 {
        set(&mut page, ID, u32::from(apic.id) << 24);
        set(&mut page, LOGICAL, u32::from(apic.log_dest) << 24);
    } else if !wide_ids {
        set(&mut page, ID, u32::from(apic.id) << 24);
    }
    set(&mut page, TPR, apic.tpr.into());
    set(&mut page, ARBITRATION, apic.arb_id.into());
    set(&mut page, FORMAT, u32::from(apic.dest_mode) << 28 | FORMAT_ONES);
    set(&mut page, SPURIOUS, apic.spurious);
    for (from, words) in [(IN_SERVICE, &apic.isr), (TRIGGER, &apic.tmr), (REQUESTS, &apic.irr)] {
        for (index, word) in words.iter().enumerate() {
            set(&mut page, from + 0x10 * index, *word);
        }
    }
    set(&mut page, ERROR, apic.esr);
    for (at, value) in COMMAND.into_iter().zip(apic.icr) {
        set(&mut page, at, value);
    }
    for (at, value) in VECTORS.into_iter().zip(apic.lvt) {
        set(&mut page, at, value);
    }
    set(&mut page, DIVIDE, apic.divide_conf);
    set(&mut page, INITIAL_COUNT, apic.initial_count);
    set(&mut page, CURRENT_COUNT, apic.initial_count);
    fd.set_lapic(&page).map_err(failed("KVM_SET_LAPIC"))
}

fn get(page: &kvm_lapic_state, at: usize) -> u32 {
    let bytes = [0, 1, 2, 3].map(|index| page.regs[at + index] as u8);
    u32::from_le_bytes(bytes)
}

fn set(page: &mut kvm_lapic_state, at: usize, value: u32) {
    for (place, byte) in page.regs[at..at + 4].iter_mut().zip(value.to_le_bytes()) {
        // `c_char`, which has a sign here.
        *place = byte as _;
    }
}
