//! The devices of a machine: the chipset's, and those that `-device` names.

mod chipset;
mod plug;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::board::Board;
use super::clock::GuestClock;
use super::layout::Split;
use super::options::Options;
use super::pci::RootComplex;
use super::resources::Resources;
use super::rtc::TimedRtc;
use super::split::SplitChips;
use super::timed::Timed;
use crate::devices::pit::Pit;
use crate::devices::pm::Pm;
use crate::devices::{self, Device, SharedDevice};
use crate::irq::{IrqLine, Lines, Router};
use crate::machine::chardevs::Chardevs;
use crate::machine::config::MachineConfig;
use crate::machine::info::DeviceInfo;
use crate::machine::registry::blame_device;
use crate::machine::streams::{Streams, StreamsBuilder};
use crate::mem::{Mapping, Region};
use crate::qapi::Error;
use crate::qom::{Registry, TypeInfo, Values};
use crate::report::reason;
use crate::target::Target;

/// The types the machine's `-device` and `-object` entries are checked against.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    if let Err(error) = registry.add(devices::types(Target::X86_64)) {
        tracing::error!(%error, "device types");
    }
    registry
}

/// What devices are built with.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a MachineConfig,
    pub(crate) options: &'a Options,
    pub(crate) registry: &'a Registry,
    pub(crate) board: &'a Arc<Board>,
    pub(crate) lines: &'a Lines,
    pub(crate) router: &'a Arc<Router>,
    pub(crate) clock: &'a Arc<GuestClock>,
    /// The interrupt controllers, when they are not in the kernel.
    pub(crate) chips: Option<&'a Arc<SplitChips>>,
    /// How RAM is split, and how many vCPUs there are: firmware finds both in the clock's memory.
    pub(crate) split: Split,
    pub(crate) cpus: u32,
    /// A kernel starts without firmware, so the chipset starts as firmware would leave it.
    pub(crate) direct_boot: bool,
}

impl Surroundings<'_> {
    /// A driver of an interrupt line.
    fn line(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, Error> {
        let driver = self.lines.driver(gsi);
        driver.map_err(|error| Error::generic(error.to_string()))
    }
}

/// The devices of a machine.
pub(crate) struct Devices {
    all: Vec<SharedDevice>,
    pub(crate) infos: Vec<DeviceInfo>,
    pub(crate) pci: Arc<RootComplex>,
    pub(crate) pm: Arc<Mutex<Timed<Pm>>>,
    pub(crate) rtc: Arc<Mutex<TimedRtc>>,
    /// Serial ports: first port and interrupt.
    pub(crate) serials: Vec<(u16, u8)>,
    /// Port of the panic device.
    pub(crate) pvpanic: Option<u16>,
    /// The timer, when it is not in the kernel.
    pit: Option<Arc<Mutex<Timed<Pit>>>>,
    // What the guest reaches the devices by.
    _mappings: Vec<Mapping>,
    /// Between the devices and the back ends of their character devices.
    streams: Streams,
}

impl Devices {
    /// Builds all of them.
    pub(crate) fn new(with: &Surroundings<'_>, resources: Resources) -> Result<Self, Error> {
        let mut assembly = Assembly::new(with, resources)?;
        assembly.add_serial_ports()?;
        for entry in &with.config.devices {
            assembly.plug(entry).map_err(|error| blame_device(entry, &error))?;
        }
        assembly.add_debug_console()?;
        let pit = assembly.add_timer()?;
        // They come last, so that they forget what other devices' resets did to their lines.
        assembly.all.extend(with.chips.iter().flat_map(|chips| chips.devices()));
        let streams = assembly.streams.start(with.config.debug_threads);
        Ok(Self {
            all: assembly.all,
            infos: assembly.infos,
            pci: assembly.pci,
            pm: assembly.pm,
            rtc: assembly.rtc,
            serials: assembly.serials,
            pvpanic: assembly.pvpanic,
            pit,
            _mappings: assembly.mappings,
            streams: streams.map_err(|error| Error::generic(format!("stream thread: {}", reason(&error))))?,
        })
    }

    /// Adds a device that was made later.
    pub(crate) fn add(&mut self, device: SharedDevice) {
        self.all.push(device);
    }

    /// No vCPU waits for a device any more, since all are about to be paused.
    pub(crate) fn release_vcpus(&self) {
        self.streams.release();
    }

    /// Says whether the guest runs.
    pub(crate) fn set_running(&self, runs: bool) {
        if runs {
            self.streams.resume();
        } else {
            self.streams.flush();
        }
        self.pm.lock().unwrap_or_else(PoisonError::into_inner).set_running(runs);
        if let Some(pit) = &self.pit {
            pit.lock().unwrap_or_else(PoisonError::into_inner).set_running(runs);
        }
    }

    /// Returns all devices to the state after power-on, in the order they were made.
    pub(crate) fn reset(&self) {
        for device in &self.all {
            device.lock().unwrap_or_else(PoisonError::into_inner).reset();
        }
        self.pci.reset();
    }
}

/// Types of the devices that the machine makes by itself and that `-global` reaches.
const BUILT_IN: [&str; 4] = ["ICH9-LPC", "fw_cfg_io", "kvm-pit", "mch"];

/// Checks what `-global` says about the machine's own devices.
///
/// # Errors
/// Names the property that one of them lacks, or that does not take its value.
pub(crate) fn check_globals(registry: &Registry, config: &MachineConfig) -> Result<(), Error> {
    let globals = config.globals.iter();
    let globals = globals.map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()));
    for known in BUILT_IN {
        registry.values(known, &Map::new(), globals.clone())?;
    }
    Ok(())
}

/// Devices in the making.
struct Assembly<'a> {
    with: &'a Surroundings<'a>,
    streams: StreamsBuilder,
    chardevs: Chardevs,
    all: Vec<SharedDevice>,
    infos: Vec<DeviceInfo>,
    pci: Arc<RootComplex>,
    pm: Arc<Mutex<Timed<Pm>>>,
    rtc: Arc<Mutex<TimedRtc>>,
    serials: Vec<(u16, u8)>,
    pvpanic: Option<u16>,
    /// Numbers of chassis and slot that ports have.
    slots: BTreeSet<(u8, u16)>,
    /// `acpi-index` of PCI devices.
    acpi_indices: BTreeSet<u64>,
    /// Properties that the device being made fills in.
    filled_in: Map<String, Value>,
    mappings: Vec<Mapping>,
}

impl Assembly<'_> {
    /// Shows ports of a device from `start` on.
    fn map_ports(&mut self, start: u16, ports: &Region) -> Result<(), Error> {
        self.mappings.push(self.with.board.map.map_ports(start, ports)?);
        Ok(())
    }

    /// Makes a device one of the machine's.
    fn keep<D: Device + 'static>(&mut self, device: D) -> Arc<Mutex<D>> {
        let device = Arc::new(Mutex::new(device));
        self.all.push(Arc::clone(&device) as SharedDevice);
        device
    }

    /// Enters a device that has been made into the list.
    fn note(&mut self, known: &'static TypeInfo, entry: &Map<String, Value>, values: &Values) {
        let id = entry.get("id").and_then(Value::as_str).map(str::to_owned);
        let anonymous = self.infos.iter().filter(|info| info.id.is_none()).count();
        let path = match &id {
            Some(id) => format!("/machine/peripheral/{id}"),
            None => format!("/machine/peripheral-anon/device[{anonymous}]"),
        };
        let filled_in = std::mem::take(&mut self.filled_in);
        let properties = values.iter().map(|(name, value)| (name.to_owned(), value.clone()));
        self.infos.push(DeviceInfo {
            id,
            qom_type: known.name,
            path,
            properties: properties.chain(filled_in).collect(),
        });
    }
}
