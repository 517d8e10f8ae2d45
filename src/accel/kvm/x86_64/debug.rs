//! A vCPU under a debugger: its registers, its breakpoints, and why it stopped.

use std::io;

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_INJECT_DB,
    KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_debug_exit_arch, kvm_guest_debug,
    kvm_msr_entry,
};
use kvm_ioctls::VcpuFd;
use nix::libc::EINVAL;

use super::reset::{read_msrs, set_msrs};
use crate::accel::debug::{Access, DebugRegisters, DebugSetup, DebugStop, HARDWARE_POINTS};

/// `IA32_KERNEL_GS_BASE`.
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// The exception of hardware points and single steps. The other that leaves the guest is that of `INT3`.
const DEBUG_EXCEPTION: u32 = 1;
/// DR6: a single step is done.
const SINGLE_STEP: u64 = 1 << 14;
/// DR7: the bit that is always set, and exactness as old processors want it.
const ALWAYS_SET: u64 = 1 << 10;
const EXACT: u64 = 1 << 9;
/// An empty register in the full tag word.
const EMPTY: u16 = 3;

/// Reads the registers.
pub(super) fn read(fd: &VcpuFd) -> io::Result<DebugRegisters> {
    let (regs, sregs, fpu) = (fd.get_regs()?, fd.get_sregs()?, fd.get_fpu()?);
    let kernel_gs = read_msrs(fd, &[KERNEL_GS_BASE])?;
    let tags = (0..8).fold(0, |tags, register| match fpu.ftwx >> register & 1 {
        0 => tags | EMPTY << (2 * register),
        _ => tags,
    });
    Ok(DebugRegisters {
        general: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9, regs.r10,
            regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        // The upper half of the register is reserved.
        eflags: regs.rflags as u32,
        selectors: [sregs.cs, sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs].map(|segment| segment.selector),
        bases: [
            sregs.fs.base,
            sregs.gs.base,
            kernel_gs.first().map_or(0, |entry| entry.data),
        ],
        control: [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8, sregs.efer],
        st: fpu.fpr.map(|register| {
            let mut bytes = [0; 10];
            bytes.copy_from_slice(&register[..10]);
            bytes
        }),
        fpu: [fpu.fcw, fpu.fsw, tags],
        fpu_last: (fpu.last_ip, fpu.last_dp, fpu.last_opcode),
        xmm: fpu.xmm,
        mxcsr: fpu.mxcsr,
    })
}

/// Writes the registers. Selectors cannot be changed so: what is behind them would not be.
pub(super) fn write(fd: &VcpuFd, new: &DebugRegisters) -> io::Result<()> {
    let old = read(fd)?;
    if old.selectors != new.selectors {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let (mut regs, mut sregs, mut fpu) = (fd.get_regs()?, fd.get_sregs()?, fd.get_fpu()?);
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9, regs.r10,
        regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = new.general;
    regs.rip = new.rip;
    regs.rflags = new.eflags.into();
    if old.bases != new.bases || old.control != new.control {
        [sregs.fs.base, sregs.gs.base, _] = new.bases;
        [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8, sregs.efer] = new.control;
        fd.set_sregs(&sregs)?;
    }
    if old.bases[2] != new.bases[2] {
        let entry = kvm_msr_entry {
            index: KERNEL_GS_BASE,
            data: new.bases[2],
            ..kvm_msr_entry::default()
        };
        set_msrs(fd, &[entry])?;
    }
    for (register, bytes) in fpu.fpr.iter_mut().zip(&new.st) {
        register[..10].copy_from_slice(bytes);
    }
    [fpu.fcw, fpu.fsw, _] = new.fpu;
    fpu.ftwx = (0..8).fold(0, |tags, register| match new.fpu[2] >> (2 * register) & EMPTY {
        EMPTY => tags,
        _ => tags | 1 << register,
    });
    (fpu.last_ip, fpu.last_dp, fpu.last_opcode) = new.fpu_last;
    (fpu.xmm, fpu.mxcsr) = (new.xmm, new.mxcsr);
    fd.set_fpu(&fpu)?;
    Ok(fd.set_regs(&regs)?)
}

/// Tells KVM what to stop for.
pub(super) fn arm(fd: &VcpuFd, setup: &DebugSetup) -> io::Result<()> {
    tell(fd, setup, 0)
}

/// Gives the guest an exception that was its own.
pub(super) fn give_back(fd: &VcpuFd, exit: &kvm_debug_exit_arch, setup: &DebugSetup) -> io::Result<()> {
    match exit.exception {
        DEBUG_EXCEPTION => tell(fd, setup, KVM_GUESTDBG_INJECT_DB),
        _ => tell(fd, setup, KVM_GUESTDBG_INJECT_BP),
    }
}

/// Interrupts are kept away from single steps where KVM can do that (Linux 5.15).
fn tell(fd: &VcpuFd, setup: &DebugSetup, inject: u32) -> io::Result<()> {
    let mut request = request(setup, inject);
    match fd.set_guest_debug(&request) {
        Err(error) if error.errno() == EINVAL && request.control & KVM_GUESTDBG_BLOCKIRQ != 0 => {
            request.control &= !KVM_GUESTDBG_BLOCKIRQ;
            Ok(fd.set_guest_debug(&request)?)
        }
        result => Ok(result?),
    }
}

/// Why the debugger wanted this exit; none if the exception is the guest's own.
pub(super) fn reason(setup: &DebugSetup, exit: &kvm_debug_exit_arch) -> Option<DebugStop> {
    if exit.exception != DEBUG_EXCEPTION {
        return setup.software.contains(&exit.pc).then_some(DebugStop::Software);
    }
    if setup.step && exit.dr6 & SINGLE_STEP != 0 {
        return Some(DebugStop::Step);
    }
    let mut points = setup.hardware.iter().enumerate();
    points
        .find(|(number, _)| exit.dr6 >> number & 1 != 0)
        .map(|(_, point)| DebugStop::Hardware(*point))
}

fn request(setup: &DebugSetup, inject: u32) -> kvm_guest_debug {
    let mut request = kvm_guest_debug::default();
    let mut control = inject;
    if setup.step {
        control |= KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
    }
    if !setup.software.is_empty() {
        control |= KVM_GUESTDBG_USE_SW_BP;
    }
    if !setup.hardware.is_empty() {
        control |= KVM_GUESTDBG_USE_HW_BP;
        request.arch.debugreg[7] = ALWAYS_SET | EXACT;
    }
    for (number, point) in setup.hardware.iter().enumerate().take(HARDWARE_POINTS) {
        let access = match point.access {
            Access::Execute => 0,
            Access::Write => 1,
            Access::ReadWrite => 3,
        };
        // Lengths of 1, 2, 8 and 4 bytes are 0 to 3.
        let len = match point.len {
            2 => 1,
            8 => 2,
            4 => 3,
            _ => 0,
        };
        request.arch.debugreg[number] = point.addr;
        request.arch.debugreg[7] |= 2 << (2 * number) | (len << 2 | access) << (16 + 4 * number);
    }
    if control != 0 {
        control |= KVM_GUESTDBG_ENABLE;
    }
    request.control = control;
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::debug::HardwarePoint;

    fn point(addr: u64, len: u8, access: Access) -> HardwarePoint {
        HardwarePoint { addr, len, access }
    }

    #[test]
    fn points_are_told_in_the_registers_of_the_processor() {
        assert_eq!(request(&DebugSetup::default(), 0).control, 0);
        let setup = DebugSetup {
            hardware: vec![point(0x1000, 1, Access::Execute), point(0x2000, 8, Access::ReadWrite)],
            step: true,
            ..DebugSetup::default()
        };
        let told = request(&setup, 0);
        assert_eq!(
            told.control,
            KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ | KVM_GUESTDBG_USE_HW_BP
        );
        assert_eq!(told.arch.debugreg[..2], [0x1000, 0x2000]);
        // Global enables of two, and of the second: eight bytes, reads and writes.
        assert_eq!(told.arch.debugreg[7], 0x600 | 0b1010 | 0b1011 << 20);
    }

    #[test]
    fn what_the_debugger_did_not_ask_for_is_the_guests() {
        let exit = |exception, dr6, pc| kvm_debug_exit_arch {
            exception,
            dr6,
            pc,
            ..kvm_debug_exit_arch::default()
        };
        let watch = point(0x3000, 4, Access::Write);
        let setup = DebugSetup {
            software: [0x10].into(),
            hardware: vec![point(0x20, 1, Access::Execute), watch],
            ..DebugSetup::default()
        };
        assert_eq!(reason(&setup, &exit(3, 0, 0x10)), Some(DebugStop::Software));
        assert_eq!(reason(&setup, &exit(3, 0, 0x11)), None);
        assert_eq!(reason(&setup, &exit(1, 2, 0x10)), Some(DebugStop::Hardware(watch)));
        assert_eq!(reason(&setup, &exit(1, SINGLE_STEP, 0x10)), None);
        let stepping = DebugSetup { step: true, ..setup };
        assert_eq!(reason(&stepping, &exit(1, SINGLE_STEP, 0x10)), Some(DebugStop::Step));
    }
}
