//! Firmware: a ROM that ends at 4 GiB, its last part also below 1 MiB.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestRegionMmap, MemoryRegionAddress, MmapRegion, Permissions,
};

use crate::{
    accel::kvm::x86_64 as kvm,
    machine::q35::layout::{FOUR_GIB, ONE_MIB},
    qapi::Error,
};

/// The firmware of a machine that names none.
const DEFAULT_NAME: &str = "bios-256k.bin";
/// Where firmware lies when only its name is given, after the folders of `-L`.
const FOLDERS: [&str; 6] = [
    "/usr/share/seabios",
    "/usr/share/qemu",
    "/usr/share/qemu-kvm",
    "/usr/share/ovmf",
    "/usr/local/share/qemu",
    "/usr/share/seavgabios",
];
/// Largest ROM; above lie the local APICs and what KVM needs.
const MAX_SIZE: usize = 8 << 20;
/// The ROM's size is a multiple of this.
const ALIGN: usize = 64 << 10;
/// How much of the ROM's end shows below 1 MiB.
const LOW_SIZE: usize = 128 << 10;

/// A ROM.
#[derive(Debug)]
pub(crate) struct Firmware {
    region: Arc<GuestRegionMmap>,
    low: Vec<u8>,
    /// Whether the end of the ROM shows below 1 MiB.
    is_shadowed: bool,
}

impl Firmware {
    /// Reads the file that `-bios` names, or the default one, from where it lies or from one of `folders`.
    pub(crate) fn open(name: Option<&Path>, folders: &[PathBuf]) -> Result<Self, Error> {
        let name = name.unwrap_or(Path::new(DEFAULT_NAME));
        let fail =
            |why: &dyn std::fmt::Display| Error::generic(format!("could not load PC BIOS '{}': {why}", name.display()));
        let path = find(name, folders).ok_or_else(|| fail(&"no such file here or in the folders for firmware"))?;
        let image = fs::read(&path).map_err(|error| fail(&error))?;
        if image.is_empty() || image.len() % ALIGN != 0 || image.len() > MAX_SIZE {
            return Err(fail(&format_args!(
                "its size of {} bytes is not a multiple of 64 KiB up to 8 MiB",
                image.len()
            )));
        }
        let region = MmapRegion::new(image.len()).map_err(|error| fail(&error))?;
        let base = FOUR_GIB - u64::try_from(image.len()).unwrap_or_default();
        let region = GuestRegionMmap::new(region, GuestAddress(base)).ok_or_else(|| fail(&"address"))?;
        region
            .write_slice(&image, MemoryRegionAddress(0))
            .map_err(|error| fail(&error))?;
        tracing::debug!(path = %path.display(), size = image.len(), "firmware");
        Ok(Self {
            region: Arc::new(region),
            low: image[image.len() - LOW_SIZE.min(image.len())..].to_vec(),
            is_shadowed: false,
        })
    }

    /// Maps the ROM below 4 GiB.
    pub(crate) fn plug_into(&self, vm: &kvm::Vm) -> Result<(), Error> {
        use vm_memory::GuestMemoryRegion;
        vm.add_memory_slot(self.region.start_addr().0, self.region.len(), &self.region, 0, true)
            .map(|_| ())
            .map_err(|error| Error::generic(error.to_string()))
    }

    /// Makes sure that there is RAM for the ROM's end below 1 MiB, and lets [`Self::shadow`] copy it again.
    pub(crate) fn load(&mut self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        let start = self.low_start();
        if !memory.check_range(GuestAddress(start), self.low.len(), Permissions::Write) {
            return Err(Error::generic(format!("no RAM at 0x{start:x} for the PC BIOS")));
        }
        self.is_shadowed = false;
        Ok(())
    }

    /// Copies the ROM's end below 1 MiB, unless that was done since the last reset. That is RAM which firmware may write
    /// to, as after it has been shadowed. Left to when somebody looks there: the first page of a guest's memory that is
    /// touched may cost as much as 2 MiB, which a guest that is only prepared need not have.
    pub(crate) fn shadow(&mut self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        if self.is_shadowed {
            return Ok(());
        }
        super::put(memory, self.low_start(), &self.low)?;
        self.is_shadowed = true;
        Ok(())
    }

    fn low_start(&self) -> u64 {
        ONE_MIB - u64::try_from(self.low.len()).unwrap_or_default()
    }
}

fn find(name: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let given = folders.iter().map(|folder| folder.join(name));
    let built_in = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
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
        let error = Firmware::open(Some(Path::new("no-such-bios.bin")), &[])
            .unwrap_err()
            .desc;
        assert!(
            error.starts_with("could not load PC BIOS 'no-such-bios.bin': no such file"),
            "{error}"
        );
        let error = Firmware::open(Some(Path::new("passwd")), &[PathBuf::from("/etc")])
            .unwrap_err()
            .desc;
        assert!(error.contains("is not a multiple of 64 KiB"), "{error}");
    }
}
