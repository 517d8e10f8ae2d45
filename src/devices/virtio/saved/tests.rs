//! Sections that QEMU wrote, and those that nobody should have.

use proptest::prelude::*;

use super::*;
use crate::devices::virtio::console::{HeldState, PortState};
use crate::devices::virtio::queue::{Part, RingPosition};
use crate::vmstate::recorded::{check_round_trips, sections};
use crate::vmstate::{load_whole, save};

const OFFERED: Features = Features::VERSION_1
    .with(Features::EVENT_IDX, true)
    .with(Features::INDIRECT_DESC, true)
    .with(Features::RING_RESET, true);
const RNG: Layout = Layout::new("virtio-rng", 1);
const CONSOLE: Layout = Layout::new("virtio-console", 3);

/// A device after a reset, with two vectors.
fn fresh(section: Layout, sizes: &[u16], config: usize, own: OwnState) -> VirtioState {
    VirtioState {
        section,
        pci: PciState {
            config: vec![0; 4096],
            pins: [false; 4],
        },
        msix: Some(MsixState {
            table: vec![[0; 16]; 2],
            pending: vec![false; 2],
        }),
        config_vector: NO_VECTOR,
        status: 0,
        isr: 0,
        queue_select: 0,
        offered: OFFERED,
        accepted: Features::NONE,
        config: vec![0; config],
        queues: sizes.iter().map(|size| QueueState::unused(*size)).collect(),
        own,
        broken: false,
        started: false,
        disabled: false,
        feature_selects: [0; 2],
        written: Features::NONE,
    }
}

fn rng() -> VirtioState {
    fresh(RNG, &[8], 0, OwnState::None)
}

fn console() -> VirtioState {
    let mut sizes = [128; 64];
    sizes[2..4].fill(32);
    let port = PortState {
        number: 1,
        ..PortState::default()
    };
    let own = SerialState {
        max_ports: 31,
        ports: vec![port],
    };
    fresh(CONSOLE, &sizes, 12, OwnState::Serial(own))
}

#[test]
fn sections_of_qemu_are_read_and_written() {
    assert_eq!(check_round_trips("virtio-rng", |_| rng()), 4);
    assert_eq!(check_round_trips("virtio-console", |_| console()), 4);
}

#[test]
fn a_driver_at_work_has_its_queues() {
    let mut state = rng();
    let section = &sections("q35-10.2-linux-devices", "virtio-rng")[0];
    load_whole(&mut state, section.version, &section.bytes()).unwrap();
    assert_eq!((state.status, state.isr, state.config_vector), (15, 1, 0));
    assert_eq!(state.accepted, OFFERED);
    assert!(state.started && !state.broken && !state.disabled);
    let queue = state.queues[0];
    let ring = Areas {
        descriptors: 0x590_e000,
        driver: 0x590_e080,
        device: 0x590_e0c0,
    };
    assert_eq!((queue.size, queue.position.available, queue.vector), (8, 5, 1));
    assert_eq!((queue.ring, queue.written), (ring, (8, true, ring)));
}

/// Saves a state and reads it into another.
#[track_caller]
fn moved(state: &VirtioState, mut into: VirtioState) -> VirtioState {
    let bytes = save(&mut state.clone()).unwrap().bytes;
    load_whole(&mut into, state.section.version, &bytes).unwrap();
    into
}

#[test]
fn packed_rings_smaller_queues_and_what_is_broken_come_along() {
    let packed = OFFERED | Features::RING_PACKED;
    let mut state = rng();
    (state.offered, state.accepted, state.broken) = (packed, packed, true);
    let queue = &mut state.queues[0];
    queue.size = 4;
    queue.ring.descriptors = 0x1000;
    queue.in_flight = 2;
    queue.position = RingPosition {
        available: 3,
        available_wrap: false,
        used: 1,
        used_wrap: true,
    };
    let mut other = rng();
    other.offered = packed;
    assert_eq!(moved(&state, other), state);
}

#[test]
fn a_buffer_that_is_half_sent_comes_along() {
    let mut state = console();
    let part = |addr: u64, len: u32| Part { addr, len };
    let held = HeldState {
        sent: 25,
        element: SavedElement {
            id: 7,
            readable: vec![part(0x1000, 20), part(0x5000, 10)],
            writable: vec![part(0x9000, 1)],
        },
    };
    if let OwnState::Serial(own) = &mut state.own {
        own.ports[0].held = Some(held);
        own.ports[0].guest_open = true;
    }
    assert_eq!(moved(&state, console()), state);
    state.offered = state.offered | Features::RING_PACKED;
    state.accepted = state.offered;
    let error = save(&mut state).unwrap_err().to_string();
    assert!(error.contains("nobody reads"), "{error}");
}

#[test]
fn ports_that_are_not_here_are_named() {
    let bytes = save(&mut console()).unwrap().bytes;
    for (ports, complaint) in [
        (vec![], "ports_map: 3 where this machine has 1"),
        (vec![1, 2], "ports_map: 3 where this machine has 7"),
        (vec![0, 1], "nr_active_ports: 1 where this machine has 2"),
    ] {
        let mut other = console();
        if let OwnState::Serial(own) = &mut other.own {
            own.ports = ports
                .into_iter()
                .map(|number| PortState {
                    number,
                    ..PortState::default()
                })
                .collect();
        }
        let error = load_whole(&mut other, 3, &bytes).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn queues_that_cannot_be_are_refused() {
    let too_large = |state: &mut VirtioState| state.queues[0].size = 9;
    let none = |state: &mut VirtioState| state.queues[0].size = 0;
    let taken = |state: &mut VirtioState| state.queues[0].position.available = 1;
    let more = |state: &mut VirtioState| state.queues.push(QueueState::unused(8));
    let selected = |state: &mut VirtioState| state.queue_select = 1024;
    let changes: [fn(&mut VirtioState); 5] = [too_large, none, taken, more, selected];
    for (number, change) in changes.into_iter().enumerate() {
        let mut state = rng();
        change(&mut state);
        let bytes = save(&mut state).unwrap().bytes;
        let result = load_whole(&mut rng(), 1, &bytes);
        assert!(result.is_err(), "change {number}: {result:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes is read or refused.
    #[test]
    fn no_bytes_do_harm(at in prop::collection::vec((0..60_000_usize, any::<u8>()), 0..8), cut in 0..60_000_usize) {
        let section = &sections("q35-10.2-linux-devices", "virtio-console")[0];
        let mut bytes = section.bytes();
        for (at, byte) in at {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        // As it is, and cut.
        let _ = load_whole(&mut console(), 3, &bytes);
        bytes.truncate(cut);
        let _ = load_whole(&mut console(), 3, &bytes);
    }
}
