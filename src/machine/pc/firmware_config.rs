//! What the firmware configuration device offers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use super::boot::Boot;
use super::ram::DEFAULT_RAM_ID;
use super::tables::Facts;
use crate::devices::fw_cfg::{BadFile, FwCfg, Items, Key};
use crate::machine::config::{BootConfig, KernelConfig};
use crate::machine::fields::{FieldError, Fields};
use crate::machine::info::RomInfo;
use crate::machine::topology;
use crate::mem::AddressSpace;
use crate::qapi::{Error, QmpError};
use crate::report::reason;

/// Something that firmware cannot be told, in QEMU's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FwCfgError {
    /// A parameter of `-fw_cfg` by itself.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The name is too long or taken, or there are too many.
    #[error(transparent)]
    Item(#[from] BadFile),
    /// The file of an item cannot be read.
    #[error("can't load {path}: {}", reason(error))]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// No object of users makes content.
    #[error("Object ID '{0}' is not a 'fw_cfg-data-generator' subclass")]
    NotAGenerator(String),
    /// There is no object of this id.
    #[error("Cannot find object ID '{0}'")]
    NoObject(String),
    /// There is no picture of this name.
    #[error("failed to find file '{0}'")]
    NoSplash(String),
    /// The picture cannot be read.
    #[error("failed to read splash file '{name}': {}", reason(error))]
    UnreadableSplash {
        /// Its name.
        name: String,
        /// Why not.
        error: io::Error,
    },
    /// The picture has less than a header.
    #[error("file size is less than 30 bytes '{0}'")]
    ShortSplash(String),
    /// Firmware shows no such picture.
    #[error("splash file '{0}' format not recognized; must be JPEG or 24 bit BMP")]
    UnknownSplash(String),
    /// The kernel or its initrd cannot be read.
    #[error("could not open kernel file '{}': {}", path.display(), reason(error))]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl QmpError for FwCfgError {}

/// The file that says what firmware starts from.
pub(crate) const BOOT_ORDER: &str = "bootorder";

/// Makes the device. Tells as well what of it firmware makes the guest's ROM of.
pub(crate) fn device(
    facts: &Facts<'_>,
    boot: &Boot,
    memory: &Arc<AddressSpace>,
) -> Result<(Arc<Mutex<FwCfg>>, Vec<RomInfo>), Error> {
    let config = facts.config;
    let mut items = Items::default();
    items.set(Key::Uuid, config.uuid.unwrap_or_default().to_vec());
    items.set(Key::RamSize, config.memory.size.to_le_bytes().to_vec());
    items.set(Key::NoGraphic, half(1));
    items.set(Key::CpuCount, half(facts.smp.cpus));
    let last_id = (0..facts.smp.max_cpus)
        .map(|index| topology::apic_id(index, &facts.smp))
        .max();
    items.set(Key::MaxCpus, half(last_id.unwrap_or_default() + 1));
    items.set(Key::Irq0Override, 1_u32.to_le_bytes().to_vec());
    items.set(Key::BootMenu, half(u32::from(config.boot.menu.unwrap_or_default())));
    let mut files = facts.for_firmware()?;
    let roms = files
        .iter()
        .filter(|(name, _)| is_rom(name))
        .map(|(name, bytes)| RomInfo::Given {
            size: bytes.len() as u64,
            name: (*name).to_owned(),
        });
    let roms = roms.collect();
    files.extend(boot_files(&config.boot));
    if let Some(splash) = &config.boot.splash {
        files.push(splash_file(splash, &config.data_dirs)?);
    }
    for (name, bytes) in files {
        add_file(&mut items, name, bytes)?;
    }
    for entry in &config.fw_cfg {
        let added = add_entry(&mut items, &entry.parameters, &config.objects);
        added.map_err(|error| entry.blame(error))?;
    }
    if let (Boot::Firmware(_), Some(kernel)) = (boot, &config.kernel) {
        add_kernel(&mut items, kernel)?;
    }
    Ok((Arc::new(Mutex::new(FwCfg::new(items, Arc::clone(memory)))), roms))
}

/// Whether firmware puts it, or what it says, into memory for good: the ACPI tables and what goes with them.
fn is_rom(name: &str) -> bool {
    name.starts_with("etc/acpi/") || name == "etc/table-loader"
}

/// Two bytes; larger numbers are not what any guest has.
fn half(number: u32) -> Vec<u8> {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes().to_vec()
}

fn add_file(items: &mut Items, name: &str, bytes: Vec<u8>) -> Result<(), FwCfgError> {
    Ok(items.add_file(name, bytes)?)
}

/// One `-fw_cfg` option: a name, and a text or a file.
fn add_entry(
    items: &mut Items,
    parameters: &Map<String, Value>,
    objects: &[Map<String, Value>],
) -> Result<(), FwCfgError> {
    let fields = Fields::new(parameters);
    let given = |name| fields.text(name).filter(|text| !text.is_empty());
    let bytes = match (given("file"), given("string"), given("gen_id")) {
        (Some(path), ..) => fs::read(path).map_err(|error| FwCfgError::Unreadable {
            path: path.to_owned(),
            error,
        })?,
        (_, Some(string), _) => string.as_bytes().to_vec(),
        (.., id) => return Err(no_generator(id.unwrap_or_default(), objects)),
    };
    add_file(items, fields.required_text("name")?, bytes)
}

/// Why the object with this id makes no content: there is no type that does.
fn no_generator(id: &str, objects: &[Map<String, Value>]) -> FwCfgError {
    let exists = id == DEFAULT_RAM_ID
        || objects
            .iter()
            .any(|object| object.get("id").is_some_and(|other| other == id));
    match exists {
        true => FwCfgError::NotAGenerator(id.to_owned()),
        false => FwCfgError::NoObject(id.to_owned()),
    }
}

/// What `-boot` tells firmware.
fn boot_files(boot: &BootConfig) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    if let Some(milliseconds) = boot.splash_time {
        files.push((
            "etc/boot-menu-wait",
            half(u32::try_from(milliseconds).unwrap_or(u32::MAX)),
        ));
    }
    let wait = boot.reboot_timeout.unwrap_or(-1);
    let wait = i32::try_from(wait).unwrap_or(-1);
    files.push(("etc/boot-fail-wait", wait.to_le_bytes().to_vec()));
    // What is in it is known at each reset.
    files.push((BOOT_ORDER, Vec::new()));
    files
}

/// What firmware starts from: the paths of devices, the first one first. With `strict` it stops after them.
pub(crate) fn boot_order(paths: Vec<String>, strict: bool) -> Vec<u8> {
    let mut entries = paths;
    if strict {
        entries.push("HALT".to_owned());
    }
    let mut bytes = entries.join("\n").into_bytes();
    if !bytes.is_empty() {
        bytes.push(0);
    }
    bytes
}

/// The picture for the boot menu, by the name that says which kind it is.
fn splash_file(name: &str, folders: &[PathBuf]) -> Result<(&'static str, Vec<u8>), FwCfgError> {
    let path = super::boot::find(Path::new(name), folders);
    let path = path.ok_or_else(|| FwCfgError::NoSplash(name.to_owned()))?;
    let picture = fs::read(path);
    let picture = picture.map_err(|error| FwCfgError::UnreadableSplash {
        name: name.to_owned(),
        error,
    })?;
    let bits = picture.get(28..30).map(|bits| u16::from_le_bytes([bits[0], bits[1]]));
    match (picture.get(..2), bits) {
        (_, None) => Err(FwCfgError::ShortSplash(name.to_owned())),
        (Some([0xff, 0xd8]), _) => Ok(("bootsplash.jpg", picture)),
        (Some(b"BM"), Some(24)) => Ok(("bootsplash.bmp", picture)),
        _ => Err(FwCfgError::UnknownSplash(name.to_owned())),
    }
}

/// A kernel that firmware starts: OVMF takes it from here.
fn add_kernel(items: &mut Items, config: &KernelConfig) -> Result<(), FwCfgError> {
    let read = |path: &std::path::Path| {
        fs::read(path).map_err(|error| FwCfgError::Kernel {
            path: path.to_owned(),
            error,
        })
    };
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    let image = read(&config.kernel)?;
    let sectors = image.get(0x1f1).copied().filter(|sectors| *sectors != 0).unwrap_or(4);
    let setup_len = ((usize::from(sectors) + 1) * 512).min(image.len());
    let (setup, kernel) = image.split_at(setup_len);
    items.set(Key::SetupSize, size(setup));
    items.set(Key::SetupData, setup.to_vec());
    items.set(Key::KernelSize, size(kernel));
    items.set(Key::KernelData, kernel.to_vec());
    let mut cmdline = config.append.clone().into_bytes();
    cmdline.push(0);
    items.set(Key::CmdlineSize, size(&cmdline));
    items.set(Key::CmdlineData, cmdline);
    if let Some(path) = &config.initrd {
        let initrd = read(path)?;
        items.set(Key::InitrdSize, size(&initrd));
        items.set(Key::InitrdData, initrd);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_first_bytes() {
        let dir = std::env::temp_dir().join(format!("remuda-splash-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let splash = |bytes: &[u8]| {
            fs::write(dir.join("picture"), bytes).unwrap();
            let name = splash_file("picture", std::slice::from_ref(&dir)).map(|(name, _)| name);
            name.map_err(|error| error.to_string())
        };
        let mut bitmap = [0; 64];
        bitmap[..2].copy_from_slice(b"BM");
        bitmap[28] = 24;
        assert_eq!(splash(&bitmap), Ok("bootsplash.bmp"));
        bitmap[28] = 32;
        assert!(splash(&bitmap).unwrap_err().ends_with("must be JPEG or 24 bit BMP"));
        bitmap[..2].copy_from_slice(&[0xff, 0xd8]);
        assert_eq!(splash(&bitmap), Ok("bootsplash.jpg"));
        assert!(
            splash(b"BM")
                .unwrap_err()
                .starts_with("file size is less than 30 bytes")
        );
        assert_eq!(
            splash_file("nosuch", &[]).unwrap_err().to_string(),
            "failed to find file 'nosuch'"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
