//! The devices of a machine: the chipset's, and those that `-device` names.

mod chipset;
mod instance;
mod plug;
mod site;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Map;

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
use crate::devices::{self, AcpiDevice, Device, SharedDevice};
use crate::irq::{Lines, Router};
use crate::machine::compat;
use crate::machine::config::{Global, MachineConfig};
use crate::machine::entropy::EntropySources;
use crate::machine::info::DeviceInfo;
use crate::machine::registry::blame_device;
use crate::machine::streams::Streams;
use crate::machine::types::{self, MachineType};
use crate::mem::{Mapping, Region};
use crate::qapi::Error;
use crate::qom::{Registry, Type, Values};
use crate::report::reason;
use crate::target::Target;

use instance::Instance;
use site::{Connections, Wiring};

/// The types the machine's `-device` and `-object` entries are checked against.
pub(crate) fn registry(machine: &MachineType) -> Registry {
    let mut registry = Registry::new();
    let machines = types::qom_types(Target::X86_64).map(Type::from);
    if let Err(error) = registry.add(machines.chain(devices::types(Target::X86_64).map(Type::from))) {
        tracing::error!(%error, "device types");
    }
    registry.set_compat(compat::of(machine));
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
    /// What devices are connected to for as long as the machine lives.
    fn wiring(&self, entropy: EntropySources) -> Wiring {
        Wiring {
            entropy,
            event_loop: Mutex::default(),
            named_threads: self.config.debug_threads,
            registry: self.registry.clone(),
            globals: self.config.globals.clone(),
            data_dirs: self.config.data_dirs.clone(),
            board: Arc::clone(self.board),
            lines: self.lines.clone(),
            router: Arc::clone(self.router),
            clock: Arc::clone(self.clock),
        }
    }
}

/// The devices of a machine.
pub(crate) struct Devices {
    /// The machine's own, apart from PCI functions.
    all: Vec<SharedDevice>,
    /// What users plugged in.
    instances: Mutex<Vec<Instance>>,
    pub(crate) pci: Arc<RootComplex>,
    pub(crate) pm: Arc<Mutex<Timed<Pm>>>,
    pub(crate) rtc: Arc<Mutex<TimedRtc>>,
    /// The timer, when it is not in the kernel.
    pit: Option<Arc<Mutex<Timed<Pit>>>>,
    // What the guest reaches the machine's own devices by.
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
        let streams = assembly.connections.streams.start(with.config.debug_threads);
        Ok(Self {
            all: assembly.all,
            instances: Mutex::new(assembly.instances),
            pci: assembly.pci,
            pm: assembly.pm,
            rtc: assembly.rtc,
            pit,
            _mappings: assembly.mappings,
            streams: streams.map_err(|error| Error::generic(format!("stream thread: {}", reason(&error))))?,
        })
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The devices that users plugged in.
    pub(crate) fn infos(&self) -> Vec<DeviceInfo> {
        let infos = |instance: &Instance| [Some(instance.info()), instance.backend.clone()];
        self.instances().iter().flat_map(infos).flatten().collect()
    }

    /// What firmware's tables have to tell of devices.
    pub(crate) fn acpi(&self) -> Vec<AcpiDevice> {
        self.instances().iter().filter_map(Instance::acpi).collect()
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
        let set = |instance: &Instance| {
            let mut device = instance.device.lock().unwrap_or_else(PoisonError::into_inner);
            device.set_running(runs);
        };
        self.instances().iter().for_each(set);
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
        let reset = |device: &SharedDevice| device.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.instances()
            .iter()
            .filter(|instance| instance.place.is_none())
            .for_each(|instance| reset(&instance.device));
        self.all.iter().for_each(reset);
        self.pci.reset();
    }
}

/// Checks what `-global` says about the machine's own devices.
///
/// # Errors
/// Names the property that one of them lacks, or that does not take its value.
pub(crate) fn check_globals(registry: &Registry, config: &MachineConfig) -> Result<(), Error> {
    let built_in = devices::classes(Target::X86_64).filter(|class| class.is_built_in());
    for class in built_in {
        built_in_values(registry, config, class.info.name)?;
    }
    Ok(())
}

/// The properties of a device that the machine makes by itself.
///
/// # Errors
/// Names what `-global` says and the device does not take.
pub(crate) fn built_in_values(registry: &Registry, config: &MachineConfig, type_name: &str) -> Result<Values, Error> {
    let globals = config.globals.iter().map(Global::as_value);
    registry.values(type_name, &Map::new(), globals)
}

/// Devices in the making.
struct Assembly<'a> {
    with: &'a Surroundings<'a>,
    wiring: Wiring,
    connections: Connections,
    all: Vec<SharedDevice>,
    instances: Vec<Instance>,
    pci: Arc<RootComplex>,
    pm: Arc<Mutex<Timed<Pm>>>,
    rtc: Arc<Mutex<TimedRtc>>,
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
}
