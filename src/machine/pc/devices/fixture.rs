//! The machine's own devices in the tree of objects, under QEMU's names.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, json};

use super::object::{DeviceObject, Origin, made};
use super::site::Wiring;
use crate::devices::SharedDevice;
use crate::devices::pci::Mch;
use crate::machine::guest::GuestObject;
use crate::machine::pci::Devfn;
use crate::qapi::Error;
use crate::qom::Object;
use crate::qom::tree::Simple;

/// Path of the host bridge, which has the root bus.
const HOST: &str = "/machine/q35";
/// Path of the bus of what is on no bus.
const SYSTEM_BUS: &str = "/machine/unattached/sysbus";
/// Devices between the last vCPU and the LPC bridge, and from that to the interrupt controllers, the timer and the serial
/// ports, as QEMU numbers those without a name: some of them are not here.
const TO_CONTROLLERS: u32 = 3;
const TO_TIMER: u32 = 5;
const TO_SERIAL: u32 = 7;

/// A device that the machine has by itself.
pub(super) struct Fixture {
    pub(super) path: String,
    /// The bus that it is on.
    pub(super) bus: &'static str,
    pub(super) object: Arc<dyn Object>,
    /// Its place, if that is on a PCI bus.
    pub(super) addr: Option<Devfn>,
}

/// What a device of the machine is, and where.
#[derive(Clone, Copy)]
pub(super) struct Fixed {
    pub(super) type_name: &'static str,
    pub(super) bus: &'static str,
    pub(super) addr: Option<Devfn>,
}

/// The paths of a machine's own objects.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    /// Number of the LPC bridge among what has no name.
    lpc: u32,
}

impl Numbers {
    /// In a machine that starts with so many vCPUs. QEMU has a device of each of two kinds beside them.
    pub(super) fn new(cpus: u32) -> Self {
        Self { lpc: cpus + 2 }
    }

    fn unnamed(self, further: u32) -> String {
        format!("/machine/unattached/device[{}]", self.lpc + further)
    }

    /// Path of a bus that machines have by themselves.
    pub(super) fn bus(self, name: &str) -> Option<String> {
        match name {
            "main-system-bus" => Some(SYSTEM_BUS.to_owned()),
            "pcie.0" => Some(format!("{HOST}/{name}")),
            "isa.0" => Some(format!("{}/{name}", self.unnamed(0))),
            _ => None,
        }
    }

    /// Path of a serial port of `-serial`, when there are `others`.
    pub(super) fn serial(self, others: usize) -> String {
        self.unnamed(TO_SERIAL + u32::try_from(others).unwrap_or(u32::MAX))
    }
}

/// What a machine has by itself, as far as it is not the same everywhere.
pub(super) struct Chipset {
    pub(super) mch: Arc<Mutex<Mch>>,
    pub(super) lpc: SharedDevice,
    pub(super) rtc: SharedDevice,
    pub(super) keyboard: Option<SharedDevice>,
    pub(super) port92: SharedDevice,
    /// Interrupt controllers and timer, when they are not in the kernel.
    pub(super) split: Option<([SharedDevice; 2], SharedDevice)>,
    /// Serial ports of `-serial`.
    pub(super) serials: usize,
}

impl Chipset {
    /// All of it.
    ///
    /// # Errors
    /// `-global` says something that one of them does not take.
    pub(super) fn fixtures(&self, wiring: &Wiring, numbers: Numbers) -> Result<Vec<Fixture>, Error> {
        let made = |type_name, bus, path, addr, device| {
            Fixture::new(wiring, numbers, Fixed { type_name, bus, addr }, path, device)
        };
        let (lpc, host) = (numbers.unnamed(0), Devfn::new(0, 0));
        let mch: SharedDevice = Arc::clone(&self.mch) as _;
        let mut all = vec![
            self.host_bridge(wiring)?,
            made("mch", "pcie.0", format!("{HOST}/mch"), Some(host), Some(&mch))?,
            made(
                "ICH9-LPC",
                "pcie.0",
                lpc.clone(),
                Some(Devfn::new(0x1f, 0)),
                Some(&self.lpc),
            )?,
            made("mc146818rtc", "isa.0", format!("{lpc}/rtc"), None, Some(&self.rtc))?,
        ];
        let (pic, ioapic, pit) = match &self.split {
            Some(([pics, ioapic], pit)) => {
                let ioapic = made(
                    "ioapic",
                    "main-system-bus",
                    format!("{HOST}/ioapic"),
                    None,
                    Some(ioapic),
                )?;
                ((Some(pics), "isa-i8259"), ioapic, ("isa-pit", Some(pit)))
            }
            None => {
                let ioapic = made("kvm-ioapic", "main-system-bus", format!("{HOST}/ioapic"), None, None)?;
                ((None, "kvm-i8259"), ioapic, ("kvm-pit", None))
            }
        };
        all.push(ioapic);
        for further in [TO_CONTROLLERS, TO_CONTROLLERS + 1] {
            all.push(made(pic.1, "isa.0", numbers.unnamed(further), None, pic.0)?);
        }
        all.push(made(pit.0, "isa.0", numbers.unnamed(TO_TIMER), None, pit.1)?);
        let after_serials = TO_SERIAL + u32::try_from(self.serials).unwrap_or(u32::MAX);
        let last = [("i8042", self.keyboard.as_ref()), ("port92", Some(&self.port92))];
        let there = last.into_iter().filter(|(_, device)| device.is_some());
        for (further, (type_name, device)) in (after_serials..).zip(there) {
            all.push(made(type_name, "isa.0", numbers.unnamed(further), None, device)?);
        }
        Ok(all)
    }

    /// The host bridge, which shows where configuration space is in memory.
    fn host_bridge(&self, wiring: &Wiring) -> Result<Fixture, Error> {
        let values = wiring.registry.values("q35-pcihost", &Map::new(), wiring.globals())?;
        let range = |mch: &Arc<Mutex<Mch>>| mch.lock().unwrap_or_else(PoisonError::into_inner).mmconfig();
        let (start, size) = (Arc::clone(&self.mch), Arc::clone(&self.mch));
        let object = made(
            &wiring.registry,
            "q35-pcihost",
            &values,
            Origin {
                id: None,
                parent_bus: SYSTEM_BUS,
                hotplugged: false,
                addr: None,
            },
        )
        // Where nobody has mapped it, QEMU shows all ones.
        .with_live("MCFG", "uint64", move || {
            json!(range(&start).map_or(u64::MAX, |range| range.start))
        })
        .with_live("mcfg_size", "uint64", move || {
            json!(range(&size).map_or(0, |range| range.end - range.start))
        });
        Ok(Fixture {
            path: HOST.to_owned(),
            bus: "main-system-bus",
            object: Arc::new(object),
            addr: None,
        })
    }
}

impl Fixture {
    /// A device with its object.
    ///
    /// # Errors
    /// `-global` says something that it does not take.
    pub(super) fn new(
        wiring: &Wiring,
        numbers: Numbers,
        fixed: Fixed,
        path: String,
        device: Option<&SharedDevice>,
    ) -> Result<Self, Error> {
        let Fixed { type_name, bus, addr } = fixed;
        let registry = &wiring.registry;
        let values = registry.values(type_name, &Map::new(), wiring.globals())?;
        let parent_bus = numbers.bus(bus).unwrap_or_default();
        let origin = Origin {
            id: None,
            parent_bus: &parent_bus,
            hotplugged: false,
            addr: addr.map(Devfn::byte),
        };
        let object: Arc<dyn Object> = match device {
            Some(device) => Arc::new(DeviceObject::new(registry, type_name, &values, origin, device)),
            None => Arc::new(made(registry, type_name, &values, origin)),
        };
        Ok(Self {
            path,
            bus,
            object,
            addr,
        })
    }

    /// What the tree of objects gets.
    pub(super) fn shown(&self) -> GuestObject {
        GuestObject {
            path: self.path.clone(),
            object: Arc::clone(&self.object),
        }
    }
}

/// The machine's own buses.
pub(super) fn buses(numbers: Numbers) -> impl Iterator<Item = GuestObject> {
    let kinds = [("main-system-bus", "System"), ("pcie.0", "PCIE"), ("isa.0", "ISA")];
    kinds.into_iter().filter_map(move |(name, kind)| {
        Some(GuestObject {
            path: numbers.bus(name)?,
            object: bus(kind),
        })
    })
}

/// A bus of this type.
pub(super) fn bus(kind: &str) -> Arc<dyn Object> {
    Arc::new(Simple::new(kind).with("realized", "bool", json!(true)))
}
