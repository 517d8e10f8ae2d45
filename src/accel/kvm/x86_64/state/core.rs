//! General, segment, control and debug registers.

use kvm_bindings::{
    KVM_CAP_SREGS2, KVM_SREGS2_FLAGS_PDPTRS_VALID, kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs2,
};
use kvm_ioctls::{Kvm, VcpuFd};

use super::{failed, ioctls};
use crate::accel::kvm::KvmError;
use crate::cpu::x86::vmstate::{ApicState, CpuState, Segment};

/// QEMU's digest of a mode: bits of `hflags`.
const INHIBIT_IRQ: u32 = 1 << 3;
const CS_32: u32 = 1 << 4;
const SS_32: u32 = 1 << 5;
const ADDED_SEGMENT: u32 = 1 << 6;
const PROTECTED: u32 = 1 << 7;
/// MP, EM and TS, from CR0's bits 1 to 3.
const CR0_SHIFT: u32 = 8;
const LONG_ACTIVE: u32 = 1 << 14;
const CS_64: u32 = 1 << 15;
const SVM_ENABLED: u32 = 1 << 20;
const OSFXSR: u32 = 1 << 22;
/// Flags that are the same in RFLAGS and `hflags`: IOPL, VM.
const SAME_AS_RFLAGS: u32 = 3 << 12 | 1 << 17;

const CR0_PE: u64 = 1;
const CR4_OSFXSR: u64 = 1 << 9;
const EFER_LMA: u64 = 1 << 10;
const EFER_SVME: u64 = 1 << 12;
const RFLAGS_VM: u64 = 1 << 17;

/// Bits of a segment's flags.
const PRESENT: u32 = 1 << 15;
const LONG: u32 = 1 << 21;
const BIG: u32 = 1 << 22;

pub(super) fn save(kvm: &Kvm, fd: &VcpuFd, cpu: &mut CpuState, apic: &mut ApicState) -> Result<(), KvmError> {
    let regs = fd.get_regs().map_err(failed("KVM_GET_REGS"))?;
    cpu.regs = [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9, regs.r10,
        regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ];
    (cpu.rip, cpu.rflags) = (regs.rip, regs.rflags);
    let sregs = read_system(kvm, fd)?;
    cpu.segments = [sregs.es, sregs.cs, sregs.ss, sregs.ds, sregs.fs, sregs.gs].map(segment);
    (cpu.ldt, cpu.tr) = (segment(sregs.ldt), segment(sregs.tr));
    (cpu.gdt, cpu.idt) = (table(sregs.gdt), table(sregs.idt));
    (cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4) = (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4);
    cpu.efer = sregs.efer;
    cpu.pdptrs = (sregs.flags & u64::from(KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0).then_some(sregs.pdptrs);
    // The section has 32 bits for it.
    apic.base = (sregs.apic_base & 0xffff_ffff) as u32;
    let debug = fd.get_debug_regs().map_err(failed("KVM_GET_DEBUGREGS"))?;
    cpu.dr[..4].copy_from_slice(&debug.db);
    (cpu.dr[4], cpu.dr[6]) = (debug.dr6, debug.dr6);
    (cpu.dr[5], cpu.dr[7]) = (debug.dr7, debug.dr7);
    // What events have said of the mode stays.
    cpu.hflags |= digest(cpu);
    Ok(())
}

/// Control and segment registers, and where the local APIC is.
pub(super) fn load_system(kvm: &Kvm, fd: &VcpuFd, cpu: &CpuState, apic: &ApicState) -> Result<(), KvmError> {
    let now = read_system(kvm, fd)?;
    let [es, cs, ss, ds, fs, gs] = cpu.segments.map(kernel_segment);
    let sregs = kvm_sregs2 {
        es,
        cs,
        ss,
        ds,
        fs,
        gs,
        ldt: kernel_segment(cpu.ldt),
        tr: kernel_segment(cpu.tr),
        gdt: kernel_table(cpu.gdt),
        idt: kernel_table(cpu.idt),
        cr0: cpu.cr0,
        cr2: cpu.cr2,
        cr3: cpu.cr3,
        cr4: cpu.cr4,
        cr8: u64::from(apic.tpr >> 4),
        efer: cpu.efer,
        apic_base: now.apic_base & !0xffff_ffff | u64::from(apic.base),
        flags: cpu.pdptrs.map_or(0, |_| KVM_SREGS2_FLAGS_PDPTRS_VALID.into()),
        pdptrs: cpu.pdptrs.unwrap_or_default(),
    };
    if has_sregs2(kvm) {
        return ioctls::set_sregs2(fd, &sregs).map_err(failed("KVM_SET_SREGS2"));
    }
    let mut old = fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    (old.es, old.cs, old.ss, old.ds, old.fs, old.gs) = (es, cs, ss, ds, fs, gs);
    (old.ldt, old.tr, old.gdt, old.idt) = (sregs.ldt, sregs.tr, sregs.gdt, sregs.idt);
    (old.cr0, old.cr2, old.cr3, old.cr4, old.cr8) = (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8);
    (old.efer, old.apic_base) = (sregs.efer, sregs.apic_base);
    old.interrupt_bitmap = [0; 4];
    fd.set_sregs(&old).map_err(failed("KVM_SET_SREGS"))
}

/// General registers.
pub(super) fn load_general(fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = cpu.regs;
    let regs = kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: cpu.rip,
        rflags: cpu.rflags,
    };
    fd.set_regs(&regs).map_err(failed("KVM_SET_REGS"))
}

pub(super) fn load_debug(fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    let [a, b, c, d, _, _, dr6, dr7] = cpu.dr;
    let debug = kvm_debugregs {
        db: [a, b, c, d],
        dr6,
        dr7,
        ..kvm_debugregs::default()
    };
    fd.set_debug_regs(&debug).map_err(failed("KVM_SET_DEBUGREGS"))
}

fn has_sregs2(kvm: &Kvm) -> bool {
    kvm.check_extension_raw(KVM_CAP_SREGS2.into()) > 0
}

/// Through the older request where there is no other.
fn read_system(kvm: &Kvm, fd: &VcpuFd) -> Result<kvm_sregs2, KvmError> {
    if has_sregs2(kvm) {
        return ioctls::sregs2(fd).map_err(failed("KVM_GET_SREGS2"));
    }
    let old = fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    Ok(kvm_sregs2 {
        cs: old.cs,
        ds: old.ds,
        es: old.es,
        fs: old.fs,
        gs: old.gs,
        ss: old.ss,
        tr: old.tr,
        ldt: old.ldt,
        gdt: old.gdt,
        idt: old.idt,
        cr0: old.cr0,
        cr2: old.cr2,
        cr3: old.cr3,
        cr4: old.cr4,
        cr8: old.cr8,
        efer: old.efer,
        apic_base: old.apic_base,
        flags: 0,
        pdptrs: [0; 4],
    })
}

fn segment(from: kvm_segment) -> Segment {
    let bit = |value: u8, shift: u32| u32::from(value) << shift;
    let flags = if from.unusable != 0 {
        0
    } else {
        bit(from.type_, 8)
            | bit(from.s, 12)
            | bit(from.dpl, 13)
            | bit(from.present, 15)
            | bit(from.avl, 20)
            | bit(from.l, 21)
            | bit(from.db, 22)
            | bit(from.g, 23)
    };
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        flags,
    }
}

fn kernel_segment(from: Segment) -> kvm_segment {
    // The mask keeps it in a byte.
    let bits = |shift: u32, mask: u32| (from.flags >> shift & mask) as u8;
    let present = from.flags & PRESENT != 0;
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: bits(8, 0xf),
        present: u8::from(present),
        dpl: bits(13, 3),
        db: bits(22, 1),
        s: bits(12, 1),
        l: bits(21, 1),
        g: bits(23, 1),
        avl: bits(20, 1),
        unusable: u8::from(!present),
        padding: 0,
    }
}

fn table(from: kvm_dtable) -> Segment {
    Segment {
        base: from.base,
        limit: from.limit.into(),
        ..Segment::default()
    }
}

fn kernel_table(from: Segment) -> kvm_dtable {
    kvm_dtable {
        base: from.base,
        // Descriptor tables end where 16 bits do.
        limit: u16::try_from(from.limit).unwrap_or(u16::MAX),
        ..kvm_dtable::default()
    }
}

/// The mode as `hflags` has it.
fn digest(cpu: &CpuState) -> u32 {
    let [es, cs, ss, ds, ..] = cpu.segments;
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    // The privilege level is the stack's.
    let mut hflags = ss.flags >> 13 & 3;
    hflags |= flag(cpu.cr0 & CR0_PE != 0, PROTECTED);
    // Three bits of CR0.
    hflags |= (cpu.cr0 as u32) << CR0_SHIFT & 7 << (CR0_SHIFT + 1);
    hflags |= (cpu.rflags & 0xffff_ffff) as u32 & SAME_AS_RFLAGS;
    hflags |= flag(cpu.cr4 & CR4_OSFXSR != 0, OSFXSR);
    hflags |= flag(cpu.efer & EFER_SVME != 0, SVM_ENABLED);
    let long = cpu.efer & EFER_LMA != 0;
    hflags |= flag(long, LONG_ACTIVE);
    if long && cs.flags & LONG != 0 {
        return hflags | CS_32 | SS_32 | CS_64;
    }
    hflags |= flag(cs.flags & BIG != 0, CS_32) | flag(ss.flags & BIG != 0, SS_32);
    let real = cpu.cr0 & CR0_PE == 0 || cpu.rflags & RFLAGS_VM != 0 || hflags & CS_32 == 0;
    let based = [ds, es, ss].iter().any(|segment| segment.base != 0);
    hflags | flag(real || based, ADDED_SEGMENT)
}

/// The bit of `hflags` for an instruction after which interrupts are held back.
pub(super) const SHADOW: u32 = INHIBIT_IRQ;
