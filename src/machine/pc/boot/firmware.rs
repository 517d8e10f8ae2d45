//! Firmware: a ROM that ends at 4 GiB, its last part also below 1 MiB.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use vm_memory::{GuestAddress, GuestMemory, Permissions, ReadVolatile, VolatileMemory};

use crate::{
    machine::{
        config::FIRMWARE_FOLDERS,
        pc::{
            layout::{FOUR_GIB, ONE_MIB},
            memory_map::MemoryMap,
        },
    },
    mem::{GuestRam, Mapping, RamBlock, Region},
    qapi::Error,
    report::reason,
};

/// The firmware of a machine that names none.
const DEFAULT_NAME: &str = "bios-256k.bin";
/// The name of the ROM's block.
const BLOCK: &str = "pc.bios";
/// The ROM's size is a multiple of this.
const ALIGN: usize = 64 << 10;
/// How much of the ROM's end shows below 1 MiB.
const LOW_SIZE: u64 = 128 << 10;

/// A ROM.
#[derive(Debug)]
pub(crate) struct Firmware {
    rom: Arc<RamBlock>,
    /// Whether a copy of the end of the ROM shows below 1 MiB, rather than the ROM itself.
    is_copied: bool,
    /// Whether the end of the ROM shows below 1 MiB.
    is_shadowed: bool,
}

impl Firmware {
    /// Reads the file that `-bios` names, or the default one, from where it lies or from one of `folders`. It has at
    /// most `max_size` bytes.
    pub(crate) fn open(name: Option<&Path>, folders: &[PathBuf], max_size: u64) -> Result<Self, Error> {
        let name = name.unwrap_or(Path::new(DEFAULT_NAME));
        let fail =
            |why: &dyn std::fmt::Display| Error::generic(format!("could not load PC BIOS '{}': {why}", name.display()));
        let path = find(name, folders).ok_or_else(|| fail(&"no such file here or in the folders for firmware"))?;
        let mut file = File::open(&path).map_err(|error| fail(&reason(&error)))?;
        let size = file.metadata().map_err(|error| fail(&reason(&error)))?.len();
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        if len == 0 || len % ALIGN != 0 || size > max_size {
            return Err(fail(&format_args!(
                "its size of {size} bytes is not a multiple of 64 KiB up to {max_size} bytes"
            )));
        }
        let rom = RamBlock::anonymous(BLOCK, len).map_err(|error| fail(&error))?;
        let bytes = rom.mapping().as_volatile_slice();
        file.read_exact_volatile(&mut bytes.get_slice(0, len).map_err(|error| fail(&error))?)
            .map_err(|error| fail(&error))?;
        tracing::debug!(path = %path.display(), size, "firmware");
        Ok(Self {
            rom,
            is_copied: true,
            is_shadowed: false,
        })
    }

    /// Shows the ROM below 4 GiB, and its end below 1 MiB if there is no RAM for a copy, for as long as what is returned
    /// lives.
    pub(crate) fn plug_into(&mut self, map: &MemoryMap, has_low_ram: bool) -> Result<Vec<Mapping>, Error> {
        let fail = |error: &dyn std::fmt::Display| Error::generic(error.to_string());
        map.blocks.add(&self.rom).map_err(|error| fail(&error))?;
        let (all, len) = (Region::rom(&self.rom), self.rom.len() as u64);
        let mapping = map.topology.map(&map.pci, FOUR_GIB - len, &all, 0);
        let mut mappings = vec![mapping.map_err(|error| fail(&error))?];
        self.is_copied = has_low_ram;
        if !has_low_ram {
            let low = self.low_size();
            let part = Region::alias("isa-bios", &all, len - low, low);
            let mapping = map.topology.map(&map.system, ONE_MIB - low, &part, 1);
            mappings.push(mapping.map_err(|error| fail(&error))?);
        }
        Ok(mappings)
    }

    /// Makes sure that there is RAM for the ROM's end below 1 MiB, and lets [`Self::shadow`] copy it again.
    pub(crate) fn load(&mut self, memory: &GuestRam) -> Result<(), Error> {
        if !self.is_copied {
            return Ok(());
        }
        let start = ONE_MIB - self.low_size();
        let len = usize::try_from(self.low_size()).unwrap_or(usize::MAX);
        if !memory.check_range(GuestAddress(start), len, Permissions::Write) {
            return Err(Error::generic(format!("no RAM at 0x{start:x} for the PC BIOS")));
        }
        self.is_shadowed = false;
        Ok(())
    }

    /// Copies the ROM's end below 1 MiB, unless that was done since the last reset. That is RAM which firmware may write
    /// to, as after it has been shadowed. Left to when somebody looks there: the first page of a guest's memory that is
    /// touched may cost as much as 2 MiB, which a guest that is only prepared need not have.
    pub(crate) fn shadow(&mut self, memory: &GuestRam) -> Result<(), Error> {
        if self.is_shadowed || !self.is_copied {
            return Ok(());
        }
        let size = self.low_size();
        let mut low = vec![0; usize::try_from(size).unwrap_or_default()];
        self.rom
            .read(self.rom.len() as u64 - size, &mut low)
            .map_err(|error| Error::generic(format!("the PC BIOS: {error}")))?;
        super::put(memory, ONE_MIB - size, &low)?;
        self.is_shadowed = true;
        Ok(())
    }

    /// Bytes of the ROM's end that show below 1 MiB.
    fn low_size(&self) -> u64 {
        (self.rom.len() as u64).min(LOW_SIZE)
    }
}

/// Where a file of this name lies: there, in one of `folders`, or where firmware usually is.
pub(crate) fn find(name: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let given = folders.iter().map(|folder| folder.join(name));
    let built_in = FIRMWARE_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    std::iter::once(name.to_owned())
        .chain(given)
        .chain(built_in)
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_odd_file_is_named() {
        let error = Firmware::open(Some(Path::new("no-such-bios.bin")), &[], 8 << 20)
            .unwrap_err()
            .desc;
        assert!(
            error.starts_with("could not load PC BIOS 'no-such-bios.bin': no such file"),
            "{error}"
        );
        let error = Firmware::open(Some(Path::new("passwd")), &[PathBuf::from("/etc")], 8 << 20)
            .unwrap_err()
            .desc;
        assert!(error.contains("is not a multiple of 64 KiB"), "{error}");
    }
}
