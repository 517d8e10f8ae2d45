//! The root complex: which function answers which configuration access, and what its registers map.

mod access;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

pub(crate) use access::{ConfigPorts, MmConfig};
use windows::Windows;

use super::board::Board;
use crate::{
    devices::pci::{BarKind, ConfigSpace, PciFunction, SharedFunction},
    machine::pci::{BusId, Devfn, Placement, Topology},
    qapi::Error,
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
    pub(crate) fn place(&self, want: &Placement<'_>) -> Result<Place, Error> {
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

    /// Puts a function into its place; behind a port there is a bus, which has the port's id. `hook` is called whenever its
    /// configuration may have changed.
    pub(crate) fn insert(&self, place: Place, want: &Placement<'_>, function: SharedFunction, hook: Option<Hook>) {
        let is_port = lock(&function).as_port().is_some();
        let slot = Slot {
            function,
            windows: Mutex::default(),
            hook,
            is_port,
        };
        let mut topology = self.write();
        if let Some(bridge) = topology.bridge_to(place.0).and_then(|bridge| topology.function(bridge)) {
            if let Some(port) = lock(&bridge.device.function).as_port() {
                port.set_occupied(true);
            }
        }
        topology.insert(place, want, slot);
        if is_port {
            topology.add_link(want.id, place);
        }
    }

    /// Returns all functions to the state after power-on, and their mappings with them.
    pub(crate) fn reset(&self) {
        let Some(board) = self.board.upgrade() else { return };
        let topology = self.read();
        for bus in topology.buses() {
            for (_, function) in topology.functions(bus) {
                lock(&function.device.function).reset();
            }
        }
        refresh_all(&topology, &board);
    }

    /// All functions, bus by bus.
    pub(crate) fn view(&self) -> Vec<FunctionView> {
        view(&self.read(), BusId::ROOT)
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
    topology.function((here, devfn)).map(|function| &function.device)
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
