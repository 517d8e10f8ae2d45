//! The devices of a machine: the chipset's, and those that `-device` names.

mod boot_order;
mod chipset;
mod error;
mod fixture;
mod instance;
mod object;
mod plug;
mod qtree;
mod saved;
mod site;
mod unplug;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::board::Board;
use super::input::Input;
use super::layout::Split;
use super::options::Options;
use super::pci::RootComplex;
use super::resources::Resources;
use super::rtc::TimedRtc;
use super::shadow::Shadows;
use super::split::SplitChips;
use super::timed::Timed;
use crate::block::Graph;
use crate::devices::drain::Drain;
use crate::devices::fw_cfg::FW_CFG;
use crate::devices::pm::Pm;
use crate::devices::{self, AcpiDevice, Device, ResetKind, SharedDevice};
use crate::io::{GuestClock, Handle};
use crate::irq::{Lines, Router};
use crate::machine::chardevs::Chardevs;
use crate::machine::compat;
use crate::machine::config::{Global, MachineConfig};
use crate::machine::entropy::EntropySources;
use crate::machine::guest::GuestObject;
use crate::machine::registry::blame_device;
use crate::machine::streams::Streams;
use crate::machine::types::{self, MachineType};
use crate::mem::{MapError, Mapping, Region};
use crate::net::Networks;
use crate::qapi::Error;
use crate::qom::{PropertyError, Registry, Type, Values};
use crate::target::Target;

pub(crate) use saved::LpcParts;

use error::PlugError;
use fixture::{Fixed, Fixture, Numbers};
use instance::Instance;
use plug::Plugging;
use site::Wiring;

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
    /// Memory below 1 MiB, as the host bridge shows it.
    pub(crate) shadows: &'a Arc<Shadows>,
    pub(crate) lines: &'a Lines,
    pub(crate) router: &'a Arc<Router>,
    pub(crate) clock: &'a Arc<GuestClock>,
    /// The loop of devices that have none of their own.
    pub(crate) io: &'a Handle,
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
    fn wiring(&self, entropy: EntropySources, networks: Networks, graph: Graph) -> Wiring {
        Wiring {
            entropy,
            networks,
            graph,
            cpus: self.cpus,
            io: self.io.clone(),
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
    /// Between the devices and the back ends of their character devices. It goes first: what devices said last gets out.
    streams: Streams,
    wiring: Wiring,
    numbers: Numbers,
    /// The machine's own, apart from PCI functions.
    all: Vec<SharedDevice>,
    /// The machine's own in the tree of objects.
    fixtures: Vec<Fixture>,
    /// What users plugged in.
    instances: Mutex<Vec<Instance>>,
    pub(crate) pci: Arc<RootComplex>,
    pub(crate) pm: Arc<Mutex<Timed<Pm>>>,
    pub(crate) rtc: Arc<Mutex<TimedRtc>>,
    lpc: LpcParts,
    /// What people do.
    pub(crate) input: Input,
    // What the guest reaches the machine's own devices by.
    _mappings: Vec<Mapping>,
    /// The guest runs, or is about to.
    runs: AtomicBool,
}

impl Devices {
    /// Builds all of them.
    pub(crate) fn new(with: &Surroundings<'_>, resources: Resources) -> Result<Self, Error> {
        let (mut assembly, mut chipset) = Assembly::new(with, resources)?;
        assembly.add_serial_ports()?;
        chipset.serials = assembly.instances.len();
        for entry in &with.config.devices {
            assembly.plug(entry).map_err(|error| blame_device(entry, error))?;
        }
        assembly.add_debug_console()?;
        let timer = assembly.add_timer()?;
        chipset.split = with.chips.map(|chips| chips.devices()).zip(timer);
        assembly.add_absent();
        assembly.tell_serial_ports();
        assembly.all.extend(with.chips.iter().flat_map(|chips| chips.devices()));
        if with.options.acpi_hotplug {
            assembly.pci.number_slots();
        }
        let used: Vec<_> = chipset.keyboard.iter().map(Arc::clone).collect();
        Ok(Self {
            streams: assembly.streams,
            fixtures: chipset.fixtures(&assembly.wiring, assembly.numbers)?,
            wiring: assembly.wiring,
            numbers: assembly.numbers,
            all: assembly.all,
            instances: Mutex::new(assembly.instances),
            pci: assembly.pci,
            pm: assembly.pm,
            rtc: assembly.rtc,
            lpc: assembly.lpc,
            input: Input::new(used, with.io, with.clock),
            _mappings: assembly.mappings,
            runs: AtomicBool::new(false),
        })
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All devices and buses.
    pub(crate) fn objects(&self) -> Vec<GuestObject> {
        let fixtures = self.fixtures.iter().map(Fixture::shown);
        let buses = fixture::buses(self.numbers);
        let instances = self.instances();
        let plugged = instances.iter().flat_map(Instance::shown);
        fixtures.chain(buses).chain(plugged).collect()
    }

    /// Plugs in the device that an entry of `device_add` describes, while the guest is there.
    pub(crate) fn plug(
        &self,
        entry: &Map<String, Value>,
        mut chardevs: Chardevs,
    ) -> Result<Vec<GuestObject>, PlugError> {
        let mut instances = self.instances();
        let plugging = Plugging {
            wiring: &self.wiring,
            numbers: self.numbers,
            pci: &self.pci,
            pm: &self.pm,
            streams: &self.streams,
            others: &instances,
            hotplug: true,
        };
        let made = plugging.plug(entry, None, &mut chardevs)?;
        if self.runs.load(Ordering::Relaxed) {
            lock(&made.device).resume();
        }
        let shown = made.shown();
        instances.push(made);
        Ok(shown)
    }

    /// What firmware's tables have to tell of devices.
    pub(crate) fn acpi(&self) -> Vec<AcpiDevice> {
        self.instances().iter().filter_map(Instance::acpi).collect()
    }

    /// Adds the device that tells firmware of the machine, which is made when all others are.
    pub(crate) fn add_firmware_configuration(&mut self, device: SharedDevice) -> Result<(), Error> {
        let fixed = Fixed {
            type_name: FW_CFG.name,
            bus: "main-system-bus",
            addr: None,
        };
        let path = "/machine/fw_cfg".to_owned();
        self.fixtures
            .push(Fixture::new(&self.wiring, self.numbers, fixed, path, Some(&device))?);
        self.all.push(device);
        Ok(())
    }

    /// No vCPU waits for a device any more, since all are about to be paused.
    pub(crate) fn release_vcpus(&self) {
        self.streams.release();
    }

    /// The guest is about to run.
    pub(crate) fn resume(&self) {
        self.streams.resume();
        self.runs.store(true, Ordering::Relaxed);
        self.every().iter().for_each(|device| lock(device).resume());
    }

    /// The vCPUs have been paused. Returns when no device has anything under way.
    pub(crate) fn pause(&self) {
        self.streams.flush();
        self.runs.store(false, Ordering::Relaxed);
        let drains: Vec<Drain> = self.every().iter().filter_map(|device| lock(device).pause()).collect();
        drains.into_iter().for_each(Drain::wait);
    }

    /// Returns all devices to the state after power-on. Only while paused.
    pub(crate) fn reset(&self, kind: ResetKind) {
        let devices = self.every();
        devices.iter().for_each(|device| lock(device).reset());
        devices.iter().for_each(|device| lock(device).reset_hold(kind));
        devices.iter().for_each(|device| lock(device).reset_exit(kind));
        self.pci.refresh();
    }

    /// Every device, in the order in which they were made; functions of PCI come last.
    fn every(&self) -> Vec<SharedDevice> {
        let instances = self.instances();
        let cards = instances.iter().filter(|instance| instance.place.is_none());
        let cards = cards.map(|instance| Arc::clone(&instance.device));
        let functions = self
            .pci
            .functions()
            .into_iter()
            .map(|function| function as SharedDevice);
        cards.chain(self.all.iter().cloned()).chain(functions).collect()
    }
}

fn lock(device: &SharedDevice) -> std::sync::MutexGuard<'_, dyn Device + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks what `-global` says about the machine's own devices.
///
/// # Errors
/// Names the property that one of them lacks, or that does not take its value.
pub(crate) fn check_globals(registry: &Registry, config: &MachineConfig) -> Result<(), PropertyError> {
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
pub(crate) fn built_in_values(
    registry: &Registry,
    config: &MachineConfig,
    type_name: &str,
) -> Result<Values, PropertyError> {
    let globals = config.globals.iter().map(Global::as_value);
    registry.values(type_name, &Map::new(), globals)
}

/// Devices in the making.
struct Assembly<'a> {
    with: &'a Surroundings<'a>,
    wiring: Wiring,
    numbers: Numbers,
    streams: Streams,
    chardevs: Chardevs,
    all: Vec<SharedDevice>,
    instances: Vec<Instance>,
    pci: Arc<RootComplex>,
    pm: Arc<Mutex<Timed<Pm>>>,
    rtc: Arc<Mutex<TimedRtc>>,
    lpc: LpcParts,
    mappings: Vec<Mapping>,
}

impl Assembly<'_> {
    /// Shows ports of a device from `start` on.
    fn map_ports(&mut self, start: u16, ports: &Region) -> Result<(), MapError> {
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

#[cfg(test)]
mod tests;
