//! The state a vCPU starts from.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::accel::x86_64::BootState;

/// Selector of the flat code segment, which the Linux boot protocol fixes (`__BOOT_CS`).
const CODE_SELECTOR: u16 = 0x10;
/// Selector of the flat data segment (`__BOOT_DS`).
const DATA_SELECTOR: u16 = 0x18;
/// Selector of the task state segment.
const TASK_SELECTOR: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;

/// Changes the power-on state of a boot vCPU into the one it starts in.
pub(super) fn apply(boot: BootState, regs: &mut kvm_regs, sregs: &mut kvm_sregs) {
    let entry = match boot {
        BootState::PowerOn => return,
        BootState::Kernel(entry) => entry,
        BootState::Waking { vector } => {
            sregs.cs.base = u64::from(vector & 0xf_fff0);
            sregs.cs.selector = u16::try_from(vector >> 4 & 0xffff).unwrap_or_default();
            regs.rip = u64::from(vector & 0xf);
            return;
        }
    };
    *regs = kvm_regs {
        rip: entry.rip,
        rbx: entry.rbx,
        rsi: entry.rsi,
        rflags: 2,
        ..kvm_regs::default()
    };
    sregs.cs = code_segment();
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = data_segment();
    }
    sregs.tr = task_segment();
    sregs.gdt.base = entry.gdt;
    sregs.gdt.limit = u16::try_from(size_of_val(&BootState::gdt()) - 1).unwrap_or(u16::MAX);
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr3 = 0;
    sregs.cr4 = 0;
    sregs.efer = 0;
}

fn code_segment() -> kvm_segment {
    flat_segment(CODE_SELECTOR, 0xb)
}

fn data_segment() -> kvm_segment {
    flat_segment(DATA_SELECTOR, 0x3)
}

fn task_segment() -> kvm_segment {
    kvm_segment {
        selector: TASK_SELECTOR,
        limit: 0x67,
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    }
}

fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        selector,
        limit: 0xffff_ffff,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight bytes of a segment descriptor (Intel SDM volume 3, 3.4.5).
    fn descriptor(segment: &kvm_segment) -> u64 {
        let limit = u64::from(if segment.g == 1 {
            segment.limit >> 12
        } else {
            segment.limit
        });
        let flags = u64::from(segment.type_)
            | u64::from(segment.s) << 4
            | u64::from(segment.dpl) << 5
            | u64::from(segment.present) << 7
            | u64::from(segment.avl) << 12
            | u64::from(segment.l) << 13
            | u64::from(segment.db) << 14
            | u64::from(segment.g) << 15;
        (limit & 0xffff)
            | (segment.base & 0xff_ffff) << 16
            | flags << 40
            | (limit >> 16 & 0xf) << 48
            | (segment.base >> 24 & 0xff) << 56
    }

    #[test]
    fn segments_are_those_of_the_descriptor_table() {
        let segments = [code_segment(), data_segment(), task_segment()];
        assert_eq!(segments.map(|segment| descriptor(&segment)), BootState::gdt()[2..]);
        let places = segments.map(|segment| usize::from(segment.selector / 8));
        assert_eq!(places, [2, 3, 4]);
    }

    #[test]
    fn power_on_changes_nothing() {
        let mut regs = kvm_regs {
            rip: 0xfff0,
            ..kvm_regs::default()
        };
        let mut sregs = kvm_sregs::default();
        apply(BootState::PowerOn, &mut regs, &mut sregs);
        assert_eq!(regs.rip, 0xfff0);
        assert_eq!(sregs, kvm_sregs::default());
    }
}
