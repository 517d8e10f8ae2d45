//! Firmware: a ROM that ends at 4 GiB, its last part also below 1 MiB.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use vm_memory::{GuestAddress, GuestMemory, Permissions, ReadVolatile, VolatileMemory};

use super::error::{BootError, FirmwareFault};
use crate::{
    machine::{
        config::FIRMWARE_FOLDERS,
        info::RomInfo,
        pc::{
            layout::{FOUR_GIB, ONE_MIB},
            memory_map::MemoryMap,
        },
    },
    mem::{GuestRam, Mapping, RamBlock, Region},
};

/// The firmware of a machine that names none.
const DEFAULT_NAME: &str = "bios-256k.bin";
/// The name of the ROM's block.
const BLOCK: &str = "pc.bios";
/// The ROM's size is a multiple of this.
const ALIGN: usize = 64 << 10;
/// How much of the ROM's end shows below 1 MiB.
const LOW_SIZE: usize = 128 << 10;

/// A ROM.
#[derive(Debug)]
pub(crate) struct Firmware {
    /// Its file, as it was named.
    name: String,
    rom: Arc<RamBlock>,
    /// Whether a copy of the end of the ROM shows below 1 MiB, rather than the ROM itself.
    is_copied: bool,
    /// Whether the end of the ROM shows below 1 MiB.
    is_shadowed: bool,
}

impl Firmware {
    /// Reads the file that `-bios` names, or the default one, from where it lies or from one of `folders`. It has at
    /// most `max_size` bytes.
    pub(crate) fn open(name: Option<&Path>, folders: &[PathBuf], max_size: u64) -> Result<Self, BootError> {
        let name = name.unwrap_or(Path::new(DEFAULT_NAME));
        let rom = read(name, folders, max_size).map_err(|cause| BootError::Firmware {
            name: name.to_owned(),
            cause,
        })?;
        Ok(Self {
            name: name.display().to_string(),
            rom,
            is_copied: true,
            is_shadowed: false,
        })
    }

    /// What it is, and where it shows.
    pub(crate) fn info(&self) -> RomInfo {
        let size = self.rom.len() as u64;
        RomInfo::Loaded {
            addr: FOUR_GIB - size,
            size,
            name: self.name.clone(),
        }
    }

    /// Shows the ROM below 4 GiB, and its end below 1 MiB if there is no RAM for a copy, for as long as what is returned
    /// lives.
    pub(crate) fn plug_into(&mut self, map: &MemoryMap, has_low_ram: bool) -> Result<Vec<Mapping>, BootError> {
        map.blocks.add(&self.rom)?;
        let (all, len) = (Region::rom(&self.rom), self.rom.len() as u64);
        let mapping = map.topology.map(&map.pci, FOUR_GIB - len, &all, 0);
        let mut mappings = vec![mapping?];
        self.is_copied = has_low_ram;
        if !has_low_ram {
            let low = self.low_size() as u64;
            let part = Region::alias("isa-bios", &all, len - low, low);
            let mapping = map.topology.map(&map.system, ONE_MIB - low, &part, 1);
            mappings.push(mapping?);
        }
        Ok(mappings)
    }

    /// Makes sure that there is RAM for the ROM's end below 1 MiB, and lets [`Self::shadow`] copy it again.
    pub(crate) fn load(&mut self, memory: &GuestRam) -> Result<(), BootError> {
        if !self.is_copied {
            return Ok(());
        }
        let len = self.low_size();
        let start = ONE_MIB - len as u64;
        if !memory.check_range(GuestAddress(start), len, Permissions::Write) {
            return Err(BootError::NoRam(start));
        }
        self.is_shadowed = false;
        Ok(())
    }

    /// Copies the ROM's end below 1 MiB, unless that was done since the last reset. That is RAM which firmware may write
    /// to, as after it has been shadowed. Left to when somebody looks there: the first page of a guest's memory that is
    /// touched may cost as much as 2 MiB, which a guest that is only prepared need not have.
    pub(crate) fn shadow(&mut self, memory: &GuestRam) -> Result<(), BootError> {
        if self.is_shadowed || !self.is_copied {
            return Ok(());
        }
        let size = self.low_size();
        let mut low = vec![0; size];
        self.rom
            .read((self.rom.len() - size) as u64, &mut low)
            .map_err(BootError::Rom)?;
        super::put(memory, ONE_MIB - size as u64, &low)?;
        self.is_shadowed = true;
        Ok(())
    }

    /// Says that what lies below 1 MiB comes from elsewhere: the copy of the ROM's end is among it, or was, and is not made.
    pub(crate) fn leave_low_memory(&mut self) {
        self.is_shadowed = true;
    }

    /// Copies what the ROM has for a range below 1 MiB there, as far as its end reaches that far down.
    pub(crate) fn copy_to(&self, memory: &GuestRam, range: std::ops::Range<u64>) -> Result<(), BootError> {
        let start = range.start.max(ONE_MIB - self.low_size() as u64);
        if !self.is_copied || start >= range.end {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(range.end - start).unwrap_or_default()];
        let offset = self.rom.len() as u64 - (ONE_MIB - start);
        self.rom.read(offset, &mut bytes).map_err(BootError::Rom)?;
        super::put(memory, start, &bytes)
    }

    /// Bytes of the ROM's end that show below 1 MiB.
    fn low_size(&self) -> usize {
        self.rom.len().min(LOW_SIZE)
    }
}

/// Reads the file of this name into a block of its own.
fn read(name: &Path, folders: &[PathBuf], max: u64) -> Result<Arc<RamBlock>, FirmwareFault> {
    let path = find(name, folders).ok_or(FirmwareFault::NotFound)?;
    let mut file = File::open(&path).map_err(FirmwareFault::Read)?;
    let size = file.metadata().map_err(FirmwareFault::Read)?.len();
    let bad_size = FirmwareFault::Size { size, max };
    let len = match usize::try_from(size) {
        Ok(len) if len != 0 && len % ALIGN == 0 && size <= max => len,
        _ => return Err(bad_size),
    };
    let rom = RamBlock::anonymous(BLOCK, len).map_err(FirmwareFault::NoMemory)?;
    let bytes = rom.mapping().as_volatile_slice();
    let mut slice = bytes.get_slice(0, len).map_err(FirmwareFault::Copy)?;
    file.read_exact_volatile(&mut slice).map_err(FirmwareFault::Copy)?;
    tracing::debug!(path = %path.display(), size, "firmware");
    Ok(rom)
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
            .to_string();
        assert!(
            error.starts_with("could not load PC BIOS 'no-such-bios.bin': no such file"),
            "{error}"
        );
        let error = Firmware::open(Some(Path::new("passwd")), &[PathBuf::from("/etc")], 8 << 20)
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not a multiple of 64 KiB"), "{error}");
    }
}
