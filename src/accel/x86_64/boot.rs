//! Where the boot vCPU starts.

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
    /// The descriptor table that belongs to the segments of [`BootState::Kernel`]: flat code at selector 0x10, which the
    /// Linux boot protocol fixes (`__BOOT_CS`), flat data at 0x18 (`__BOOT_DS`), a task state segment at 0x20.
    #[must_use]
    pub fn gdt() -> [u64; 5] {
        [
            0,
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x0000_8b00_0000_0067,
        ]
    }
}
