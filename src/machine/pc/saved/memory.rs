//! The memory of a PC as a stream has it: RAM, firmware, and the blocks in which QEMU keeps firmware's tables.

use std::cmp::Reverse;
use std::sync::{OnceLock, PoisonError};

use super::Vm;
use crate::machine::pc::boot::Boot;
use crate::machine::saved::{Migratable, StateLoader, StreamBlock, StreamMemory};
use crate::mem::RamBlock;
use crate::qapi::Error;
use crate::vmstate::{SavedSection, StateError};

/// Blocks that this machine keeps elsewhere: name, length, the longest that is taken, and the file of the firmware
/// configuration device that has the content. They are made when a guest moves first. What comes in them is handed on, and
/// has no effect: the tables are made anew when the guest restarts, and nobody reads them before.
const COPIES: [(&str, u64, u64, &str); 3] = [
    ("/rom@etc/acpi/tables", 0x2_0000, 0x20_0000, "etc/acpi/tables"),
    ("/rom@etc/table-loader", 0x1000, 0x1_0000, "etc/table-loader"),
    ("/rom@etc/acpi/rsdp", 0x1000, 0x1000, "etc/acpi/rsdp"),
];
/// The block of firmware.
const FIRMWARE: &str = "pc.bios";

/// The blocks of [`COPIES`], once they are needed.
#[derive(Debug, Default)]
pub(in crate::machine::pc) struct CopiedTables(OnceLock<Vec<StreamBlock>>);

impl Vm {
    fn copied_tables(&self) -> Result<&[StreamBlock], Error> {
        let made = &self.copied_tables.0;
        if let Some(blocks) = made.get() {
            return Ok(blocks);
        }
        let blocks = COPIES.iter().map(|(name, len, max, file)| {
            let failed = |error: &dyn std::fmt::Display| Error::generic(format!("memory of {name}: {error}"));
            let size = usize::try_from(*max).map_err(|error| failed(&error))?;
            let block = RamBlock::anonymous(*name, size).map_err(|error| failed(&error))?;
            let fw_cfg = self.fw_cfg.lock().unwrap_or_else(PoisonError::into_inner);
            let content = fw_cfg.file(file).unwrap_or_default();
            block.write(0, content).map_err(|error| failed(&error))?;
            Ok(StreamBlock {
                name: (*name).to_owned(),
                block,
                len: (*len).max((content.len() as u64).next_multiple_of(4096)),
                max: *max,
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>, Error>>()?;
        Ok(made.get_or_init(|| blocks))
    }
}

impl Migratable for Vm {
    fn blockers(&self) -> Vec<String> {
        let clock = self.processor().cpu().counts_on_host_clock();
        let clock = clock.then(|| "State blocked by non-migratable CPU device (invtsc flag)".to_owned());
        let devices = self.devices.migration_blockers().into_iter();
        clock
            .into_iter()
            .chain(
                devices.map(|(device, reason)| format!("State blocked by non-migratable device '{device}': {reason}")),
            )
            .collect()
    }

    fn memory(&self) -> Result<StreamMemory, Error> {
        let block = |block: std::sync::Arc<RamBlock>| StreamBlock {
            name: block.id().to_owned(),
            len: block.len() as u64,
            max: block.len() as u64,
            block,
        };
        let mut blocks: Vec<_> = self.board.map.blocks.list().into_iter().map(block).collect();
        blocks.extend_from_slice(self.copied_tables()?);
        // The largest that it can be first; the sort is stable.
        blocks.sort_by_key(|block| Reverse(block.max));
        let unused = match *self.boot() {
            Boot::Firmware(_) => Vec::new(),
            Boot::Direct(_) => vec![FIRMWARE],
        };
        Ok(StreamMemory {
            blocks,
            unused,
            space: std::sync::Arc::clone(&self.board.map.memory),
        })
    }

    fn save(&self, run_state: &str) -> Result<Vec<SavedSection>, StateError> {
        self.save_sections(run_state)
    }

    fn loader(&self) -> Result<Box<dyn StateLoader + '_>, StateError> {
        Ok(Box::new(self.loader()?))
    }
}
