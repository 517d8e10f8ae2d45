//! PCI hot plug by ACPI, as the guest sees it: each port whose slot devices may come into and go from, and the event by which it
//! hears of both.

use acpi_tables::aml::{
    Acquire, And, Arg, Device, Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, If, Local, Method,
    MethodCall, Mutex, Name, Notify, OpRegion, OpRegionSpace, Path, Release, Return, Scope, ShiftLeft, Store,
};

use super::aml_bytes;
use super::dsdt::Raw;
use crate::devices::pm::Pm;
use crate::machine::pci::Devfn;

/// A port, and the ports behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotPort {
    /// Its place on its bus.
    pub(crate) addr: Devfn,
    /// The number by which the registers know the bus behind it; none where nothing comes or goes.
    pub(crate) number: Option<u32>,
    /// The ports behind it.
    pub(crate) behind: Vec<SlotPort>,
}

/// Where the host bridge is.
const HOST: &str = "\\_SB_.PCI0";
/// What a slot is told: look for what came; let go.
const CHECK: u8 = 1;
const EJECT: u8 = 3;
/// A mutex is waited for without end.
const FOR_EVER: u16 = 0xffff;

/// What belongs below the host bridge: the registers, and the ports on the root bus.
pub(super) fn below_host(ports: &[SlotPort]) -> Vec<u8> {
    let mut all = registers();
    for port in ports {
        all.extend(port.device(HOST));
    }
    all.extend(scan(HOST, None, ports));
    all
}

/// The handler of the event.
pub(super) fn event() -> Vec<u8> {
    let lock = || Path::new(&format!("{HOST}.BLCK"));
    let scan = Path::new(&format!("{HOST}.PCNT"));
    let body = Raw(aml_bytes(&[
        &Acquire::new(lock(), FOR_EVER),
        &MethodCall::new(scan, vec![]),
        &Release::new(lock()),
    ]));
    let handler = Method::new("_E01".into(), 0, false, vec![&body]);
    aml_bytes(&[&Scope::new("\\_GPE".into(), vec![&handler])])
}

/// The registers, and how to let the device in a slot go.
fn registers() -> Vec<u8> {
    let port = |offset: u16| Pm::HOTPLUG_PORT + offset;
    let region = |name: &str, offset: u16, fields: [&[u8; 4]; 2]| {
        let fields = fields.map(|field| FieldEntry::Named(*field, 32));
        aml_bytes(&[
            &OpRegion::new(name.into(), OpRegionSpace::SystemIO, &port(offset), &8_u8),
            &Field::new(
                name.into(),
                FieldAccessType::DWord,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                fields.into(),
            ),
        ])
    };
    let (number, eject) = (Path::new("BNUM"), Path::new("B0EJ"));
    let body = Raw(aml_bytes(&[
        &Acquire::new("BLCK".into(), FOR_EVER),
        &Store::new(&number, &Arg(0)),
        &ShiftLeft::new(&Local(0), &1_u8, &Arg(1)),
        &Store::new(&eject, &Local(0)),
        &Release::new("BLCK".into()),
        &Return::new(&0_u8),
    ]));
    let let_go = Method::new("PCEJ".into(), 2, false, vec![&body]);
    [
        region("PCST", 0x00, [b"PCIU", b"PCID"]),
        region("SEJ_", 0x08, [b"B0EJ", b"RMV_"]),
        region("BNMR", 0x10, [b"BNUM", b"PIDX"]),
        aml_bytes(&[&Mutex::new("BLCK".into(), 0), &let_go]),
    ]
    .concat()
}

/// `PCNT`: tells the slot of this bus, if it has one, what has changed, and then those of the ports on it.
fn scan(path: &str, number: Option<u32>, ports: &[SlotPort]) -> Vec<u8> {
    let (select, came, go) = (Path::new("BNUM"), Path::new("PCIU"), Path::new("PCID"));
    let own = number.map(|number| {
        let tell_came = MethodCall::new("DVNT".into(), vec![&came, &CHECK]);
        let tell_go = MethodCall::new("DVNT".into(), vec![&go, &EJECT]);
        aml_bytes(&[&Store::new(&select, &number), &tell_came, &tell_go])
    });
    let further = ports.iter().map(|port| {
        let scan = Path::new(&format!("{path}.{}.PCNT", port.name()));
        aml_bytes(&[&MethodCall::new(scan, vec![])])
    });
    let body = Raw(own.into_iter().chain(further).collect::<Vec<_>>().concat());
    aml_bytes(&[&Method::new("PCNT".into(), 0, false, vec![&body])])
}

impl SlotPort {
    fn name(&self) -> String {
        format!("S{:02X}_", self.addr.byte())
    }

    /// The port's device, which is below the one at `parent`. The bus behind it has one slot.
    fn device(&self, parent: &str) -> Vec<u8> {
        let path = format!("{parent}.{}", self.name());
        let addr = u32::from(self.addr.slot()) << 16 | u32::from(self.addr.function());
        let mut body = aml_bytes(&[&Name::new("_ADR".into(), &addr)]);
        // A port in the slot stays there.
        let is_taken = self.behind.iter().any(|port| port.addr.slot() == 0);
        let number = self.number.filter(|_| !is_taken);
        body.extend(number.into_iter().flat_map(slot));
        for port in &self.behind {
            body.extend(port.device(&path));
        }
        body.extend(scan(&path, number, &self.behind));
        let body = Raw(body);
        aml_bytes(&[&Device::new(self.name().as_str().into(), vec![&body])])
    }
}

/// The slot of a bus with this number: a device that can be let go, and the method that tells it of changes.
fn slot(number: u32) -> Vec<u8> {
    let (bus, sun, notified) = (Path::new("BSEL"), Path::new("_SUN"), Path::new("S00_"));
    let eject = MethodCall::new("PCEJ".into(), vec![&bus, &sun]);
    let let_go = Method::new("_EJ0".into(), 1, false, vec![&eject]);
    let addr = Name::new("_ADR".into(), &0_u8);
    let user_number = Name::new("_SUN".into(), &0_u8);
    let occupant = Device::new("S00_".into(), vec![&addr, &user_number, &let_go]);
    let concerned = And::new(&Local(0), &Arg(0), &1_u8);
    let notify = Notify::new(&notified, &Arg(1));
    let tell = If::new(&concerned, vec![&notify]);
    let notifier = Method::new("DVNT".into(), 2, false, vec![&tell]);
    aml_bytes(&[&Name::new("BSEL".into(), &number), &occupant, &notifier])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_there_and_those_without_hot_plug_have_no_slot() {
        let inner = SlotPort {
            addr: Devfn::new(0, 0),
            number: Some(0),
            behind: Vec::new(),
        };
        let ports = [
            SlotPort {
                addr: Devfn::new(2, 1),
                number: Some(1),
                behind: vec![inner],
            },
            SlotPort {
                addr: Devfn::new(3, 0),
                number: None,
                behind: Vec::new(),
            },
        ];
        let aml = below_host(&ports);
        let count = |name: &[u8]| aml.windows(name.len()).filter(|window| *window == name).count();
        // The inner port is in the outer one's slot, which so has nothing to let go; all are named where they are called.
        assert_eq!((count(b"\x08BSEL"), count(b"_EJ0"), count(b"PCEJ")), (1, 1, 2));
        assert_eq!((count(b"S11_"), count(b"S18_")), (3, 2));
        let event = event();
        assert!(event.windows(4).any(|window| window == b"_E01"));
    }
}
