//! The items of a firmware configuration device.

use std::collections::BTreeMap;

/// Most bytes of a file's name.
const NAME_LEN: usize = 55;
/// The key of the first file.
const FIRST_FILE: u16 = 0x20;
/// Most files.
const MAX_FILES: usize = 0x4000 - FIRST_FILE as usize;

/// Keys of items that have no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Key {
    /// `QEMU`.
    Signature = 0x00,
    /// Bits: the ports are there, DMA is there.
    Id = 0x01,
    /// UUID of the guest.
    Uuid = 0x02,
    /// Bytes of RAM.
    RamSize = 0x03,
    /// Whether there is no display.
    NoGraphic = 0x04,
    /// vCPUs there are.
    CpuCount = 0x05,
    /// Where the kernel goes.
    KernelAddr = 0x07,
    /// Bytes of the kernel without its setup code.
    KernelSize = 0x08,
    /// Where the initrd goes.
    InitrdAddr = 0x0a,
    /// Bytes of the initrd.
    InitrdSize = 0x0b,
    /// The boot device.
    BootDevice = 0x0c,
    /// NUMA nodes and their sizes.
    Numa = 0x0d,
    /// Whether to show a boot menu.
    BootMenu = 0x0e,
    /// One more than the highest APIC id.
    MaxCpus = 0x0f,
    /// The kernel without its setup code.
    KernelData = 0x11,
    /// The initrd.
    InitrdData = 0x12,
    /// Where the command line goes.
    CmdlineAddr = 0x13,
    /// Bytes of the command line with its NUL.
    CmdlineSize = 0x14,
    /// The command line.
    CmdlineData = 0x15,
    /// Where the setup code goes.
    SetupAddr = 0x16,
    /// Bytes of the setup code.
    SetupSize = 0x17,
    /// The setup code.
    SetupData = 0x18,
    /// The directory of files.
    FileDir = 0x19,
    /// Whether the timer's interrupt is on pin 2 of the I/O APIC.
    Irq0Override = 0x8002,
}

/// A file that cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Its name is too long.
    #[error("fw_cfg name too long (max. {NAME_LEN} char): {0}")]
    Name(String),
    /// There is a file of that name.
    #[error("duplicate fw_cfg file name: {0}")]
    Duplicate(String),
    /// There are too many files.
    #[error("no more than {MAX_FILES} fw_cfg files are possible")]
    TooMany,
    /// It is larger than the directory can say.
    #[error("fw_cfg file {0} has 4 GiB or more")]
    Size(String),
}

/// Items by their keys, and files by their names.
#[derive(Clone, Debug)]
pub struct Items {
    plain: BTreeMap<u16, Vec<u8>>,
    files: Vec<(String, Vec<u8>)>,
}

impl Default for Items {
    /// What every device offers: the signature and an empty directory.
    fn default() -> Self {
        let mut items = Self {
            plain: BTreeMap::new(),
            files: Vec::new(),
        };
        items.set(Key::Signature, b"QEMU".to_vec());
        items.set(Key::Id, 3_u32.to_le_bytes().to_vec());
        items.update_directory();
        items
    }
}

impl Items {
    /// Sets an item without a name.
    pub fn set(&mut self, key: Key, bytes: Vec<u8>) {
        self.plain.insert(key as u16, bytes);
    }

    /// Adds a file. Files have their keys in the order of their names.
    ///
    /// # Errors
    /// When the name is taken or too long, or there are too many files.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), BadFile> {
        if name.is_empty() || name.len() > NAME_LEN {
            return Err(BadFile::Name(name.to_owned()));
        }
        if self.files.len() >= MAX_FILES {
            return Err(BadFile::TooMany);
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(BadFile::Size(name.to_owned()));
        }
        match self.files.binary_search_by(|(other, _)| other.as_str().cmp(name)) {
            Ok(_) => return Err(BadFile::Duplicate(name.to_owned())),
            Err(at) => self.files.insert(at, (name.to_owned(), bytes)),
        }
        self.update_directory();
        Ok(())
    }

    /// Gives a file that is there other bytes.
    pub fn replace_file(&mut self, name: &str, bytes: Vec<u8>) {
        if let Some((_, held)) = self.files.iter_mut().find(|(other, _)| other == name) {
            *held = bytes;
            self.update_directory();
        }
    }

    /// The item with this key.
    #[must_use]
    pub fn get(&self, key: u16) -> Option<&[u8]> {
        if let Some(bytes) = self.plain.get(&key) {
            return Some(bytes);
        }
        let file = key
            .checked_sub(FIRST_FILE)
            .and_then(|index| self.files.get(usize::from(index)));
        file.map(|(_, bytes)| bytes.as_slice())
    }

    /// The file of this name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let at = self
            .files
            .binary_search_by(|(other, _)| other.as_str().cmp(name))
            .ok()?;
        self.files.get(at).map(|(_, bytes)| bytes.as_slice())
    }

    fn update_directory(&mut self) {
        let count = u32::try_from(self.files.len()).unwrap_or_default();
        let mut directory = count.to_be_bytes().to_vec();
        for ((name, bytes), key) in self.files.iter().zip(FIRST_FILE..) {
            directory.extend(u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let end = directory.len() + NAME_LEN + 1;
            directory.extend(name.bytes());
            directory.resize(end, 0);
        }
        self.plain.insert(Key::FileDir as u16, directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let mut items = Items::default();
        items.add_file("opt/x", vec![1]).unwrap();
        assert_eq!(items.add_file("opt/x", vec![]), Err(BadFile::Duplicate("opt/x".into())));
        let long = "x".repeat(56);
        assert_eq!(items.add_file(&long, vec![]), Err(BadFile::Name(long)));
        assert!(items.add_file(&"x".repeat(55), vec![]).is_ok());
    }
}
