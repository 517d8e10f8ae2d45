//! The interrupt controllers of a PC in plain values, wherever they are.

use serde::Serialize;

/// An I/O APIC, as its registers are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IoApicInfo {
    /// 0x11 or 0x20.
    pub version: u8,
    /// Its id.
    pub id: u8,
    /// The register that the guest chose.
    pub select: u8,
    /// Requests; bit n is input n.
    pub irr: u32,
    /// The redirection entries.
    pub table: Vec<u64>,
}

/// An 8259A, as its registers are now. Bit n of a mask is input n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PicInfo {
    /// Requests.
    pub irr: u8,
    /// Masked inputs.
    pub imr: u8,
    /// Interrupts in service.
    pub isr: u8,
    /// The input with the highest priority.
    pub first: u8,
    /// The vector of input 0.
    pub base: u8,
    /// Whether reads give interrupts in service, not requests.
    pub reads_isr: bool,
    /// Level-triggered inputs.
    pub elcr: u8,
    /// Whether it is fully nested in spite of the cascade.
    pub special_nested: bool,
}

/// The interrupt controllers of a PC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterruptControllers {
    /// The I/O APIC.
    pub ioapic: IoApicInfo,
    /// The first PIC and the second.
    pub pics: [PicInfo; 2],
}
