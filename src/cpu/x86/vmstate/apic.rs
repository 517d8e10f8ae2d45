//! The section `apic`: a local APIC.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// The registers of a local APIC (Intel SDM volume 3, section 11.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApicState {
    /// The lower half of IA32_APIC_BASE.
    pub base: u32,
    /// The initial APIC id, 8 bits of it.
    pub id: u8,
    /// Arbitration priority.
    pub arb_id: u8,
    /// Task priority.
    pub tpr: u8,
    /// Spurious interrupt vector register.
    pub spurious: u32,
    /// Logical destination.
    pub log_dest: u8,
    /// Model of the destination format register: 15 flat, 0 cluster.
    pub dest_mode: u8,
    /// Interrupts in service.
    pub isr: [u32; 8],
    /// Their trigger modes.
    pub tmr: [u32; 8],
    /// Interrupts that wait.
    pub irr: [u32; 8],
    /// Local vectors: timer, thermal, performance, LINT0, LINT1, error.
    pub lvt: [u32; 6],
    /// Error status.
    pub esr: u32,
    /// Interrupt command register.
    pub icr: [u32; 2],
    /// Divide configuration.
    pub divide_conf: u32,
    /// Initial count of the timer.
    pub initial_count: u32,
    /// When the timer was started, in nanoseconds of the virtual clock.
    pub count_load_time: i64,
    /// When it expires next.
    pub next_time: i64,
    /// When its alarm rings, else -1.
    pub timer_expiry: i64,
    /// The vector of a start-up IPI, and that one is waited for: local APICs outside the accelerator only.
    pub sipi: Option<i32>,
}

impl ApicState {
    /// Binary logarithm of what the timer's clock is divided by.
    #[must_use]
    pub fn count_shift(&self) -> i32 {
        let coded = self.divide_conf & 3 | self.divide_conf >> 1 & 4;
        // At most 7: three bits.
        ((coded + 1) & 7) as i32
    }
}

impl VmState for ApicState {
    fn layout(&self) -> Layout {
        Layout::new("apic", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("apicbase", &mut self.base)?;
        fields.int("id", &mut self.id)?;
        fields.int("arb_id", &mut self.arb_id)?;
        fields.int("tpr", &mut self.tpr)?;
        fields.int("spurious_vec", &mut self.spurious)?;
        fields.int("log_dest", &mut self.log_dest)?;
        fields.int("dest_mode", &mut self.dest_mode)?;
        fields.ints("isr", &mut self.isr)?;
        fields.ints("tmr", &mut self.tmr)?;
        fields.ints("irr", &mut self.irr)?;
        fields.ints("lvt", &mut self.lvt)?;
        fields.int("esr", &mut self.esr)?;
        fields.ints("icr", &mut self.icr)?;
        fields.int("divide_conf", &mut self.divide_conf)?;
        fields.int("count_shift", &mut self.count_shift())?;
        fields.int("initial_count", &mut self.initial_count)?;
        fields.int("initial_count_load_time", &mut self.count_load_time)?;
        fields.int("next_time", &mut self.next_time)?;
        fields.int("timer_expiry", &mut self.timer_expiry)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let sipi = &mut self.sipi;
        subsections.section(Layout::new("apic_sipi", 1), sipi.is_some(), |fields| {
            let mut vector = sipi.unwrap_or_default();
            let mut waits = sipi.is_some();
            fields.int("sipi_vector", &mut vector)?;
            let mut wide = i32::from(waits);
            fields.int("wait_for_sipi", &mut wide)?;
            waits = wide != 0;
            *sipi = Some(vector).filter(|_| waits);
            Ok(())
        })
    }
}
