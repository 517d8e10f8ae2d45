//! A vCPU's registers as text, for crash reports and `info registers`.

use std::fmt::{self, Write};

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use crate::mem::AddressSpace;

/// Code bytes shown in front of the instruction pointer.
const CODE_BEFORE: u64 = 16;
/// Code bytes shown in all.
const CODE_BYTES: u64 = 64;

/// Registers, control registers and the bytes around the instruction pointer.
pub(super) fn dump(fd: &VcpuFd, memory: &AddressSpace) -> String {
    let (regs, sregs) = match (fd.get_regs(), fd.get_sregs()) {
        (Ok(regs), Ok(sregs)) => (regs, sregs),
        (Err(error), _) | (_, Err(error)) => {
            return format!("registers cannot be read: {}\n", crate::report::reason(&error.into()));
        }
    };
    let code = code_bytes(fd, memory, sregs.cs.base.wrapping_add(regs.rip));
    let mut text = String::new();
    match write(&mut text, &regs, &sregs, &code) {
        Ok(()) | Err(fmt::Error) => text,
    }
}

/// Registers by the names that QEMU's expressions have for them.
pub(super) fn values(fd: &VcpuFd) -> Vec<(&'static str, u64)> {
    match (fd.get_regs(), fd.get_sregs()) {
        (Ok(regs), Ok(sregs)) => named(&regs, &sregs),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "registers");
            Vec::new()
        }
    }
}

fn named(regs: &kvm_regs, sregs: &kvm_sregs) -> Vec<(&'static str, u64)> {
    vec![
        ("eax", regs.rax),
        ("ebx", regs.rbx),
        ("ecx", regs.rcx),
        ("edx", regs.rdx),
        ("esi", regs.rsi),
        ("edi", regs.rdi),
        ("ebp", regs.rbp),
        ("fp", regs.rbp),
        ("esp", regs.rsp),
        ("sp", regs.rsp),
        ("r8", regs.r8),
        ("r9", regs.r9),
        ("r10", regs.r10),
        ("r11", regs.r11),
        ("r12", regs.r12),
        ("r13", regs.r13),
        ("r14", regs.r14),
        ("r15", regs.r15),
        ("eflags", regs.rflags),
        ("eip", regs.rip),
        // Where the next instruction is, as the vCPU sees it.
        ("pc", regs.rip.wrapping_add(sregs.cs.base)),
        ("cs", sregs.cs.selector.into()),
        ("cs.base", sregs.cs.base),
        ("cs.limit", sregs.cs.limit.into()),
        ("ds", sregs.ds.selector.into()),
        ("ds.base", sregs.ds.base),
        ("ds.limit", sregs.ds.limit.into()),
        ("es", sregs.es.selector.into()),
        ("es.base", sregs.es.base),
        ("es.limit", sregs.es.limit.into()),
        ("fs", sregs.fs.selector.into()),
        ("fs.base", sregs.fs.base),
        ("fs.limit", sregs.fs.limit.into()),
        ("gs", sregs.gs.selector.into()),
        ("gs.base", sregs.gs.base),
        ("gs.limit", sregs.gs.limit.into()),
        ("ss", sregs.ss.selector.into()),
        ("ss.base", sregs.ss.base),
        ("ss.limit", sregs.ss.limit.into()),
        ("cr0", sregs.cr0),
        ("cr2", sregs.cr2),
        ("cr3", sregs.cr3),
        ("cr4", sregs.cr4),
        ("efer", sregs.efer),
    ]
}

fn write(out: &mut String, regs: &kvm_regs, sregs: &kvm_sregs, code: &str) -> fmt::Result {
    let general = [
        ("RAX", regs.rax),
        ("RBX", regs.rbx),
        ("RCX", regs.rcx),
        ("RDX", regs.rdx),
        ("RSI", regs.rsi),
        ("RDI", regs.rdi),
        ("RBP", regs.rbp),
        ("RSP", regs.rsp),
        ("R8 ", regs.r8),
        ("R9 ", regs.r9),
        ("R10", regs.r10),
        ("R11", regs.r11),
        ("R12", regs.r12),
        ("R13", regs.r13),
        ("R14", regs.r14),
        ("R15", regs.r15),
        ("RIP", regs.rip),
        ("RFL", regs.rflags),
    ];
    for row in general.chunks(4) {
        let columns: Vec<String> = row.iter().map(|(name, value)| format!("{name}={value:016x}")).collect();
        writeln!(out, "{}", columns.join(" "))?;
    }
    let segments = [
        ("ES ", &sregs.es),
        ("CS ", &sregs.cs),
        ("SS ", &sregs.ss),
        ("DS ", &sregs.ds),
        ("FS ", &sregs.fs),
        ("GS ", &sregs.gs),
        ("LDT", &sregs.ldt),
        ("TR ", &sregs.tr),
    ];
    for (name, segment) in segments {
        write_segment(out, name, segment)?;
    }
    write_table(out, "GDT", &sregs.gdt)?;
    write_table(out, "IDT", &sregs.idt)?;
    writeln!(
        out,
        "CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} CR8={:x}",
        sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8
    )?;
    writeln!(out, "EFER={:016x} APIC_BASE={:016x}", sregs.efer, sregs.apic_base)?;
    writeln!(out, "Code={code}")
}

fn write_segment(out: &mut String, name: &str, segment: &kvm_segment) -> fmt::Result {
    writeln!(
        out,
        "{name} ={:04x} {:016x} {:08x} type={:x} s={} dpl={} p={} l={} db={} g={}",
        segment.selector,
        segment.base,
        segment.limit,
        segment.type_,
        segment.s,
        segment.dpl,
        segment.present,
        segment.l,
        segment.db,
        segment.g
    )
}

fn write_table(out: &mut String, name: &str, table: &kvm_dtable) -> fmt::Result {
    writeln!(out, "{name}=     {:016x} {:08x}", table.base, table.limit)
}

/// Bytes around linear address `rip`; the one at `rip` in angle brackets, unreadable ones as `??`.
fn code_bytes(fd: &VcpuFd, memory: &AddressSpace, rip: u64) -> String {
    let start = rip.saturating_sub(CODE_BEFORE);
    let bytes = (start..start.saturating_add(CODE_BYTES)).map(|linear| {
        let text = read_byte(fd, memory, linear).map_or_else(|| "??".to_owned(), |byte| format!("{byte:02x}"));
        if linear == rip { format!("<{text}>") } else { text }
    });
    bytes.collect::<Vec<_>>().join(" ")
}

fn read_byte(fd: &VcpuFd, memory: &AddressSpace, linear: u64) -> Option<u8> {
    let translation = fd
        .translate_gva(linear)
        .ok()
        .filter(|translation| translation.valid != 0)?;
    let mut byte = [0];
    memory.read_memory(translation.physical_address, &mut byte).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dump_names_registers_and_code() {
        let regs = kvm_regs {
            rip: 0x1234,
            ..kvm_regs::default()
        };
        let mut text = String::new();
        write(&mut text, &regs, &kvm_sregs::default(), "<cc> 90").unwrap();
        assert!(text.contains("RIP=0000000000001234"), "{text}");
        assert!(text.ends_with("Code=<cc> 90\n"), "{text}");
    }
}
