//! Section `ioapic`.

use crate::vmstate::{Fields, Layout, StateError, VmState};

/// Number of inputs.
pub const IOAPIC_PINS: usize = 24;

/// The registers of an I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicState {
    /// Its APIC id.
    pub id: u8,
    /// The register that the window shows.
    pub ioregsel: u8,
    /// Requests; bit n is input n.
    pub irr: u32,
    /// Redirection entries, with delivery status and remote IRR.
    pub ioredtbl: [u64; IOAPIC_PINS],
}

impl Default for IoApicState {
    /// After a reset: all inputs are masked.
    fn default() -> Self {
        Self {
            id: 0,
            ioregsel: 0,
            irr: 0,
            ioredtbl: [1 << 16; IOAPIC_PINS],
        }
    }
}

impl VmState for IoApicState {
    fn layout(&self) -> Layout {
        Layout::new("ioapic", 3).since(1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("id", &mut self.id)?;
        fields.int("ioregsel", &mut self.ioregsel)?;
        if fields.version() >= 2 {
            fields.unused("unused", 8)?;
            fields.int("irr", &mut self.irr)?;
        }
        fields.ints("ioredtbl", &mut self.ioredtbl)
    }

    fn post_load(&mut self, version: u32) -> Result<(), StateError> {
        if version < 2 {
            // Such a stream does not tell which requests wait.
            self.irr = 0;
        }
        Ok(())
    }
}
