//! Section `fw_cfg`.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Where a guest is in what it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FwCfgState {
    /// The selected item.
    pub cur_entry: u16,
    /// The next byte of it.
    pub cur_offset: u32,
    /// The DMA address, of which half may have been written.
    pub dma_addr: u64,
    /// Bytes of the ACPI tables, of the commands that load them, and of their root pointer.
    pub acpi_sizes: [u64; 3],
}

impl VmState for FwCfgState {
    fn layout(&self) -> Layout {
        // Version 1 has an offset of 16 bits.
        Layout::new("fw_cfg", 2).since(1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("cur_entry", &mut self.cur_entry)?;
        if fields.version() >= 2 {
            return fields.int("cur_offset[1]", &mut self.cur_offset);
        }
        let mut half = 0_u16;
        fields.int_as("cur_offset[0]", "int32_as_uint16", &mut half)?;
        self.cur_offset = half.into();
        Ok(())
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let (addr, [tables, linker, rsdp]) = (&mut self.dma_addr, &mut self.acpi_sizes);
        subsections.section(Layout::new("fw_cfg/dma", 0), true, |fields| {
            fields.int("dma_addr", addr)
        })?;
        subsections.section(Layout::new("fw_cfg/acpi_mr", 1), true, |fields| {
            fields.int("table_mr_size", tables)?;
            fields.int("linker_mr_size", linker)?;
            fields.int("rsdp_mr_size", rsdp)
        })
    }
}
