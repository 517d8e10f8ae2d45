//! Making the devices that `-device` and its kin name: one way for all of them.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde_json::{Map, Value, json};

use super::Assembly;
use super::instance::{self, Instance};
use super::site::{Connections, DeviceSite, Wiring};
use crate::devices::class::{DeviceClass, Realize, RealizeError};
use crate::devices::pci::PciPlace;
use crate::devices::{SharedDevice, class};
use crate::machine::chardevs;
use crate::machine::config::FIRMWARE_FOLDERS;
use crate::machine::pc::acpi::pin_gsi;
use crate::machine::pc::pci::{Place, RootComplex};
use crate::machine::pci::{Devfn, Placement};
use crate::machine::pluggable;
use crate::qapi::Error;
use crate::qom::Values;
use crate::report;
use crate::target::Target;

impl Assembly<'_> {
    /// The serial ports of `-serial`.
    pub(super) fn add_serial_ports(&mut self) -> Result<(), Error> {
        for (index, chardev) in self.with.config.serials.iter().enumerate() {
            if chardev == "none" {
                continue;
            }
            let entry = json!({ "driver": "isa-serial", "chardev": chardev, "index": index });
            if let Value::Object(entry) = entry {
                self.plug(&entry)?;
            }
        }
        Ok(())
    }

    /// The console of `-debugcon`.
    pub(super) fn add_debug_console(&mut self) -> Result<(), Error> {
        let Some(console) = &self.with.config.debugcon else {
            return Ok(());
        };
        self.plug(&console.parameters).map_err(|error| console.blame(&error))
    }

    /// Makes the device of one `-device` entry.
    pub(super) fn plug(&mut self, entry: &Map<String, Value>) -> Result<(), Error> {
        let plugging = Plugging {
            wiring: &self.wiring,
            pci: &self.pci,
            others: &self.instances,
        };
        let made = plugging.plug(entry, Some(&mut self.connections))?;
        self.instances.push(made);
        Ok(())
    }
}

/// A machine that a device is being put into.
pub(super) struct Plugging<'a> {
    pub(super) wiring: &'a Wiring,
    pub(super) pci: &'a RootComplex,
    /// The devices there are.
    pub(super) others: &'a [Instance],
}

impl Plugging<'_> {
    /// Makes the device that `entry` describes, and puts it into its place.
    pub(super) fn plug(
        &self,
        entry: &Map<String, Value>,
        connections: Option<&mut Connections>,
    ) -> Result<Instance, Error> {
        let registry = &self.wiring.registry;
        let driver = pluggable(registry, entry)?.name.clone();
        let invalid = || Error::generic(format!("'{driver}' is not a valid device model name"));
        let class = class(Target::X86_64, &driver).ok_or_else(invalid)?;
        self.check_bus(&driver, entry)?;
        let values = registry.values(&driver, entry, self.wiring.globals())?;
        let mut site = DeviceSite {
            wiring: self.wiring,
            connections,
            others: self.others,
            mappings: Vec::new(),
        };
        let (device, place) = match class.realize {
            Realize::WithMachine => return Err(invalid()),
            Realize::Isa(realize) => (
                realize(&values, &mut site).map_err(|error| blame(&driver, &error))?,
                None,
            ),
            Realize::Pci(_) => {
                let (device, place) = self.plug_into_pci(class, entry, &values, &mut site)?;
                (device, Some(place))
            }
        };
        let id = entry.get("id").and_then(Value::as_str).map(str::to_owned);
        let path = self.path(id.as_deref());
        Ok(Instance {
            class,
            backend: instance::backend(registry, &device, &path, &values),
            path,
            id,
            values,
            device,
            place,
            _mappings: site.mappings,
        })
    }

    fn plug_into_pci(
        &self,
        class: &'static DeviceClass,
        entry: &Map<String, Value>,
        values: &Values,
        site: &mut DeviceSite<'_>,
    ) -> Result<(SharedDevice, Place), Error> {
        let Realize::Pci(realize) = class.realize else {
            return Err(Error::generic(format!("{} is no PCI function", class.info.name)));
        };
        let want = placement(class.info.name, entry, values);
        self.check_pci(values)?;
        let place = self.pci.place(&want)?;
        if let Some(doubt) = self.pci.doubt(place, want.driver) {
            report::warning(doubt);
        }
        let (slot, pin) = self.pci.root_pin(place, 0);
        let pci_place = PciPlace {
            devfn: place.1.byte(),
            multifunction: want.multifunction,
            express: self.pci.is_behind_port(place),
            intx: self.wiring.line(pin_gsi(slot, pin))?,
        };
        let function = realize(values, pci_place, site).map_err(|error| blame(class.info.name, &error))?;
        if !self.pci.takes_slot_of(&function) {
            return Err(Error::generic(format!(
                "Can't add chassis slot, error -{}",
                Errno::EBUSY as i32
            )));
        }
        self.pci.insert(place, &want, function.clone(), None);
        Ok((function, place))
    }

    /// Where a device of this id is in the tree of objects.
    fn path(&self, id: Option<&str>) -> String {
        let Some(id) = id else {
            let path = |index: usize| format!("/machine/peripheral-anon/device[{index}]");
            let is_free = |path: &String| self.others.iter().all(|other| other.path != *path);
            let mut paths = (0..=self.others.len()).map(path);
            return paths.find(is_free).unwrap_or_else(|| path(self.others.len()));
        };
        format!("/machine/peripheral/{id}")
    }

    /// Checks that the bus that `entry` names is there, and of the kind that the device plugs into.
    fn check_bus(&self, driver: &str, entry: &Map<String, Value>) -> Result<(), Error> {
        let Some(name) = entry.get("bus").and_then(Value::as_str) else {
            return Ok(());
        };
        let kind = match name {
            "isa.0" => "ISA",
            "main-system-bus" => "System",
            _ if self.pci.has_bus(name) => "PCIE",
            _ => return Err(Error::generic(format!("Bus '{name}' not found"))),
        };
        let registry = &self.wiring.registry;
        let wanted = registry.bus(driver).unwrap_or("System");
        match registry.is_a(kind, wanted) {
            true => Ok(()),
            false => Err(Error::generic(format!("Device '{driver}' can't go on {kind} bus"))),
        }
    }

    /// Checks the properties that every PCI device has.
    fn check_pci(&self, values: &Values) -> Result<(), Error> {
        let index = values.uint("acpi-index").unwrap_or_default();
        if index > ACPI_INDEX_MAX {
            return Err(Error::generic(format!(
                "acpi-index should be less or equal to {ACPI_INDEX_MAX}"
            )));
        }
        let mut others = self.others.iter();
        if index != 0 && others.any(|other| other.values.uint("acpi-index") == Some(index)) {
            return Err(Error::generic(format!(
                "a PCI device with acpi-index = {index} already exist"
            )));
        }
        let size = values.uint("romsize").filter(|size| *size != UNSET);
        if let Some(size) = size.filter(|size| !size.is_power_of_two()) {
            return Err(Error::generic(format!("ROM size {size} is not a power of two")));
        }
        match values.text("romfile") {
            None | Some("") => Ok(()),
            Some(file) if !find_rom(file, &self.wiring.data_dirs) => {
                Err(Error::generic(format!("failed to find romfile \"{file}\"")))
            }
            Some(file) => Err(Error::generic(format!("romfile={file}: option ROMs are not supported"))),
        }
    }
}

/// Largest number that firmware tells operating systems for a device (SMBIOS and ACPI `_DSM` of on-board devices).
const ACPI_INDEX_MAX: u64 = 16_383;
/// A number that was not given.
const UNSET: u64 = 0xffff_ffff;

/// Why a device cannot be made, as clients are told.
fn blame(driver: &str, error: &RealizeError) -> Error {
    match error {
        RealizeError::NoObject(_) => Error::device_not_found(error.to_string()),
        RealizeError::NoChardev(id) => chardevs::refusal(driver, id, &Error::device_not_found("")),
        other => Error::generic(other.to_string()),
    }
}

/// Whether there is a ROM of this name, here or where firmware lies.
fn find_rom(name: &str, folders: &[PathBuf]) -> bool {
    let folders = folders.iter().map(PathBuf::as_path);
    let folders = folders.chain(FIRMWARE_FOLDERS.iter().map(Path::new));
    Path::new(name).is_file() || folders.map(|folder| folder.join(name)).any(|path| path.is_file())
}

/// Where an entry wants its function.
fn placement<'e>(driver: &'e str, entry: &'e Map<String, Value>, values: &Values) -> Placement<'e> {
    Placement {
        driver,
        id: entry.get("id").and_then(Value::as_str),
        bus: entry.get("bus").and_then(Value::as_str),
        addr: values.pci_addr("addr").map(|addr| Devfn::from_byte(addr.devfn())),
        multifunction: values.boolean("multifunction"),
    }
}
