//! Devices that come and go, on guests that this machine's KVM runs.

use serde_json::{Map, Value, json};

use crate::devices::Notice;
use crate::machine::chardevs::Chardevs;
use crate::machine::config::Global;
use crate::machine::guest::{GuestObject, RemovedDevice};
use crate::machine::pc::testing::{config, notices, skip_without_kvm};
use crate::machine::pc::{Resources, Vm};
use crate::qom::Object;

/// Offsets in the PCI Express capability.
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
/// Slot control: power is on, the power indicator as well; the attention indicator is off.
const POWER_ON: u16 = 1 << 8 | 3 << 6;
/// The same with everything off.
const POWER_OFF: u16 = 1 << 10 | 3 << 8 | 3 << 6;
/// Slot status: the button was pressed; there is a device.
const BUTTON: u16 = 1;
const PRESENT: u16 = 1 << 6;
/// The port's slot on the root bus, and the number the guest gives the bus behind it.
const PORT: u32 = 5;
const BUS: u32 = 1;

fn entry(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

struct Bench {
    vm: Vm,
    notices: std::sync::mpsc::Receiver<Notice>,
}

impl Bench {
    /// A paused guest with a port `rp`, one whose slot is fixed (`fixed`) and these devices.
    fn new(devices: &[Value]) -> Self {
        Self::with(devices, true)
    }

    /// The same, where devices come by ACPI or by the port's registers.
    fn with(devices: &[Value], by_acpi: bool) -> Self {
        let mut config = config();
        config.globals.push(Global {
            driver: "ICH9-LPC".into(),
            property: "acpi-pci-hotplug-with-bridge-support".into(),
            value: if by_acpi { "on" } else { "off" }.into(),
        });
        let ports = [
            json!({"driver": "pcie-root-port", "id": "rp", "chassis": 1, "addr": "5"}),
            json!({"driver": "pcie-root-port", "id": "fixed", "chassis": 2, "hotplug": false}),
        ];
        config.devices = ports.iter().chain(devices).map(entry).collect();
        let (notifier, notices) = notices();
        let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
        let bench = Self { vm, notices };
        // Bus numbers of the port: primary, secondary, subordinate.
        bench.write(0, PORT << 3, 0x18, &[0, 1, 1]);
        bench
    }

    fn plug(&self, value: &Value) -> Result<Vec<GuestObject>, String> {
        self.vm
            .plug(&entry(value), Chardevs::default())
            .map_err(|error| error.desc)
    }

    fn unplug(&self, id: &str) -> Result<Vec<RemovedDevice>, String> {
        self.vm
            .unplug(&format!("/machine/peripheral/{id}"))
            .map_err(|error| error.desc)
    }

    fn write(&self, bus: u32, devfn: u32, at: u16, data: &[u8]) {
        for (byte, at) in data.iter().zip(u32::from(at)..) {
            let address = 1 << 31 | bus << 16 | devfn << 8 | at & 0xfc;
            self.vm.port_write(0xcf8, &address.to_le_bytes());
            let lane = u16::try_from(at & 3).unwrap();
            self.vm.port_write(0xcfc + lane, &[*byte]);
        }
    }

    fn read(&self, bus: u32, devfn: u32, at: u16) -> u16 {
        let address = 1 << 31 | bus << 16 | devfn << 8 | u32::from(at & 0xfc);
        self.vm.port_write(0xcf8, &address.to_le_bytes());
        let mut data = [0; 2];
        self.vm.port_read(0xcfc + (at & 2), &mut data);
        u16::from_le_bytes(data)
    }

    /// A register of the port's PCI Express capability.
    fn express(&self, register: u16) -> u16 {
        let mut at = self.read(0, PORT << 3, 0x34) & 0xff;
        while self.read(0, PORT << 3, at) & 0xff != 0x10 {
            at = self.read(0, PORT << 3, at) >> 8;
            assert_ne!(at, 0, "no PCI Express capability");
        }
        at + register
    }

    fn slot_status(&self) -> u16 {
        self.read(0, PORT << 3, self.express(SLOT_STATUS))
    }

    fn control_slot(&self, control: u16) {
        self.write(0, PORT << 3, self.express(SLOT_CONTROL), &control.to_le_bytes());
    }

    /// Gives the endpoint behind the port its ports at 0xc000.
    fn map_endpoint(&self) {
        self.write(BUS, 0, 0x10, &0xc000_u32.to_le_bytes());
        self.write(BUS, 0, 4, &[1, 0]);
    }

    fn object(&self, path: &str) -> Option<std::sync::Arc<dyn Object>> {
        let objects = self.vm.objects().into_iter();
        objects
            .filter(|shown| shown.path == path)
            .map(|shown| shown.object)
            .next()
    }

    fn get(&self, path: &str, property: &str) -> Value {
        self.object(path).expect(path).get(property).unwrap()
    }
}

fn removed(id: &str) -> Vec<RemovedDevice> {
    let path = format!("/machine/peripheral/{id}");
    vec![RemovedDevice {
        id: Some(id.to_owned()),
        parts: vec![format!("{path}/backend")],
        path,
    }]
}

const E1: &str = "/machine/peripheral/e1";

#[test]
fn a_device_comes_and_goes_as_the_guest_allows() {
    if skip_without_kvm("a_device_comes_and_goes_as_the_guest_allows") {
        return;
    }
    let bench = Bench::with(&[], false);
    for round in 0..2 {
        assert_eq!(bench.slot_status() & PRESENT, 0);
        let shown = bench
            .plug(&json!({"driver": "test-endpoint", "id": "e1", "bus": "rp", "answer": 7}))
            .unwrap();
        let paths: Vec<_> = shown.iter().map(|shown| shown.path.as_str()).collect();
        assert_eq!(paths, [E1, "/machine/peripheral/e1/backend"], "round {round}");
        assert_eq!(bench.slot_status() & (PRESENT | BUTTON), PRESENT | BUTTON);
        assert_eq!(bench.read(BUS, 0, 0), 0x1234);
        assert_eq!(bench.get(E1, "hotplugged"), true);
        assert_eq!(bench.get(E1, "parent_bus"), "/machine/peripheral/rp/rp");
        // The guest switches the slot on, and sees the button pressed when it shall let the device go.
        bench.control_slot(POWER_ON);
        bench.write(0, PORT << 3, bench.express(SLOT_STATUS), &[0x1f, 1]);
        assert_eq!(bench.unplug("e1"), Ok(Vec::new()));
        assert_eq!(bench.slot_status() & BUTTON, BUTTON);
        assert_eq!(
            bench.unplug("e1").unwrap_err(),
            "Device e1 is already in the process of unplug"
        );
        assert_eq!(bench.vm.take_released(), []);
        bench.control_slot(POWER_OFF);
        assert_eq!(bench.notices.try_recv(), Ok(Notice::SlotReleased));
        assert_eq!(bench.vm.take_released(), removed("e1"));
        assert_eq!(bench.read(BUS, 0, 0), 0xffff);
        assert!(bench.object(E1).is_none());
    }
    assert_eq!(bench.vm.take_released(), []);
}

#[test]
fn a_slot_without_power_lets_go_at_once_and_a_reset_ends_all_waiting() {
    if skip_without_kvm("a_slot_without_power_lets_go_at_once_and_a_reset_ends_all_waiting") {
        return;
    }
    let bench = Bench::with(&[json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"})], false);
    // What is there from the start has power.
    assert_eq!(bench.unplug("e1"), Ok(Vec::new()));
    assert_eq!(bench.vm.finish_unplugs(), removed("e1"));
    assert_eq!(bench.vm.finish_unplugs(), []);
    bench.vm.reset().unwrap();
    bench
        .plug(&json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"}))
        .unwrap();
    assert_eq!(bench.unplug("e1"), Ok(removed("e1")));
}

#[test]
fn functions_of_a_slot_show_with_its_first_one() {
    if skip_without_kvm("functions_of_a_slot_show_with_its_first_one") {
        return;
    }
    let bench = Bench::with(&[], false);
    let endpoint = |id: &str, addr: &str, multifunction: bool| json!({"driver": "test-endpoint", "id": id, "bus": "rp", "addr": addr, "multifunction": multifunction});
    bench.plug(&endpoint("e1", "0.1", false)).unwrap();
    assert_eq!((bench.read(BUS, 1, 0), bench.slot_status() & PRESENT), (0xffff, 0));
    // Nobody has seen it: it goes at once.
    assert_eq!(bench.unplug("e1"), Ok(removed("e1")));
    bench.plug(&endpoint("e1", "0.1", false)).unwrap();
    assert_eq!(
        bench.plug(&endpoint("e0", "0", false)).map(|_| ()).unwrap_err(),
        "PCI: 0.0 indicates single function, but 0.1 is already populated."
    );
    bench.plug(&endpoint("e0", "0", true)).unwrap();
    assert_eq!((bench.read(BUS, 0, 0), bench.read(BUS, 1, 0)), (0x1234, 0x1234));
    bench.control_slot(POWER_ON);
    assert_eq!(bench.unplug("e0"), Ok(Vec::new()));
    bench.control_slot(POWER_OFF);
    let gone = bench.vm.take_released();
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert_eq!(bench.slot_status() & PRESENT, 0);
}

#[test]
fn what_cannot_be_plugged_in_is_refused_and_leaves_nothing() {
    if skip_without_kvm("what_cannot_be_plugged_in_is_refused_and_leaves_nothing") {
        return;
    }
    let bench = Bench::new(&[json!({"driver": "test-endpoint", "id": "cold"})]);
    let before = bench.vm.objects().len();
    for (entry, complaint) in [
        (
            json!({"driver": "test-endpoint"}),
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            json!({"driver": "test-endpoint", "bus": "fixed"}),
            "Bus 'fixed' does not support hotplugging",
        ),
        (
            json!({"driver": "test-endpoint", "bus": "isa.0"}),
            "Device 'test-endpoint' can't go on ISA bus",
        ),
        (
            json!({"driver": "test-endpoint", "bus": "nobus"}),
            "Bus 'nobus' not found",
        ),
        (
            json!({"driver": "pcie-root-port", "bus": "rp"}),
            "Device 'pcie-root-port' does not support hotplugging",
        ),
        (
            json!({"driver": "ICH9-LPC", "bus": "rp"}),
            "Parameter 'driver' expects a pluggable device type",
        ),
        (
            json!({"driver": "test-endpoint", "id": "cold", "bus": "rp"}),
            "Duplicate device ID 'cold'",
        ),
        (
            json!({"driver": "test-endpoint", "id": "1 x", "bus": "rp"}),
            "Invalid qdev ID '1 x'",
        ),
        (
            json!({"driver": "test-endpoint", "bus": "rp", "bogus": 1}),
            "Property 'test-endpoint.bogus' not found",
        ),
        (
            json!({"driver": "test-endpoint", "bus": "rp", "addr": "zz"}),
            "Property 'test-endpoint.addr' doesn't take value 'zz'",
        ),
        (
            json!({"driver": "test-endpoint", "id": "e1", "bus": "rp", "fails": true}),
            "it was to fail",
        ),
    ] {
        let refusal = bench.plug(&entry).map(|_| ()).unwrap_err();
        assert_eq!(refusal, complaint, "{entry}");
        assert_eq!(bench.vm.objects().len(), before, "{entry}");
    }
    for (path, bus) in [
        ("/machine/peripheral/cold", "pcie.0"),
        ("/machine/peripheral/rp", "pcie.0"),
        ("/machine/q35/mch", "pcie.0"),
        ("/machine/fw_cfg", "main-system-bus"),
    ] {
        let refusal = bench.vm.unplug(path).unwrap_err().desc;
        assert_eq!(refusal, format!("Bus '{bus}' does not support hotplugging"), "{path}");
    }
    bench
        .plug(&json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"}))
        .unwrap();
}

#[test]
fn objects_show_the_living_device() {
    if skip_without_kvm("objects_show_the_living_device") {
        return;
    }
    let bench = Bench::new(&[json!({"driver": "test-endpoint", "id": "e1", "bus": "rp", "answer": 7})]);
    bench.map_endpoint();
    bench.vm.port_write(0xc003, &[0x5a]);
    assert_eq!(
        (bench.get(E1, "written"), bench.get(E1, "addr")),
        (json!(0x5a), json!(0))
    );
    let object = bench.object(E1).unwrap();
    object.set("answer", &json!(9)).unwrap();
    let mut byte = [0];
    bench.vm.port_read(0xc000, &mut byte);
    assert_eq!((byte, bench.get(E1, "answer")), ([9], json!(9)));
    for (property, value, complaint) in [
        ("answer", json!(256), "answer expects a byte"),
        (
            "fails",
            json!(true),
            "Attempt to set property 'fails' on device 'e1' (type 'test-endpoint') after it was realized",
        ),
        ("nosuch", json!(1), "Property 'test-endpoint.nosuch' not found"),
    ] {
        assert_eq!(object.set(property, &value).unwrap_err().desc, complaint);
    }
    // The chipset: firmware moves configuration space and the power management ports, and the clock goes on.
    assert_eq!(bench.get("/machine/q35", "MCFG"), u64::MAX);
    bench.write(0, 0, 0x60, &0xb000_0001_u32.to_le_bytes());
    assert_eq!(bench.get("/machine/q35", "MCFG"), 0xb000_0000_u32);
    assert_eq!(bench.get("/machine/q35", "mcfg_size"), 256 << 20);
    let lpc = "/machine/unattached/device[3]";
    assert_eq!(bench.object(lpc).unwrap().type_name(), "ICH9-LPC");
    assert_eq!(bench.get(lpc, "pm_io_base"), 0);
    bench.write(0, 0x1f << 3, 0x40, &0x0601_u32.to_le_bytes());
    bench.write(0, 0x1f << 3, 0x44, &[0x80]);
    assert_eq!(
        (bench.get(lpc, "pm_io_base"), bench.get(lpc, "gpe0_blk")),
        (json!(0x600), json!(0x620))
    );
    let year = bench.get(&format!("{lpc}/rtc"), "date")["tm_year"].clone();
    assert!(year.as_i64().unwrap() >= 124, "{year}");
}

#[test]
fn resets_have_phases_and_a_pause_waits_for_what_is_under_way() {
    if skip_without_kvm("resets_have_phases_and_a_pause_waits_for_what_is_under_way") {
        return;
    }
    let bench = Bench::new(&[json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"})]);
    let history = || bench.get(E1, "history");
    assert_eq!(history(), "enter hold cold");
    bench.vm.wakeup().unwrap();
    bench.write(0, PORT << 3, 0x18, &[0, 1, 1]);
    bench.map_endpoint();
    bench.vm.port_write(0xc000, &[0xbe]);
    assert_eq!(bench.get(E1, "idle"), false);
    bench.vm.pause().unwrap();
    assert_eq!(bench.get(E1, "idle"), true);
    assert_eq!(history(), "enter hold cold enter hold wakeup pause");
}

#[test]
fn the_devices_are_shown_bus_by_bus_as_they_are_now() {
    if skip_without_kvm("the_devices_are_shown_bus_by_bus_as_they_are_now") {
        return;
    }
    let bench = Bench::new(&[json!({"driver": "pvpanic"})]);
    bench
        .plug(&json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"}))
        .unwrap();
    bench.map_endpoint();
    let text = bench.vm.device_tree();
    for part in [
        "bus: main-system-bus\n  type System\n  dev: fw_cfg_io, id \"\"\n",
        "\n  dev: q35-pcihost, id \"\"\n    bus: pcie.0\n      type PCIE\n      dev: pcie-root-port, id \"fixed\"\n        port = 0 (0x0)\n",
        "\n        pref64-reserve = 18446744073709551615 (16 EiB)\n        x-speed = \"16\"\n",
        "\n        class PCI bridge, addr 00:05.0, pci id 1b36:000c (sub 0000:0000)\n        bar 0: mem at \
         0xffffffffffffffff [0xffe]\n        bus: rp\n          type PCIE\n          dev: test-endpoint, id \"e1\"\n            \
         answer = 42 (0x2a)\n            fails = false\n            addr = 00.0\n",
        "\n            Class ff00, addr 01:00.0, pci id 1234:11e8 (sub 0000:0000)\n            bar 0: i/o at 0xc000 [0xc00f]\n",
        "\n        class ISA bridge, addr 00:1f.0, pci id 8086:2918 (sub 1af4:1100)\n        bus: isa.0\n          type ISA\n          \
         dev: pvpanic, id \"\"\n            ioport = 1285 (0x505)\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing from\n{text}");
    }
}

/// Ports of ACPI hot plug: slots up and down, eject, the bus that they show.
const UP: u16 = 0xcc0;
const DOWN: u16 = 0xcc4;
const EJECT: u16 = 0xcc8;
const SELECT: u16 = 0xcd0;

#[test]
fn acpi_tells_the_guest_of_slots_and_lets_go() {
    if skip_without_kvm("acpi_tells_the_guest_of_slots_and_lets_go") {
        return;
    }
    let bench = Bench::new(&[
        json!({"driver": "pcie-root-port", "id": "second", "chassis": 3, "addr": "6"}),
        json!({"driver": "test-endpoint", "id": "cold", "bus": "second"}),
    ]);
    let read = |port: u16| {
        let mut data = [0; 4];
        bench.vm.port_read(port, &mut data);
        u32::from_le_bytes(data)
    };
    let write = |port: u16, value: u32| bench.vm.port_write(port, &value.to_le_bytes());
    // The port that came last has number 0; what is there from the start did not come.
    write(SELECT, 0);
    assert_eq!(read(UP), 0);
    write(SELECT, 1);
    for _ in 0..2 {
        bench
            .plug(&json!({"driver": "test-endpoint", "id": "e1", "bus": "rp"}))
            .unwrap();
        assert_eq!((read(UP), read(UP), read(DOWN)), (1, 0, 0));
        assert_eq!(bench.unplug("e1"), Ok(Vec::new()));
        // The guest's clock stands.
        assert_eq!(
            bench.unplug("e1").unwrap_err(),
            "Device e1 is already in the process of unplug"
        );
        assert_eq!((read(DOWN), bench.vm.take_released()), (1, Vec::new()));
        write(EJECT, 1);
        assert_eq!(bench.notices.try_recv(), Ok(Notice::SlotReleased));
        assert_eq!(bench.vm.take_released(), removed("e1"));
        assert_eq!((read(DOWN), bench.slot_status() & PRESENT), (0, 0));
    }
    assert_eq!(bench.unplug("cold"), Ok(Vec::new()));
    assert_eq!(bench.vm.finish_unplugs(), removed("cold"));
    bench.vm.reset().unwrap();
    write(SELECT, 0);
    assert_eq!(read(DOWN), 0);
}
