//! Buses and the functions on them.

use std::collections::BTreeMap;

use super::Devfn;
use super::error::PlaceError;

/// Number of a bus in its [`Topology`]; not the number the guest gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusId(usize);

impl BusId {
    /// The root bus.
    pub const ROOT: Self = Self(0);
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// QOM type name of the device.
    pub driver: &'a str,
    /// Its id.
    pub id: Option<&'a str>,
    /// Name of the bus; any with room when it is not given.
    pub bus: Option<&'a str>,
    /// Place on the bus; the first free slot when it is not given.
    pub addr: Option<Devfn>,
    /// Whether the slot may hold other functions.
    pub multifunction: bool,
    /// Whether the guest is there already: functions that come to a slot after its first one would not be seen.
    pub hotplugged: bool,
}

/// A function in its place.
#[derive(Debug)]
pub struct Function<T> {
    /// QOM type name of the device.
    pub driver: String,
    /// Its id.
    pub id: Option<String>,
    /// Whether the slot may hold other functions.
    pub multifunction: bool,
    /// The device.
    pub device: T,
}

/// A tree of buses, from the root complex down.
#[derive(Debug)]
pub struct Topology<T> {
    buses: Vec<Bus<T>>,
}

#[derive(Debug)]
struct Bus<T> {
    name: String,
    /// The bridge that leads here; none for the root bus.
    bridge: Option<(BusId, Devfn)>,
    /// A link: there is only slot 0.
    link: bool,
    functions: BTreeMap<Devfn, Function<T>>,
}

impl<T> Topology<T> {
    /// A root bus of this name with nothing on it.
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self {
            buses: vec![Bus {
                name: root.to_owned(),
                bridge: None,
                link: false,
                functions: BTreeMap::new(),
            }],
        }
    }

    /// Finds a place.
    ///
    /// # Errors
    /// When there is no such bus or the place is taken or not allowed.
    pub fn place(&self, want: &Placement<'_>) -> Result<(BusId, Devfn), PlaceError> {
        let bus_id = match want.bus {
            Some(name) => self.bus_named(name).ok_or_else(|| PlaceError::NoBus(name.to_owned()))?,
            None => BusId::ROOT,
        };
        let bus = &self.buses[bus_id.0];
        let addr = match want.addr {
            Some(addr) => addr,
            None => bus
                .free_slot()
                .ok_or_else(|| PlaceError::NoSlot(want.driver.to_owned()))?,
        };
        bus.check(addr, want)?;
        Ok((bus_id, addr))
    }

    /// Puts a function into a place that [`Topology::place`] found.
    pub fn insert(&mut self, (bus, addr): (BusId, Devfn), want: &Placement<'_>, device: T) {
        let function = Function {
            driver: want.driver.to_owned(),
            id: want.id.map(str::to_owned),
            multifunction: want.multifunction,
            device,
        };
        self.buses[bus.0].functions.insert(addr, function);
    }

    /// Takes the function in a place out.
    pub fn remove(&mut self, (bus, addr): (BusId, Devfn)) -> Option<Function<T>> {
        self.buses[bus.0].functions.remove(&addr)
    }

    /// Whether a bus is the link of a port, which has one slot.
    #[must_use]
    pub fn is_link(&self, bus: BusId) -> bool {
        self.buses[bus.0].link
    }

    /// Adds the bus behind the PCI Express port at `bridge`. It has the port's id for a name, or the next free `pcie.N`.
    pub fn add_link(&mut self, id: Option<&str>, bridge: (BusId, Devfn)) -> BusId {
        let numbered = (1..).map(|number| format!("pcie.{number}"));
        let name = match id {
            Some(id) => Some(id.to_owned()),
            None => numbered.into_iter().find(|name| self.bus_named(name).is_none()),
        };
        self.buses.push(Bus {
            name: name.unwrap_or_default(),
            bridge: Some(bridge),
            link: true,
            functions: BTreeMap::new(),
        });
        BusId(self.buses.len() - 1)
    }

    /// The bus of this name.
    #[must_use]
    pub fn bus_named(&self, name: &str) -> Option<BusId> {
        self.buses.iter().position(|bus| bus.name == name).map(BusId)
    }

    /// The name of a bus.
    #[must_use]
    pub fn bus_name(&self, bus: BusId) -> &str {
        &self.buses[bus.0].name
    }

    /// The bridge that leads to a bus.
    #[must_use]
    pub fn bridge_to(&self, bus: BusId) -> Option<(BusId, Devfn)> {
        self.buses[bus.0].bridge
    }

    /// The bus behind the bridge in a place.
    #[must_use]
    pub fn bus_behind(&self, bridge: (BusId, Devfn)) -> Option<BusId> {
        self.buses.iter().position(|bus| bus.bridge == Some(bridge)).map(BusId)
    }

    /// What to tell the user about a place that a guest need not look at: there is only slot 0 behind a port.
    #[must_use]
    pub fn doubt(&self, (bus, addr): (BusId, Devfn), driver: &str) -> Option<String> {
        let slot = addr.slot();
        (self.buses[bus.0].link && slot != 0).then(|| {
            format!("PCI: slot {slot} is not valid for {driver}, parent device only allows plugging into slot 0.")
        })
    }

    /// The function in a place.
    #[must_use]
    pub fn function(&self, (bus, addr): (BusId, Devfn)) -> Option<&Function<T>> {
        self.buses[bus.0].functions.get(&addr)
    }

    /// The functions on a bus.
    pub fn functions(&self, bus: BusId) -> impl Iterator<Item = (Devfn, &Function<T>)> {
        self.buses[bus.0]
            .functions
            .iter()
            .map(|(addr, function)| (*addr, function))
    }

    /// All buses.
    pub fn buses(&self) -> impl Iterator<Item = BusId> + use<T> {
        (0..self.buses.len()).map(BusId)
    }

    /// Which slot and pin of the root bus an interrupt pin (0 for INTA#) of a function reaches: every bridge turns the
    /// pins by the slot (PCI-to-PCI Bridge Architecture Specification 9.1).
    #[must_use]
    pub fn root_pin(&self, (mut bus, mut addr): (BusId, Devfn), mut pin: u8) -> (u8, u8) {
        while let Some((parent, bridge)) = self.bridge_to(bus) {
            pin = (pin + addr.slot()) % 4;
            (bus, addr) = (parent, bridge);
        }
        (addr.slot(), pin)
    }
}

impl<T> Bus<T> {
    fn free_slot(&self) -> Option<Devfn> {
        let used = |slot: u8| self.functions.keys().any(|addr| addr.slot() == slot);
        (0..32).find(|slot| !used(*slot)).map(|slot| Devfn::new(slot, 0))
    }

    /// The function that stands for the whole slot, if the bus is a link.
    fn first_in_link(&self) -> Option<&Function<T>> {
        self.functions.get(&Devfn::new(0, 0)).filter(|_| self.link)
    }

    fn check(&self, addr: Devfn, want: &Placement<'_>) -> Result<(), PlaceError> {
        let (slot, function) = (addr.slot(), addr.function());
        if let Some(other) = self.functions.get(&addr) {
            return Err(PlaceError::Taken {
                slot,
                function,
                driver: want.driver.to_owned(),
                by: other.driver.clone(),
                id: other.id.clone().unwrap_or_default(),
            });
        }
        if let Some(first) = self.first_in_link().filter(|_| want.hotplugged) {
            return Err(PlaceError::Hidden {
                by: first.driver.clone(),
                driver: want.driver.to_owned(),
            });
        }
        let first = self.functions.get(&Devfn::new(slot, 0));
        if function != 0 && first.is_some_and(|first| !first.multifunction) {
            return Err(PlaceError::BesideSingle { slot, function });
        }
        let others = (1..8).map(|function| Devfn::new(slot, function));
        let other = others.into_iter().find(|other| self.functions.contains_key(other));
        match other {
            Some(other) if function == 0 && !want.multifunction => Err(PlaceError::SingleAmongOthers {
                slot,
                other: other.function(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want<'a>(bus: Option<&'a str>, addr: Option<&str>, multifunction: bool) -> Placement<'a> {
        Placement {
            driver: "pcie-root-port",
            id: Some("pci.1"),
            bus,
            addr: addr.map(|addr| Devfn::parse(addr).unwrap()),
            multifunction,
            hotplugged: false,
        }
    }

    fn topology() -> Topology<()> {
        let mut topology = Topology::new("pcie.0");
        let host = Placement {
            driver: "mch",
            id: None,
            ..want(None, Some("0"), false)
        };
        topology.insert((BusId::ROOT, Devfn::new(0, 0)), &host, ());
        topology
    }

    fn desc(result: Result<(BusId, Devfn), PlaceError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn ports_share_a_slot_when_the_first_function_allows_it() {
        let mut topology = topology();
        for (addr, multifunction) in [("2.0", true), ("2.1", false), ("3.0", false)] {
            let want = want(Some("pcie.0"), Some(addr), multifunction);
            let place = topology.place(&want).unwrap();
            topology.insert(place, &want, ());
        }
        assert_eq!(
            desc(topology.place(&want(Some("pcie.0"), Some("2.1"), false))),
            "PCI: slot 2 function 1 not available for pcie-root-port, in use by pcie-root-port,id=pci.1"
        );
        assert_eq!(
            desc(topology.place(&want(None, Some("3.1"), false))),
            "PCI: single function device can't be populated in function 3.1"
        );
    }

    #[test]
    fn a_slot_with_more_functions_needs_a_multifunction_first_one() {
        let mut topology = topology();
        let second = want(None, Some("4.2"), false);
        topology.insert(topology.place(&second).unwrap(), &second, ());
        assert_eq!(
            desc(topology.place(&want(None, Some("4.0"), false))),
            "PCI: 4.0 indicates single function, but 4.2 is already populated."
        );
        assert!(topology.place(&want(None, Some("4.0"), true)).is_ok());
    }

    #[test]
    fn a_port_leads_to_one_slot() {
        let mut topology = topology();
        let port = want(None, None, false);
        let place = topology.place(&port).unwrap();
        assert_eq!(place.1, Devfn::new(1, 0));
        topology.insert(place, &port, ());
        let link = topology.add_link(Some("pci.1"), place);
        assert_eq!(
            topology.place(&want(Some("pci.1"), None, false)).unwrap(),
            (link, Devfn::new(0, 0))
        );
        let odd = topology.place(&want(Some("pci.1"), Some("1"), false)).unwrap();
        assert_eq!(
            topology.doubt(odd, "pcie-root-port").unwrap(),
            "PCI: slot 1 is not valid for pcie-root-port, parent device only allows plugging into slot 0."
        );
        assert_eq!(topology.doubt((link, Devfn::new(0, 1)), "pcie-root-port"), None);
        assert_eq!(topology.doubt(place, "pcie-root-port"), None);
        assert_eq!(
            desc(topology.place(&want(Some("pci.9"), None, false))),
            "Bus 'pci.9' not found"
        );
        assert_eq!(topology.root_pin((link, Devfn::new(0, 0)), 1), (1, 1));
        assert_eq!(topology.bus_behind(place), Some(link));
    }

    #[test]
    fn what_comes_later_is_not_hidden_behind_the_first() {
        let mut topology = topology();
        let port = want(None, None, false);
        let place = topology.place(&port).unwrap();
        topology.insert(place, &port, ());
        topology.add_link(Some("pci.1"), place);
        let later = |addr| Placement {
            hotplugged: true,
            ..want(Some("pci.1"), addr, false)
        };
        let first = topology.place(&later(None)).unwrap();
        topology.insert(first, &later(None), ());
        for addr in [None, Some("1"), Some("0.1")] {
            let expected = "PCI: slot 0 function 0 already occupied by pcie-root-port, new func pcie-root-port cannot be \
                            exposed to guest.";
            assert_eq!(desc(topology.place(&later(addr))), expected, "{addr:?}");
        }
        assert_eq!(
            desc(topology.place(&later(Some("0")))),
            "PCI: slot 0 function 0 not available for pcie-root-port, in use by pcie-root-port,id=pci.1"
        );
        assert!(topology.remove(first).is_some());
        assert_eq!(topology.place(&later(None)).unwrap(), first);
    }

    #[test]
    fn a_full_bus_is_said_to_be_full() {
        let mut topology = topology();
        for _ in 1..32 {
            let want = want(None, None, false);
            topology.insert(topology.place(&want).unwrap(), &want, ());
        }
        assert_eq!(
            desc(topology.place(&want(None, None, false))),
            "PCI: no slot/function available for pcie-root-port, all in use or reserved"
        );
    }
}
