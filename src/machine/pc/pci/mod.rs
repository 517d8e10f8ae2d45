//! The root complex: which function answers which configuration access, and what its registers map.

mod access;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

pub(crate) use access::{ConfigPorts, MmConfig};
use windows::Windows;

use super::acpi::SlotPort;
use super::board::Board;
use crate::{
    devices::pci::{BarKind, ConfigSpace, PciFunction, Port, SharedFunction, Unplug, UnplugError},
    devices::pm::HotplugSlot,
    machine::pci::{BusId, Devfn, PlaceError, Placement, Topology},
};

/// A place on a bus.
pub(crate) type Place = (BusId, Devfn);

/// Called after the guest wrote to a function's configuration space, and after a reset.
type Hook = Box<dyn Fn(&Board) + Send + Sync>;

/// The root complex.
pub(crate) struct RootComplex {
    /// Weak, since the board's address spaces lead back here.
    board: Weak<Board>,
    topology: RwLock<Topology<Slot>>,
}

/// A function in its place.
struct Slot {
    function: SharedFunction,
    windows: Mutex<Windows>,
    hook: Option<Hook>,
    /// Whether there is a slot behind it.
    is_port: bool,
    /// The number by which ACPI knows the bus behind it, if devices come to it that way.
    number: OnceLock<u32>,
    /// It came while the guest was there.
    hotplugged: bool,
}

/// A function as `query-pci` shows it.
#[derive(Clone)]
pub(crate) struct FunctionView {
    pub(crate) devfn: Devfn,
    pub(crate) id: Option<String>,
    pub(crate) config: ConfigSpace,
    /// What is behind it, when it is a bridge.
    pub(crate) behind: Option<Vec<FunctionView>>,
}

impl RootComplex {
    /// A root bus of this name with nothing on it.
    pub(crate) fn new(board: &Arc<Board>, root: &str) -> Arc<Self> {
        Arc::new(Self {
            board: Arc::downgrade(board),
            topology: RwLock::new(Topology::new(root)),
        })
    }

    /// Finds a place for a function.
    pub(crate) fn place(&self, want: &Placement<'_>) -> Result<Place, PlaceError> {
        self.read().place(want)
    }

    /// What to tell the user about a place.
    pub(crate) fn doubt(&self, place: Place, driver: &str) -> Option<String> {
        self.read().doubt(place, driver)
    }

    /// Whether there is a bus of this name.
    pub(crate) fn has_bus(&self, name: &str) -> bool {
        self.read().bus_named(name).is_some()
    }

    /// Whether a place is behind a PCI Express port.
    pub(crate) fn is_behind_port(&self, place: Place) -> bool {
        self.read().bridge_to(place.0).is_some()
    }

    /// Which slot and pin of the root bus an interrupt pin (0 for INTA#) of a function in a place reaches.
    pub(crate) fn root_pin(&self, place: Place, pin: u8) -> (u8, u8) {
        self.read().root_pin(place, pin)
    }

    /// Slot and pin of the root bus that functions reach which ask for an interrupt by their pin: of each function.
    pub(crate) fn asked_pins(&self) -> Vec<(u8, u8)> {
        let topology = self.read();
        let buses = topology.buses();
        let functions = buses.flat_map(|bus| topology.functions(bus).map(move |(devfn, other)| (bus, devfn, other)));
        let asking = functions.filter(|(.., other)| lock(&other.device.function).asks_by_pin());
        asking
            .map(|(bus, devfn, _)| topology.root_pin((bus, devfn), 0))
            .collect()
    }

    /// Whether no other port has the number of a function's slot. One that is no port has none.
    pub(crate) fn takes_slot_of(&self, function: &SharedFunction) -> bool {
        let number = |function: &SharedFunction| {
            let number = lock(function).as_port().map(|port| port.number())?;
            Some((number.chassis, number.slot))
        };
        let Some(wanted) = number(function) else { return true };
        let topology = self.read();
        let mut functions = topology.buses().flat_map(|bus| topology.functions(bus));
        functions.all(|(_, other)| !other.device.is_port || number(&other.device.function) != Some(wanted))
    }

    /// Puts a function into its place when the machine is made; behind a port there is a bus, which has the port's id. `hook`
    /// is called whenever its configuration may have changed.
    pub(crate) fn insert(&self, place: Place, want: &Placement<'_>, function: SharedFunction, hook: Option<Hook>) {
        self.put(place, want, function, hook, |port| port.set_occupied(true));
    }

    /// Puts a function into its place while the guest is there, which learns of a slot by its first function. Where that is not
    /// the port's to tell, returns the slot.
    pub(crate) fn plug(&self, place: Place, want: &Placement<'_>, function: SharedFunction) -> Option<HotplugSlot> {
        let is_first = place.1 == Devfn::new(0, 0);
        let slot = self.hotplug_slot(place);
        self.put(place, want, function, None, |port| match (is_first, slot) {
            (true, None) => port.plug(),
            (true, Some(_)) => port.set_occupied(true),
            (false, _) => {}
        });
        slot.filter(|_| is_first)
    }

    /// Numbers the buses behind ports with hot plug, for ACPI: those that came last come first.
    pub(crate) fn number_slots(&self) {
        let topology = self.read();
        let mut next = 0;
        number_ports(&topology, BusId::ROOT, &mut next);
    }

    /// The ports, for ACPI.
    pub(crate) fn slot_ports(&self) -> Vec<SlotPort> {
        slot_ports(&self.read(), BusId::ROOT)
    }

    /// The slot that a place is in, if ACPI knows it.
    pub(crate) fn hotplug_slot(&self, place: Place) -> Option<HotplugSlot> {
        let topology = self.read();
        let bridge = topology.function(topology.bridge_to(place.0)?)?;
        Some(HotplugSlot {
            bus: *bridge.device.number.get()?,
            slot: place.1.slot(),
        })
    }

    /// Whether the guest has not seen what is in a place, since the first function of its slot is missing.
    pub(crate) fn is_hidden(&self, place: Place) -> bool {
        let topology = self.read();
        topology.is_link(place.0) && topology.function((place.0, Devfn::new(0, 0))).is_none()
    }

    fn put(
        &self,
        place: Place,
        want: &Placement<'_>,
        function: SharedFunction,
        hook: Option<Hook>,
        announce: impl FnOnce(&mut dyn Port),
    ) {
        let is_port = lock(&function).as_port().is_some();
        let slot = Slot {
            function,
            windows: Mutex::default(),
            hook,
            is_port,
            number: OnceLock::new(),
            hotplugged: want.hotplugged,
        };
        let mut topology = self.write();
        topology.insert(place, want, slot);
        if is_port {
            topology.add_link(want.id, place);
        }
        if let Some(port) = port_of(&topology, place.0) {
            if let Some(port) = lock(port).as_port() {
                announce(port);
            }
        }
    }

    /// Takes the function in a place out, and what its registers map. The guest learns of it when the slot is empty.
    pub(crate) fn remove(&self, place: Place) {
        let mut topology = self.write();
        let removed = topology.remove(place);
        let is_empty = topology.functions(place.0).next().is_none();
        if let Some(port) = port_of(&topology, place.0).filter(|_| is_empty) {
            let by_acpi = topology
                .bridge_to(place.0)
                .and_then(|bridge| topology.function(bridge))
                .is_some_and(|bridge| bridge.device.number.get().is_some());
            match lock(port).as_port() {
                Some(port) if by_acpi => port.set_occupied(false),
                Some(port) => port.unplug(),
                None => {}
            }
        }
        drop(topology);
        drop(removed);
    }

    /// The number that the guest gave the bus of a place, and the registers of the function there.
    pub(crate) fn config_of(&self, place: Place) -> Option<(u8, ConfigSpace)> {
        let topology = self.read();
        let config = lock(&topology.function(place)?.device.function).config().clone();
        let port = port_of(&topology, place.0).map(lock);
        let number = port.and_then(|mut port| port.as_port().map(|port| port.bus_numbers().0));
        Some((number.unwrap_or_default(), config))
    }

    /// The name of the bus behind the port in a place, if there is one.
    pub(crate) fn bus_behind(&self, place: Place) -> Option<String> {
        let topology = self.read();
        topology.bus_behind(place).map(|bus| topology.bus_name(bus).to_owned())
    }

    /// Whether functions come to a bus, and leave it, while the guest is there.
    pub(crate) fn takes_hotplug(&self, bus: &str) -> bool {
        let topology = self.read();
        let port = topology.bus_named(bus).and_then(|bus| port_of(&topology, bus));
        port.is_some_and(|port| lock(port).as_port().is_some_and(|port| port.number().hotplug))
    }

    /// Asks the guest to let go of what is in the slot of a place.
    ///
    /// # Errors
    /// The slot has no hot plug, or the guest is busy with it.
    pub(crate) fn request_unplug(&self, place: Place) -> Result<Unplug, UnplugError> {
        let topology = self.read();
        let port = port_of(&topology, place.0).ok_or(UnplugError::Unsupported)?;
        let mut port = lock(port);
        port.as_port().ok_or(UnplugError::Unsupported)?.request_unplug()
    }

    /// The places of functions that the guest has let go of since this was last asked.
    pub(crate) fn take_released(&self) -> Vec<Place> {
        let topology = self.read();
        let mut released = Vec::new();
        for bus in topology.buses() {
            let port = port_of(&topology, bus);
            if port.is_some_and(|port| lock(port).as_port().is_some_and(|port| port.take_released())) {
                released.extend(topology.functions(bus).map(|(addr, _)| (bus, addr)));
            }
        }
        released
    }

    /// All functions, those nearest to the root first.
    pub(crate) fn functions(&self) -> Vec<SharedFunction> {
        let topology = self.read();
        let functions = topology.buses().flat_map(|bus| topology.functions(bus));
        functions
            .map(|(_, function)| Arc::clone(&function.device.function))
            .collect()
    }

    /// Brings what functions have mapped in line with their registers, after a reset.
    pub(crate) fn refresh(&self) {
        if let Some(board) = self.board.upgrade() {
            refresh_all(&self.read(), &board);
        }
    }

    /// All functions, bus by bus.
    pub(crate) fn view(&self) -> Vec<FunctionView> {
        view(&self.read(), BusId::ROOT)
    }

    /// The function on the root bus with this type, and its path in names of saved sections.
    pub(crate) fn on_root_bus(&self, type_name: &str) -> Option<(String, SharedFunction)> {
        let topology = self.read();
        let mut functions = topology.functions(BusId::ROOT);
        let (addr, found) = functions.find(|(_, function)| function.driver == type_name)?;
        Some((
            section_path(&topology, (BusId::ROOT, addr)),
            Arc::clone(&found.device.function),
        ))
    }

    /// The path of a place in names of saved sections.
    pub(crate) fn section_path(&self, place: Place) -> String {
        section_path(&self.read(), place)
    }

    /// The ports on the way to a place, from the root bus on, and the place itself.
    pub(crate) fn way_to(&self, place: Place) -> Vec<Devfn> {
        let topology = self.read();
        let mut way = vec![place.1];
        let mut here = place.0;
        while let Some((bus, devfn)) = topology.bridge_to(here) {
            way.insert(0, devfn);
            here = bus;
        }
        way
    }

    /// Buses behind ports.
    pub(crate) fn buses_behind_ports(&self) -> usize {
        self.read().buses().count() - 1
    }

    /// Shows what functions map after their configuration changed without the guest's doing.
    pub(crate) fn remap(&self) {
        if let Some(board) = self.board.upgrade() {
            refresh_all(&self.read(), &board);
        }
    }

    /// A guest's read from configuration space. Where there is no function, it reads as ones.
    pub(crate) fn config_read(&self, bus: u8, devfn: Devfn, at: u16, data: &mut [u8]) {
        let topology = self.read();
        match find(&topology, bus, devfn) {
            Some(slot) => lock(&slot.function).config_read(at, data),
            None => data.fill(0xff),
        }
    }

    /// A guest's write to configuration space.
    pub(crate) fn config_write(&self, bus: u8, devfn: Devfn, at: u16, data: &[u8]) {
        let (topology, board) = (self.read(), self.board.upgrade());
        let (Some(slot), Some(board)) = (find(&topology, bus, devfn), board) else {
            return;
        };
        {
            let mut function = lock(&slot.function);
            function.config_mut().write(at, data);
            function.config_written(at, data.len());
        }
        slot.refresh(&board);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Topology<Slot>> {
        self.topology.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Topology<Slot>> {
        self.topology.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn refresh(&self, board: &Board) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.refresh(&self.function, &board.map);
        if let Some(hook) = &self.hook {
            hook(board);
        }
    }
}

/// Slot and function at each bridge on the way from the root bus, whose number is the only one that shows.
fn section_path(topology: &Topology<Slot>, place: Place) -> String {
    match topology.bridge_to(place.0) {
        None => format!("0000:00:{}", place.1),
        Some(bridge) => format!("{}:{}", section_path(topology, bridge), place.1),
    }
}

fn refresh_all(topology: &Topology<Slot>, board: &Board) {
    for bus in topology.buses() {
        for (_, function) in topology.functions(bus) {
            function.device.refresh(board);
        }
    }
}

/// The function with this address: on the root bus, or behind the ports that the guest numbered so.
fn find(topology: &Topology<Slot>, bus: u8, devfn: Devfn) -> Option<&Slot> {
    let mut here = BusId::ROOT;
    let mut number = 0;
    while number != bus {
        let ports = topology.functions(here).filter(|(_, function)| function.device.is_port);
        let numbered = ports.filter_map(|(addr, port)| {
            let (secondary, subordinate) = lock(&port.device.function).as_port()?.bus_numbers();
            Some((addr, secondary, subordinate))
        });
        let next = numbered
            .into_iter()
            .find(|(_, secondary, subordinate)| *secondary > number && (*secondary..=*subordinate).contains(&bus));
        let (addr, secondary, _) = next?;
        here = topology.bus_behind((here, addr))?;
        number = secondary;
    }
    let slot = &topology.function((here, devfn))?.device;
    // The guest learns of a slot by its first function, and of the others with it.
    let is_hidden = slot.hotplugged && topology.function((here, Devfn::new(devfn.slot(), 0))).is_none();
    (!is_hidden).then_some(slot)
}

/// Numbers the buses behind the ports of a bus, from `next` on, and those behind them.
fn number_ports(topology: &Topology<Slot>, bus: BusId, next: &mut u32) {
    let mut functions: Vec<_> = topology.functions(bus).collect();
    functions.reverse();
    for (addr, function) in functions {
        let mut port = lock(&function.device.function);
        if let Some(port) = port.as_port().filter(|port| port.number().hotplug) {
            port.leave_to_acpi();
            // Ports are numbered once: none comes later.
            let _ = function.device.number.set(*next);
            *next += 1;
        }
        drop(port);
        if let Some(behind) = topology.bus_behind((bus, addr)) {
            number_ports(topology, behind, next);
        }
    }
}

fn slot_ports(topology: &Topology<Slot>, bus: BusId) -> Vec<SlotPort> {
    let ports = topology.functions(bus).filter(|(_, function)| function.device.is_port);
    ports
        .map(|(addr, port)| SlotPort {
            addr,
            number: port.device.number.get().copied(),
            behind: topology
                .bus_behind((bus, addr))
                .map(|behind| slot_ports(topology, behind))
                .unwrap_or_default(),
        })
        .collect()
}

/// The port that leads to a bus.
fn port_of(topology: &Topology<Slot>, bus: BusId) -> Option<&SharedFunction> {
    let bridge = topology.function(topology.bridge_to(bus)?)?;
    Some(&bridge.device.function).filter(|_| bridge.device.is_port)
}

fn view(topology: &Topology<Slot>, bus: BusId) -> Vec<FunctionView> {
    topology
        .functions(bus)
        .map(|(devfn, function)| FunctionView {
            devfn,
            id: function.id.clone(),
            config: lock(&function.device.function).config().clone(),
            behind: topology.bus_behind((bus, devfn)).map(|bus| view(topology, bus)),
        })
        .collect()
}

fn lock<'a>(function: &'a SharedFunction) -> MutexGuard<'a, dyn PciFunction + 'static> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
