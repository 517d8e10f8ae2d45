//! What the firmware configuration device offers.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::Boot;
use super::tables::Facts;
use crate::devices::fw_cfg::{FwCfg, Items, Key};
use crate::devices::{GuestRam, NoRam};
use crate::machine::bus::SharedDevice;
use crate::machine::config::{BootConfig, KernelConfig};
use crate::machine::topology;
use crate::qapi::Error;
use crate::report::reason;

/// Makes the device.
pub(crate) fn device(facts: &Facts<'_>, boot: &Boot) -> Result<SharedDevice, Error> {
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
    files.extend(boot_files(&config.boot));
    for (name, bytes) in files {
        add_file(&mut items, name, bytes)?;
    }
    for entry in &config.fw_cfg {
        add_entry(&mut items, entry)?;
    }
    if let (Boot::Firmware(_), Some(kernel)) = (boot, &config.kernel) {
        add_kernel(&mut items, kernel)?;
    }
    let ram = Arc::new(MappedRam(facts.ram.memory.clone()));
    Ok(Arc::new(Mutex::new(FwCfg::new(items, ram))))
}

/// Two bytes; larger numbers are not what any guest has.
fn half(number: u32) -> Vec<u8> {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes().to_vec()
}

fn add_file(items: &mut Items, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
    items
        .add_file(name, bytes)
        .map_err(|error| Error::generic(error.to_string()))
}

/// One `-fw_cfg` entry: a name, and a text or a file.
fn add_entry(items: &mut Items, entry: &Map<String, Value>) -> Result<(), Error> {
    let text = |name| entry.get(name).and_then(Value::as_str);
    let name = text("name").ok_or_else(|| Error::generic("Parameter 'name' is missing"))?;
    let bytes = match (text("file"), text("string")) {
        (Some(path), None) => {
            fs::read(path).map_err(|error| Error::generic(format!("can't load {path}: {}", reason(&error))))?
        }
        (None, Some(string)) => string.as_bytes().to_vec(),
        _ => {
            return Err(Error::generic(
                "exactly one of 'file', 'string' or 'gen_id' must be given",
            ));
        }
    };
    add_file(items, name, bytes)
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
    if boot.strict {
        // Firmware stops after the devices it was told of.
        files.push(("bootorder", b"HALT\0".to_vec()));
    }
    files
}

/// A kernel that firmware starts: OVMF takes it from here.
fn add_kernel(items: &mut Items, config: &KernelConfig) -> Result<(), Error> {
    let read = |path: &std::path::Path| {
        fs::read(path).map_err(|error| {
            Error::generic(format!(
                "could not open kernel file '{}': {}",
                path.display(),
                reason(&error)
            ))
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

/// Guest memory as the device's transfers see it.
struct MappedRam(GuestMemoryMmap);

impl GuestRam for MappedRam {
    fn read(&self, addr: u64, data: &mut [u8]) -> Result<(), NoRam> {
        let len = data.len();
        self.0
            .read_slice(data, GuestAddress(addr))
            .map_err(|_| NoRam { addr, len })
    }

    fn write(&self, addr: u64, data: &[u8]) -> Result<(), NoRam> {
        let len = data.len();
        self.0
            .write_slice(data, GuestAddress(addr))
            .map_err(|_| NoRam { addr, len })
    }
}
