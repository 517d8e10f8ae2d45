use super::*;
use crate::devices::testing::{CountingLine, Messages, move_state, saved};
use crate::vmstate::load_whole;
use crate::vmstate::recorded::{check_round_trips, sections};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;

struct Bench {
    port: RootPort,
    line: Arc<CountingLine>,
    messages: Arc<Messages>,
    ejections: Arc<AtomicU32>,
}

impl Bench {
    fn new(config: RootPortConfig) -> Self {
        let (line, messages) = (Arc::new(CountingLine::default()), Arc::new(Messages::default()));
        let ejections = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&ejections);
        let links = RootPortLinks {
            intx: Arc::clone(&line) as _,
            msi: Arc::clone(&messages) as _,
            ejected: Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        };
        Self {
            port: RootPort::new(config, links),
            line,
            messages,
            ejections,
        }
    }

    fn hotplug() -> Self {
        Self::new(RootPortConfig {
            hotplug: true,
            ..RootPortConfig::default()
        })
    }

    /// Where the PCI Express capability is.
    fn express(&self) -> u16 {
        let config = self.port.config();
        let mut at = config.u8(0x34);
        while config.u8(at.into()) != 0x10 {
            at = config.u8(usize::from(at) + 1);
            assert_ne!(at, 0, "no PCI Express capability");
        }
        at.into()
    }

    fn read(&self, register: u16) -> u16 {
        self.port.config().u16((self.express() + register).into())
    }

    fn write_at(&mut self, at: u16, data: &[u8]) {
        self.port.config_mut().write(at, data);
        self.port.config_written(at, data.len());
    }

    fn write(&mut self, register: u16, value: u16) {
        self.write_at(self.express() + register, &value.to_le_bytes());
    }

    /// As a guest acknowledges all events.
    fn acknowledge(&mut self) {
        self.write(SLOT_STATUS, 0x11f);
    }
}

#[test]
fn an_express_port_with_the_slot_given() {
    let bench = Bench::new(RootPortConfig {
        port: 0x10,
        slot: 3,
        hotplug: true,
        multifunction: true,
        ..RootPortConfig::default()
    });
    let config = bench.port.config();
    assert_eq!((config.u32(0), config.u8(0x0e)), (0x000c_1b36, 0x81));
    let at = usize::from(bench.express());
    assert_eq!(config.u16(at + 2), 0x0142);
    assert_eq!(config.u32(at + 0x0c) >> 24, 0x10);
    assert_eq!(config.u32(at + 0x14) >> 19, 3);
    assert_eq!(bench.read(SLOT_STATUS) & 0x40, 0);
}

#[test]
fn a_device_in_the_slot_shows_and_stays_over_a_reset() {
    let mut bench = Bench::hotplug();
    bench.write_at(0x18, &[0, 5, 7]);
    assert_eq!(bench.port.bus_numbers(), (5, 7));
    bench.port.set_occupied(true);
    bench.port.reset();
    assert_eq!(bench.port.bus_numbers(), (0, 0));
    assert_eq!(bench.read(SLOT_STATUS) & 0x40, 0x40);
}

#[test]
fn every_command_completes_at_once() {
    let mut bench = Bench::hotplug();
    bench.write(SLOT_CONTROL, 0x0030);
    assert_eq!(bench.read(SLOT_STATUS) & 0x10, 0x10);
    assert!(bench.line.is_high());
    bench.acknowledge();
    assert!(!bench.line.is_high());
    bench.write(SLOT_CONTROL, 0x0830);
    assert_eq!(bench.read(SLOT_CONTROL), 0x0030, "the interlock bit reads as zero");
    assert_eq!(bench.read(SLOT_STATUS) & 0x80, 0x80);
}

#[test]
fn a_plugged_device_is_announced_by_message_when_the_guest_uses_messages() {
    let mut bench = Bench::hotplug();
    bench.port.bar_write(0, 0, &0xfee0_0000_u64.to_le_bytes());
    bench.port.bar_write(0, 8, &0x41_u64.to_le_bytes());
    let msix = (0x40..0x100).step_by(4).find(|at| bench.port.config().u8(*at) == 0x11);
    let msix = u16::try_from(msix.unwrap()).unwrap();
    bench.write_at(msix + 2, &[0, 0x80]);
    bench.write(SLOT_CONTROL, 0x0021);
    bench.acknowledge();
    bench.port.plug();
    assert_eq!(bench.messages.taken(), [(0xfee0_0000, 0x41)]);
    assert!(!bench.line.is_high());
    assert_eq!(bench.read(SLOT_STATUS) & 0x49, 0x49);
}

#[test]
fn the_guest_lets_a_device_go_when_asked() {
    let mut bench = Bench::hotplug();
    bench.port.set_occupied(true);
    bench.write(SLOT_CONTROL, 0x0121);
    bench.acknowledge();
    assert_eq!(bench.port.request_unplug(), Ok(Unplug::Asked));
    assert!(bench.line.is_high());
    bench.acknowledge();
    // The indicator blinks while the guest makes up its mind.
    bench.write(SLOT_CONTROL, 0x0221);
    assert_eq!(bench.port.request_unplug(), Err(UnplugError::Busy));
    bench.write(SLOT_CONTROL, 0x0721);
    assert_eq!(bench.ejections.load(Ordering::Relaxed), 1);
    bench.port.unplug();
    assert_eq!(bench.read(SLOT_STATUS) & 0x48, 0x08);
    bench.write(SLOT_CONTROL, 0x0121);
    bench.write(SLOT_CONTROL, 0x0721);
    assert_eq!(bench.ejections.load(Ordering::Relaxed), 1, "the slot is empty");
}

#[test]
fn a_slot_without_hot_plug_refuses() {
    let mut bench = Bench::new(RootPortConfig::default());
    bench.port.set_occupied(true);
    assert_eq!(bench.port.request_unplug(), Err(UnplugError::Unsupported));
}

#[test]
fn a_restored_port_goes_on_interrupting() {
    let mut one = Bench::hotplug();
    one.write(SLOT_CONTROL, 0x0030);
    let mut other = Bench::hotplug();
    move_state(&mut one.port, &mut other.port);
    assert!(other.line.is_high());
}

#[test]
fn a_link_is_trained_when_the_guest_looks() {
    let mut bench = Bench::hotplug();
    let look = |bench: &mut Bench| {
        let mut data = [0; 2];
        let at = bench.express() + 0x12;
        bench.port.config_read(at, &mut data);
        u16::from_le_bytes(data)
    };
    assert_eq!(bench.read(0x12), 0x0011, "nobody has looked yet");
    assert_eq!(look(&mut bench), 0x0204, "all that the port can do");
    bench.port.set_occupied(true);
    assert_eq!(look(&mut bench), 0x2011);
    bench.port.leave_to_acpi();
    assert_eq!(look(&mut bench), 0x0011, "ACPI tells whether it is up");
}

/// A port as in the recorded streams; `state` came from it.
fn like(state: &RootPortState, release: (u16, u16)) -> Bench {
    let config = &state.pci.config;
    let mut bench = Bench::new(RootPortConfig {
        port: config[0x63],
        chassis: 1,
        slot: 0,
        hotplug: true,
        extended_tag: release >= (9, 2),
        multifunction: config[0x0e] & 0x80 != 0,
        masks_uncorrectable: release >= (8, 0),
        writable_latency: release < (8, 2),
        ..RootPortConfig::default()
    });
    bench.port.leave_to_acpi();
    bench
}

#[test]
fn recorded_ports_are_this_one() {
    let blank = Bench::new(RootPortConfig::default()).port.state();
    // Release 7 lit the power indicator of a slot that is not empty; the guest may change it.
    const INDICATORS: usize = 0x6d;
    let streams = [
        ("q35-7.2-virtio", (7, 2), Some(INDICATORS)),
        ("q35-10.2-virtio", (10, 2), Some(usize::MAX)),
        ("q35-10.2-virtio-bios", (10, 2), None),
        ("q35-10.2-linux-devices", (10, 2), None),
    ];
    for (stream, release, but) in streams {
        let recorded = sections(stream, "pcie-root-port");
        assert!(!recorded.is_empty(), "{stream}");
        for section in recorded {
            let mut state = blank.clone();
            load_whole(&mut state, section.version, &section.bytes()).unwrap();
            let mut bench = like(&state, release);
            bench.port.set_occupied(state.pci.config[INDICATORS] & 4 == 0);
            if let Some(but) = but {
                let own = bench.port.state().pci.config;
                let differs = (0..own.len()).find(|at| own[*at] != state.pci.config[*at] && *at != but);
                assert_eq!(differs, None, "{stream}: {}", section.name);
            }
            let bytes = section.bytes();
            bench
                .port
                .set_state(state)
                .unwrap_or_else(|error| panic!("{stream}: {}: {error}", section.name));
            assert_eq!(saved(&mut bench.port)[0].1, bytes, "{stream}: {}", section.name);
        }
    }
}

#[test]
fn the_guest_changes_what_it_changes_on_qemu() {
    let mut bench = Bench::new(RootPortConfig {
        hotplug: true,
        masks_uncorrectable: true,
        ..RootPortConfig::default()
    });
    let before = bench.port.state().pci.config;
    bench.port.config_mut().write(0, &[0xff; 4096]);
    let after = bench.port.state().pci.config;
    let changed =
        |range: std::ops::Range<usize>| -> Vec<u8> { range.map(|at| (after[at] ^ before[at]) & after[at]).collect() };
    assert_eq!(changed(0x3c..0x40), [0xff, 0, 0x5f, 0]);
    assert_eq!(
        changed(0x40..0x54),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(changed(0x5c..0x60), [0x0f, 0, 0, 0]);
    assert_eq!(changed(0x7c..0x80), [0x20, 0x80, 0, 0]);
    assert_eq!(changed(0x90..0x100), [0xff; 0x70]);
    assert_eq!(changed(0x12c..0x130), [7, 0, 0, 0]);
    assert_eq!(changed(0x14c..0x150), [0, 0, 0x5f, 0]);
    assert_eq!(changed(0x150..0x1000), [0xff; 0xeb0]);
}

#[test]
fn recorded_ports_are_read_and_written_alike() {
    let blank = || Bench::new(RootPortConfig::default()).port.state();
    check_round_trips("pcie-root-port", |_| blank());
}

#[test]
fn a_port_with_a_device_moves_to_one_without() {
    let mut one = Bench::hotplug();
    one.port.set_occupied(true);
    let mut other = Bench::hotplug();
    move_state(&mut one.port, &mut other.port);
}

proptest! {
    #[test]
    fn no_access_does_harm(writes in prop::collection::vec((0_u16..0x120, any::<u32>(), 1_usize..=4), 0..100)) {
        let mut bench = Bench::hotplug();
        bench.port.set_occupied(true);
        for (at, value, size) in writes {
            bench.write_at(at, &value.to_le_bytes()[..size]);
            bench.port.bar_write(0, at.into(), &value.to_le_bytes()[..size]);
            bench.port.bar_read(0, at.into(), &mut [0; 8][..size]);
        }
    }
}
