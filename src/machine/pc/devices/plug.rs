//! Making the devices that `-device` and `-serial` name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use serde_json::{Map, Value, json};

use super::Assembly;
use crate::devices::debug_exit::DebugExit;
use crate::devices::debugcon::Debugcon;
use crate::devices::pci::{Link, Reserve, RootPort, RootPortConfig, RootPortLinks};
use crate::devices::pvpanic::Pvpanic;
use crate::devices::serial::{self, IsaSerial, Line, Links, Wakeup};
use crate::devices::{Clock, Notice, ports, types};
use crate::machine::chardevs;
use crate::machine::config::FIRMWARE_FOLDERS;
use crate::machine::pc::acpi::pin_gsi;
use crate::machine::pci::{Devfn, Placement};
use crate::machine::pluggable;
use crate::machine::streams::{Attention, Input, Outlet};
use crate::mem::Access;
use crate::qapi::Error;
use crate::qom::Values;
use crate::report;
use crate::target::Target;

/// Interrupts of the ISA bus.
const ISA_IRQS: u8 = 16;
/// A property of a port or interrupt that was not given.
const UNSET: u64 = 0xffff_ffff;

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
        let driver = pluggable(self.with.registry, entry)?.name.clone();
        let driver = driver.as_ref();
        let invalid = || Error::generic(format!("'{driver}' is not a valid device model name"));
        let known = types(Target::X86_64)
            .find(|known| known.name == driver)
            .ok_or_else(invalid)?;
        let globals = self.with.config.globals.iter();
        let globals = globals.map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()));
        self.check_bus(driver, entry)?;
        let values = self.with.registry.values(driver, entry, globals)?;
        match driver {
            "isa-serial" => self.plug_serial(&values)?,
            "isa-debugcon" => self.plug_debugcon(&values)?,
            "isa-debug-exit" => self.plug_debug_exit(&values)?,
            "pvpanic" => self.plug_pvpanic(&values)?,
            "pcie-root-port" => self.plug_root_port(entry, &values)?,
            _ => return Err(invalid()),
        }
        self.note(known, entry, &values);
        Ok(())
    }

    fn plug_serial(&mut self, values: &Values) -> Result<(), Error> {
        let index = match given(values, "index") {
            Some(index) => usize::try_from(index).unwrap_or(usize::MAX),
            None => self.serials.len(),
        };
        let place = serial::PLACES.get(index);
        let place = place.ok_or_else(|| {
            Error::generic(format!(
                "Max. supported number of ISA serial ports is {}.",
                serial::PLACES.len()
            ))
        })?;
        let start = match given(values, "iobase") {
            Some(_) => port(values, "iobase")?,
            None => place.0,
        };
        let irq = given(values, "irq").map_or(Ok(place.1), u8::try_from);
        let irq = irq.ok().filter(|irq| *irq < ISA_IRQS);
        let irq = irq.ok_or_else(|| Error::generic(format!("Maximum value for \"irq\" is: {}", ISA_IRQS - 1)))?;
        let baudbase = values.uint("baudbase").and_then(|rate| u32::try_from(rate).ok());
        let (number, outlet) = self.chardev("isa-serial", values)?;
        let line: Box<dyn Line> = match outlet {
            Some(outlet) => Box::new(SerialLine(outlet)),
            None => Box::new(Unconnected(self.streams.attention())),
        };
        let wakeup = values.boolean("wakeup").then(|| {
            let notifier = self.with.board.notifier();
            Box::new(move || notifier(Notice::WakeupRequest)) as Wakeup
        });
        let links = Links {
            irq: self.with.line(irq)?,
            line,
            clock: Arc::clone(self.with.clock) as Arc<dyn Clock>,
            wakeup,
        };
        let chip = self.keep(IsaSerial::new(links, baudbase.unwrap_or_default()));
        self.streams.set_input(number, Box::new(SerialInput(Arc::clone(&chip))));
        let region = ports("serial", serial::PORTS, Access::BYTES, &(chip as _), 0);
        self.map_ports(start, &region)?;
        self.fill_in("index", index);
        self.fill_in("iobase", start);
        self.fill_in("irq", irq);
        self.serials.push((start, irq));
        Ok(())
    }

    fn plug_debugcon(&mut self, values: &Values) -> Result<(), Error> {
        let (_, outlet) = self.chardev("isa-debugcon", values)?;
        let outlet = outlet.ok_or_else(|| Error::generic("Can't create debugcon device, empty char device"))?;
        let [readback, ..] = values.uint("readback").unwrap_or_default().to_le_bytes();
        let device = self.keep(Debugcon::new(Box::new(move |bytes| outlet.send_all(bytes)), readback));
        let region = ports("isa-debugcon", 1, Access::BYTES, &(device as _), 0);
        self.map_ports(port(values, "iobase")?, &region)
    }

    fn plug_debug_exit(&mut self, values: &Values) -> Result<(), Error> {
        let device = self.keep(DebugExit::new(self.with.board.notifier()));
        let len = port(values, "iosize")?;
        let region = ports("isa-debug-exit", len, Access::UP_TO_FOUR, &(device as _), 0);
        self.map_ports(port(values, "iobase")?, &region)
    }

    fn plug_pvpanic(&mut self, values: &Values) -> Result<(), Error> {
        let events = given(values, "events").and_then(|events| u8::try_from(events).ok());
        let device = self.keep(Pvpanic::new(events.unwrap_or_default(), self.with.board.notifier()));
        let at = port(values, "ioport")?;
        self.map_ports(at, &ports("pvpanic", 1, Access::BYTES, &(device as _), 0))?;
        self.pvpanic = Some(at);
        Ok(())
    }

    fn plug_root_port(&mut self, entry: &Map<String, Value>, values: &Values) -> Result<(), Error> {
        let number = |name| values.uint(name).unwrap_or_default();
        let want = placement("pcie-root-port", entry, values);
        self.check_pci(values)?;
        let place = self.pci.place(&want)?;
        if let Some(doubt) = self.pci.doubt(place, want.driver) {
            report::warning(doubt);
        }
        let chassis = u8::try_from(number("chassis")).unwrap_or_default();
        let link = Link::from_names(
            values.text("x-speed").unwrap_or_default(),
            values.text("x-width").unwrap_or_default(),
        );
        let reserved = |name, unset: u64| values.uint(name).filter(|value| *value != unset);
        let reserve = Reserve {
            buses: reserved("bus-reserve", u32::MAX.into()).and_then(|buses| u32::try_from(buses).ok()),
            io: reserved("io-reserve", u64::MAX),
            memory: reserved("mem-reserve", u64::MAX),
            prefetchable_32: reserved("pref32-reserve", u64::MAX),
            prefetchable_64: reserved("pref64-reserve", u64::MAX),
        };
        let config = RootPortConfig {
            port: u8::try_from(number("port")).unwrap_or_default(),
            slot: u16::try_from(number("slot")).unwrap_or_default(),
            hotplug: values.boolean("hotplug"),
            multifunction: want.multifunction,
            reserve: reserve.check().map_err(|error| Error::generic(error.to_string()))?,
            link: link.unwrap_or_default(),
        };
        if !self.slots.insert((chassis, config.slot)) {
            return Err(Error::generic(format!(
                "Can't add chassis slot, error -{}",
                Errno::EBUSY as i32
            )));
        }
        let (_, addr) = place;
        self.fill_in("addr", addr.byte());
        let links = RootPortLinks {
            intx: self.with.line(pin_gsi(addr.slot(), 0))?,
            msi: Arc::new(Arc::clone(self.with.router)),
            ejected: Arc::new(|| tracing::info!("the guest switched a slot off; the device in it stays")),
        };
        let port = Arc::new(Mutex::new(RootPort::new(config, links)));
        self.pci.insert_port(place, &want, port);
        Ok(())
    }

    /// Notes a property that the device being made gives a value of its own.
    fn fill_in(&mut self, name: &str, value: impl Into<Value>) {
        self.filled_in.insert(name.to_owned(), value.into());
    }

    /// Checks that the bus that `-device` names is there, and of the kind that the device plugs into.
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
        let wanted = self.with.registry.bus(driver).unwrap_or("System");
        match self.with.registry.is_a(kind, wanted) {
            true => Ok(()),
            false => Err(Error::generic(format!("Device '{driver}' can't go on {kind} bus"))),
        }
    }

    /// Checks the properties that every PCI device has.
    fn check_pci(&mut self, values: &Values) -> Result<(), Error> {
        let index = values.uint("acpi-index").unwrap_or_default();
        if index > ACPI_INDEX_MAX {
            return Err(Error::generic(format!(
                "acpi-index should be less or equal to {ACPI_INDEX_MAX}"
            )));
        }
        if index != 0 && !self.acpi_indices.insert(index) {
            return Err(Error::generic(format!(
                "a PCI device with acpi-index = {index} already exist"
            )));
        }
        let size = given(values, "romsize");
        if let Some(size) = size.filter(|size| !size.is_power_of_two()) {
            return Err(Error::generic(format!("ROM size {size} is not a power of two")));
        }
        match values.text("romfile") {
            None | Some("") => Ok(()),
            Some(file) if !find_rom(file, &self.with.config.data_dirs) => {
                Err(Error::generic(format!("failed to find romfile \"{file}\"")))
            }
            Some(file) => Err(Error::generic(format!("romfile={file}: option ROMs are not supported"))),
        }
    }

    /// The line to the character device that a device names, if it names one, and its number.
    fn chardev(&mut self, driver: &str, values: &Values) -> Result<(usize, Option<Outlet>), Error> {
        let line = match values.text("chardev") {
            Some(id) => {
                let line = self.chardevs.take(id);
                Some(line.ok_or_else(|| chardevs::refusal(driver, id, &Error::device_not_found("")))?)
            }
            None => None,
        };
        Ok(self.streams.add(line))
    }
}

/// Largest number that firmware tells operating systems for a device (SMBIOS and ACPI `_DSM` of on-board devices).
const ACPI_INDEX_MAX: u64 = 16_383;

/// Whether there is a ROM of this name, here or where firmware lies.
fn find_rom(name: &str, folders: &[PathBuf]) -> bool {
    let folders = folders.iter().map(PathBuf::as_path);
    let folders = folders.chain(FIRMWARE_FOLDERS.iter().map(Path::new));
    Path::new(name).is_file() || folders.map(|folder| folder.join(name)).any(|path| path.is_file())
}

/// Where a `-device` entry wants its function.
fn placement<'e>(driver: &'e str, entry: &'e Map<String, Value>, values: &Values) -> Placement<'e> {
    Placement {
        driver,
        id: entry.get("id").and_then(Value::as_str),
        bus: entry.get("bus").and_then(Value::as_str),
        addr: values.pci_addr("addr").map(|addr| Devfn::from_byte(addr.devfn())),
        multifunction: values.boolean("multifunction"),
    }
}

/// The value of a number, unless it means that none was given.
fn given(values: &Values, name: &str) -> Option<u64> {
    values.uint(name).filter(|value| *value != UNSET)
}

fn port(values: &Values, name: &str) -> Result<u16, Error> {
    let number = values.uint(name).unwrap_or_default();
    u16::try_from(number).map_err(|_| Error::generic(format!("Parameter '{name}': there is no port 0x{number:x}")))
}

/// Where a serial port's characters go.
struct SerialLine(Outlet);

impl Line for SerialLine {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.send(bytes)
    }

    fn attend(&self) {
        self.0.attend();
    }
}

/// Where they go if the port is connected to nothing.
struct Unconnected(Attention);

impl Line for Unconnected {
    fn send(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn attend(&self) {
        self.0.call();
    }
}

/// Feeds a serial port.
struct SerialInput(Arc<Mutex<IsaSerial>>);

impl SerialInput {
    fn port(&self) -> MutexGuard<'_, IsaSerial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Input for SerialInput {
    fn room(&mut self) -> usize {
        self.port().uart().room()
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.port().uart().receive(bytes);
    }

    fn broke(&mut self) {
        self.port().uart().receive_break();
    }

    fn ready(&mut self) {
        self.port().uart().line_ready();
    }

    fn time_left(&mut self) -> Option<Duration> {
        self.port().uart().time_left().map(Duration::from_nanos)
    }

    fn expire(&mut self) {
        self.port().uart().expire();
    }
}
