//! The state a vCPU starts from.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

/// Selector of the flat code segment, which the Linux boot protocol fixes (`__BOOT_CS`).
const CODE_SELECTOR: u16 = 0x10;
/// Selector of the flat data segment (`__BOOT_DS`).
const DATA_SELECTOR: u16 = 0x18;
/// Selector of the task state segment.
const TASK_SELECTOR: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;

/// Where the boot vCPU starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootState {
    /// At the reset vector, in real mode: firmware.
    #[default]
    PowerOn,
    /// At a kernel's entry point, in 32-bit protected mode without paging, with flat segments. This is what both the
    /// PVH and the 32-bit Linux boot protocol ask for.
    Kernel(EntryMode),
    /// At the ACPI waking vector, in real mode (ACPI 6.5, 16.3.2).
    Waking {
        /// Guest physical address, below 1 MiB.
        vector: u32,
    },
}

/// Registers at a kernel's entry point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryMode {
    /// Guest physical address of the first instruction.
    pub rip: u64,
    /// EBX: the address of PVH's `hvm_start_info`, else 0.
    pub rbx: u64,
    /// ESI: the address of Linux's `boot_params`, else 0.
    pub rsi: u64,
    /// Guest physical address where [`BootState::gdt`] has been written.
    pub gdt: u64,
}

impl BootState {
    /// The descriptor table that belongs to the segments of [`BootState::Kernel`].
    #[must_use]
    pub fn gdt() -> [u64; 5] {
        [
            0,
            0,
            descriptor(&code_segment()),
            descriptor(&data_segment()),
            descriptor(&task_segment()),
        ]
    }

    /// Changes the power-on state of a boot vCPU into this state.
    pub(super) fn apply(self, regs: &mut kvm_regs, sregs: &mut kvm_sregs) {
        let entry = match self {
            Self::PowerOn => return,
            Self::Kernel(entry) => entry,
            Self::Waking { vector } => {
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
        sregs.gdt.limit = u16::try_from(size_of_val(&Self::gdt()) - 1).unwrap_or(u16::MAX);
        sregs.cr0 = CR0_PE | CR0_ET;
        sregs.cr3 = 0;
        sregs.cr4 = 0;
        sregs.efer = 0;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_the_well_known_ones() {
        let [_, _, code, data, task] = BootState::gdt();
        assert_eq!(code, 0x00cf_9b00_0000_ffff);
        assert_eq!(data, 0x00cf_9300_0000_ffff);
        assert_eq!(task, 0x0000_8b00_0000_0067);
    }

    #[test]
    fn power_on_changes_nothing() {
        let mut regs = kvm_regs {
            rip: 0xfff0,
            ..kvm_regs::default()
        };
        let mut sregs = kvm_sregs::default();
        BootState::PowerOn.apply(&mut regs, &mut sregs);
        assert_eq!(regs.rip, 0xfff0);
        assert_eq!(sregs, kvm_sregs::default());
    }
}
