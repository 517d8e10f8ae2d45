//! The root complex: which function answers which configuration access, and what its registers map.

mod access;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

pub(crate) use access::{ConfigPorts, MmConfig};
use windows::Windows;

use super::board::Board;
use crate::{
    devices::pci::{BarKind, ConfigSpace, PciFunction, RootPort},
    machine::pci::{BusId, Devfn, Placement, Topology},
    qapi::Error,
};

/// A function as the root complex shares it.
pub(crate) type SharedFunction = Arc<Mutex<dyn PciFunction>>;
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
    /// The same device, when it is a port.
    port: Option<Arc<Mutex<RootPort>>>,
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

    /// Puts a function into its place. `hook` is called whenever its configuration may have changed.
    pub(crate) fn insert(&self, place: Place, want: &Placement<'_>, function: SharedFunction, hook: Option<Hook>) {
        self.insert_slot(
            place,
            want,
            Slot {
                function,
                windows: Mutex::default(),
                hook,
                port: None,
            },
        );
    }

    /// Puts a port into its place, with the bus behind it, which has its id.
    pub(crate) fn insert_port(&self, place: Place, want: &Placement<'_>, port: Arc<Mutex<RootPort>>) {
        self.insert_slot(
            place,
            want,
            Slot {
                function: Arc::clone(&port) as SharedFunction,
                windows: Mutex::default(),
                hook: None,
                port: Some(port),
            },
        );
        self.write().add_link(want.id, place);
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
            Some(slot) => lock(&slot.function).config().read(at, data),
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

    fn insert_slot(&self, place: Place, want: &Placement<'_>, slot: Slot) {
        let mut topology = self.write();
        if let Some(bridge) = topology.bridge_to(place.0) {
            let port = topology.function(bridge).and_then(|bridge| bridge.device.port.as_ref());
            if let Some(port) = port {
                port.lock().unwrap_or_else(PoisonError::into_inner).set_occupied(true);
            }
        }
        topology.insert(place, want, slot);
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
        let ports = topology
            .functions(here)
            .filter_map(|(addr, function)| Some((addr, function.device.port.as_ref()?)));
        let numbered = ports.map(|(addr, port)| {
            let (secondary, subordinate) = port.lock().unwrap_or_else(PoisonError::into_inner).bus_numbers();
            (addr, secondary, subordinate)
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
