//! Firmware: a ROM that ends at 4 GiB, its last part also below 1 MiB.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use vm_memory::{ReadVolatile, VolatileMemory};

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
    mem::{Mapping, RamBlock, Region},
};

/// The firmware of a machine that names none.
const DEFAULT_NAME: &str = "bios-256k.bin";
/// The name of the ROM's block.
const BLOCK: &str = "pc.bios";
/// The ROM's size is a multiple of this.
const ALIGN: usize = 64 << 10;
/// How much of the ROM's end shows below 1 MiB.
const LOW_SIZE: u64 = 128 << 10;
/// Of what shows below 1 MiB, over the room for the ROMs of cards.
const LOW_PRIORITY: i32 = 2;

/// A ROM.
#[derive(Debug)]
pub(crate) struct Firmware {
    /// Its file, as it was named.
    name: String,
    rom: Arc<RamBlock>,
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

    /// Shows the ROM below 4 GiB, and its end below 1 MiB, for as long as what is returned lives.
    pub(crate) fn plug_into(&self, map: &MemoryMap) -> Result<Vec<Mapping>, BootError> {
        map.blocks.add(&self.rom)?;
        let (all, len) = (Region::rom(&self.rom), self.rom.len() as u64);
        let low = self.low_size();
        let part = Region::alias("isa-bios", &all, len - low, low);
        let mappings = map.topology.change(|edit| {
            Ok(vec![
                edit.map(&map.pci, FOUR_GIB - len, &all, 0)?,
                edit.map(&map.pci, ONE_MIB - low, &part, LOW_PRIORITY)?,
            ])
        });
        Ok(mappings?)
    }

    /// Bytes of the ROM's end that show below 1 MiB.
    fn low_size(&self) -> u64 {
        LOW_SIZE.min(self.rom.len() as u64)
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
