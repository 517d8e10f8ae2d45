//! Making the devices that `-device` and its kin name: one way for all of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use serde_json::{Map, Value, json};

use super::Assembly;
use super::error::PlugError;
use super::fixture::Numbers;
use super::instance::{Instance, OwnBus};
use super::object::{DeviceObject, Origin};
use super::site::{DeviceSite, Wiring};
use super::unplug::no_hotplug;
use crate::devices::class::{ChildBus, PortPlace, Realize, RealizePci};
use crate::devices::pci::PciPlace;
use crate::devices::pm::Pm;
use crate::devices::virtio::console::PortBus;
use crate::devices::{SharedDevice, class};
use crate::machine::chardevs::Chardevs;
use crate::machine::config::FIRMWARE_FOLDERS;
use crate::machine::pc::acpi::pin_gsi;
use crate::machine::pc::pci::{Place, RootComplex};
use crate::machine::pc::timed::Timed;
use crate::machine::pci::{Devfn, Placement};
use crate::machine::registry::{DriverError, pluggable};
use crate::machine::streams::Streams;
use crate::qapi::Error;
use crate::qapi::text::is_well_formed_id;
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
                let path = self.numbers.serial(self.instances.len());
                self.plug_at(&entry, Some(path))?;
            }
        }
        Ok(())
    }

    /// The console of `-debugcon`.
    pub(super) fn add_debug_console(&mut self) -> Result<(), Error> {
        let Some(console) = &self.with.config.debugcon else {
            return Ok(());
        };
        self.plug(&console.parameters).map_err(|error| console.blame(error))
    }

    /// Makes the device of one `-device` entry.
    pub(super) fn plug(&mut self, entry: &Map<String, Value>) -> Result<(), PlugError> {
        self.plug_at(entry, None)
    }

    fn plug_at(&mut self, entry: &Map<String, Value>, path: Option<String>) -> Result<(), PlugError> {
        let plugging = Plugging {
            wiring: &self.wiring,
            numbers: self.numbers,
            pci: &self.pci,
            pm: &self.pm,
            streams: &self.streams,
            others: &self.instances,
            hotplug: false,
        };
        let made = plugging.plug(entry, path, &mut self.chardevs)?;
        self.instances.push(made);
        Ok(())
    }
}

/// A machine that a device is being put into.
pub(super) struct Plugging<'a> {
    pub(super) wiring: &'a Wiring,
    pub(super) numbers: Numbers,
    pub(super) pci: &'a RootComplex,
    pub(super) pm: &'a Mutex<Timed<Pm>>,
    pub(super) streams: &'a Streams,
    /// The devices there are.
    pub(super) others: &'a [Instance],
    /// The guest is there already.
    pub(super) hotplug: bool,
}

impl Plugging<'_> {
    /// Makes the device that `entry` describes, and puts it into its place. `path` is where it is in the tree of objects, unless
    /// that follows from its id.
    pub(super) fn plug(
        &self,
        entry: &Map<String, Value>,
        path: Option<String>,
        chardevs: &mut Chardevs,
    ) -> Result<Instance, PlugError> {
        let registry = &self.wiring.registry;
        let driver = pluggable(registry, entry)?.name.clone();
        let invalid = || DriverError::Unknown(driver.to_string());
        let class = class(Target::X86_64, &driver).ok_or_else(invalid)?;
        let bus = self.bus(&driver, entry)?;
        let is_of_device = self.own_bus(&bus).is_some_and(|own| own.child.is_some());
        if self.hotplug && !is_of_device && !self.pci.takes_hotplug(&bus) {
            return Err(no_hotplug(&bus));
        }
        if self.hotplug && !class.info.hotpluggable {
            return Err(PlugError::ColdDevice(driver.into_owned()));
        }
        let id = entry.get("id").and_then(Value::as_str);
        self.check_id(id)?;
        let values = registry.values(&driver, entry, self.wiring.globals())?;
        self.check_boot_index(&values)?;
        let path = path.unwrap_or_else(|| self.path(id));
        let mut site = DeviceSite {
            wiring: self.wiring,
            streams: self.streams,
            chardevs,
            id,
            path: &path,
            others: self.others,
            mappings: Vec::new(),
            connections: Vec::new(),
        };
        let (device, place) = match class.realize {
            Realize::WithMachine => return Err(invalid().into()),
            Realize::Isa(realize) => (
                realize(&values, &mut site).map_err(|error| PlugError::of(&driver, error))?,
                None,
            ),
            Realize::Port(realize) => {
                let has_name = |name: &str| self.port_buses().any(|bus| bus.has_name(name));
                let found = self.others.iter().find(|other| other.own_bus(&bus).is_some());
                let found = found.and_then(Instance::port_bus);
                let place = PortPlace {
                    bus: found.ok_or_else(|| PlugError::NoBus(bus.clone()))?,
                    id,
                    has_name: &has_name,
                };
                let port = realize(&values, place, &mut site).map_err(|error| PlugError::of(&driver, error))?;
                (port, None)
            }
            Realize::Pci(realize) => {
                let want = placement(class.info.name, entry, &values, self.hotplug);
                let (device, place) = self.plug_into_pci(&want, &values, realize, &mut site)?;
                (device, Some(place))
            }
        };
        let parent_bus = self.bus_path(&bus);
        let origin = Origin {
            id,
            parent_bus: &parent_bus,
            hotplugged: self.hotplug,
            addr: place.map(|(_, addr)| addr.byte()),
        };
        let (parts, child) = {
            let device = device.lock().unwrap_or_else(PoisonError::into_inner);
            (device.parts(), device.child_bus())
        };
        let behind = place.and_then(|place| self.pci.bus_behind(place)).map(|name| OwnBus {
            path: format!("{path}/{name}"),
            name,
            kind: "PCIE",
            child: None,
        });
        let child = child.map(|child| self.child_bus(id, &path, child));
        Ok(Instance {
            class,
            _mappings: site.mappings,
            _connections: site.connections,
            path,
            id: id.map(str::to_owned),
            object: Arc::new(DeviceObject::new(registry, class.info.name, &values, origin, &device)),
            parts,
            bus,
            bus_behind: behind.or(child),
            values,
            device,
            place,
            unplugging: None,
        })
    }

    fn plug_into_pci(
        &self,
        want: &Placement<'_>,
        values: &Values,
        realize: RealizePci,
        site: &mut DeviceSite<'_>,
    ) -> Result<(SharedDevice, Place), PlugError> {
        self.check_pci(values)?;
        let place = self.pci.place(want)?;
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
        let function = realize(values, pci_place, site).map_err(|error| PlugError::of(want.driver, error))?;
        if !self.pci.takes_slot_of(&function) {
            return Err(PlugError::ChassisSlot(Errno::EBUSY as i32));
        }
        if !self.hotplug {
            self.pci.insert(place, want, function.clone(), None);
        } else if let Some(slot) = self.pci.plug(place, want, function.clone()) {
            let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
            pm.with(|pm| pm.slot_filled(slot));
        }
        Ok((function, place))
    }

    /// Checks that an id can be used and is free.
    fn check_id(&self, id: Option<&str>) -> Result<(), PlugError> {
        let Some(id) = id else { return Ok(()) };
        if !is_well_formed_id(id) {
            return Err(PlugError::MalformedId(id.to_owned()));
        }
        match self.others.iter().any(|other| other.id.as_deref() == Some(id)) {
            true => Err(PlugError::Taken(id.to_owned())),
            false => Ok(()),
        }
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

    /// Path of a bus in the tree of objects.
    fn bus_path(&self, bus: &str) -> String {
        let own = self.numbers.bus(bus);
        let behind = || self.own_bus(bus).map(|own| own.path.clone());
        own.or_else(behind).unwrap_or_default()
    }

    /// The bus of this name that a device has.
    fn own_bus(&self, bus: &str) -> Option<&OwnBus> {
        self.others.iter().find_map(|other| other.own_bus(bus))
    }

    /// The buses for ports.
    fn port_buses(&self) -> impl Iterator<Item = &Arc<PortBus>> {
        self.others.iter().filter_map(Instance::port_bus)
    }

    /// The bus of the device with this id, at this path.
    fn child_bus(&self, id: Option<&str>, path: &str, child: ChildBus) -> OwnBus {
        let name = id.map(|id| format!("{id}.0")).unwrap_or_else(|| {
            let name = |index: usize| format!("{}.{index}", child.kind());
            let mut names = (0..=self.others.len()).map(name);
            let free = names.find(|name| self.own_bus(name).is_none());
            free.unwrap_or_else(|| name(self.others.len()))
        });
        OwnBus {
            path: format!("{path}/{}/{name}", child.below()),
            name,
            kind: child.kind(),
            child: Some(child),
        }
    }

    /// The bus that `entry` names, or the first that there is of the kind that the device plugs into.
    fn bus(&self, driver: &str, entry: &Map<String, Value>) -> Result<String, PlugError> {
        let registry = &self.wiring.registry;
        let wanted = registry.bus(driver).unwrap_or("System");
        let Some(name) = entry.get("bus").and_then(Value::as_str) else {
            let own = BUSES.into_iter().find(|(_, kind)| registry.is_a(kind, wanted));
            // Of the buses that devices have, the latest is the first that is found.
            let mut behind = self.others.iter().rev().filter_map(|other| other.bus_behind.as_ref());
            let behind = behind.find(|own| own.child.is_some() && own.kind == wanted);
            let missing = || PlugError::NoBusOfKind {
                wanted: wanted.to_owned(),
                driver: driver.to_owned(),
            };
            let found = own.map(|(name, _)| name.to_owned());
            return found.or_else(|| behind.map(|own| own.name.clone())).ok_or_else(missing);
        };
        let own = BUSES.into_iter().find(|(own, _)| *own == name);
        let kind = match own {
            Some((_, kind)) => kind,
            None if self.pci.has_bus(name) => "PCIE",
            None => {
                let missing = || PlugError::NoBus(name.to_owned());
                self.own_bus(name).map(|own| own.kind).ok_or_else(missing)?
            }
        };
        match registry.is_a(kind, wanted) {
            true => Ok(name.to_owned()),
            false => Err(PlugError::OtherBus {
                driver: driver.to_owned(),
                kind,
            }),
        }
    }

    /// Checks the properties that every PCI device has.
    fn check_pci(&self, values: &Values) -> Result<(), PlugError> {
        let index = values.uint("acpi-index").unwrap_or_default();
        if index > ACPI_INDEX_MAX {
            return Err(PlugError::AcpiIndexRange(ACPI_INDEX_MAX));
        }
        let mut others = self.others.iter();
        if index != 0 && others.any(|other| other.values.uint("acpi-index") == Some(index)) {
            return Err(PlugError::AcpiIndexTaken(index));
        }
        let size = values.uint("romsize").filter(|size| *size != UNSET);
        if let Some(size) = size.filter(|size| !size.is_power_of_two()) {
            return Err(PlugError::RomSize(size));
        }
        match values.text("romfile") {
            None | Some("") => Ok(()),
            Some(file) if !find_rom(file, &self.wiring.data_dirs) => Err(PlugError::NoRom(file.to_owned())),
            Some(file) => Err(PlugError::Rom(file.to_owned())),
        }
    }
}

/// The buses that a machine has by itself, and their types.
const BUSES: [(&str, &str); 3] = [("main-system-bus", "System"), ("isa.0", "ISA"), ("pcie.0", "PCIE")];
/// Largest number that firmware tells operating systems for a device (SMBIOS and ACPI `_DSM` of on-board devices).
const ACPI_INDEX_MAX: u64 = 16_383;
/// A number that was not given.
const UNSET: u64 = 0xffff_ffff;

/// Whether there is a ROM of this name, here or where firmware lies.
fn find_rom(name: &str, folders: &[PathBuf]) -> bool {
    let folders = folders.iter().map(PathBuf::as_path);
    let folders = folders.chain(FIRMWARE_FOLDERS.iter().map(Path::new));
    Path::new(name).is_file() || folders.map(|folder| folder.join(name)).any(|path| path.is_file())
}

/// Where an entry wants its function.
fn placement<'e>(driver: &'e str, entry: &'e Map<String, Value>, values: &Values, hotplugged: bool) -> Placement<'e> {
    Placement {
        driver,
        id: entry.get("id").and_then(Value::as_str),
        bus: entry.get("bus").and_then(Value::as_str),
        addr: values.pci_addr("addr").map(|addr| Devfn::from_byte(addr.devfn())),
        multifunction: values.boolean("multifunction"),
        hotplugged,
    }
}
