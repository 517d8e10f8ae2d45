//! Making the devices that `-device` and `-serial` name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Assembly;
use crate::devices::debug_exit::DebugExit;
use crate::devices::debugcon::Debugcon;
use crate::devices::pci::{RootPort, RootPortConfig, RootPortLinks};
use crate::devices::pvpanic::Pvpanic;
use crate::devices::serial::{self, IsaSerial, Line, Links, Wakeup};
use crate::devices::{Clock, Notice, types};
use crate::machine::bus::SharedDevice;
use crate::machine::chardevs;
use crate::machine::pc::acpi::pin_gsi;
use crate::machine::pci::{Devfn, Placement};
use crate::machine::streams::{Attention, Input, Outlet};
use crate::qapi::Error;
use crate::qom::Values;
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

    /// Makes the device of one `-device` entry.
    pub(super) fn plug(&mut self, entry: &Map<String, Value>) -> Result<(), Error> {
        let driver = entry.get("driver").and_then(Value::as_str);
        let driver = driver.ok_or_else(|| Error::generic("Parameter 'driver' is missing"))?;
        let invalid = || Error::generic(format!("'{driver}' is not a valid device model name"));
        let known = types(Target::X86_64)
            .find(|known| known.name == driver)
            .ok_or_else(invalid)?;
        if !known.user_creatable {
            return Err(Error::generic("Parameter 'driver' expects a pluggable device type"));
        }
        let globals = self.with.config.globals.iter();
        let globals = globals.map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()));
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
            irq: self.with.lines.driver(irq)?,
            line,
            clock: Arc::clone(self.with.clock) as Arc<dyn Clock>,
            wakeup,
        };
        let chip = self.keep(IsaSerial::new(links, baudbase.unwrap_or_default()));
        self.streams.set_input(number, Box::new(SerialInput(Arc::clone(&chip))));
        self.map_ports(start, serial::PORTS, &(chip as SharedDevice))?;
        self.serials.push((start, irq));
        Ok(())
    }

    fn plug_debugcon(&mut self, values: &Values) -> Result<(), Error> {
        let (_, outlet) = self.chardev("isa-debugcon", values)?;
        let outlet = outlet.ok_or_else(|| Error::generic("Can't create debugcon device, empty char device"))?;
        let [readback, ..] = values.uint("readback").unwrap_or_default().to_le_bytes();
        let device = self.keep(Debugcon::new(Box::new(move |bytes| outlet.send_all(bytes)), readback));
        self.map_ports(port(values, "iobase")?, 1, &(device as SharedDevice))
    }

    fn plug_debug_exit(&mut self, values: &Values) -> Result<(), Error> {
        let device = self.keep(DebugExit::new(self.with.board.notifier()));
        self.map_ports(
            port(values, "iobase")?,
            port(values, "iosize")?,
            &(device as SharedDevice),
        )
    }

    fn plug_pvpanic(&mut self, values: &Values) -> Result<(), Error> {
        let events = given(values, "events").and_then(|events| u8::try_from(events).ok());
        let device = self.keep(Pvpanic::new(events.unwrap_or_default(), self.with.board.notifier()));
        let at = port(values, "ioport")?;
        self.map_ports(at, 1, &(device as SharedDevice))?;
        self.pvpanic = Some(at);
        Ok(())
    }

    fn plug_root_port(&mut self, entry: &Map<String, Value>, values: &Values) -> Result<(), Error> {
        let number = |name| values.uint(name).unwrap_or_default();
        let want = placement("pcie-root-port", entry, values);
        let place = self.pci.place(&want)?;
        let config = RootPortConfig {
            port: u8::try_from(number("port")).unwrap_or_default(),
            slot: u16::try_from(number("slot")).unwrap_or_default(),
            hotplug: values.boolean("hotplug"),
            multifunction: want.multifunction,
        };
        let (_, addr) = place;
        let links = RootPortLinks {
            intx: self.with.lines.driver(pin_gsi(addr.slot(), 0))?,
            msi: self.with.lines.messages(),
            ejected: Arc::new(|| tracing::info!("the guest switched a slot off; the device in it stays")),
        };
        let port = Arc::new(Mutex::new(RootPort::new(config, links)));
        self.pci.insert_port(place, &want, port);
        Ok(())
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
