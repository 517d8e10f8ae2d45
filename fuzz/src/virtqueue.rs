//! What a driver may do to its rings: bytes of guest memory, and which kind of ring lies there.

use std::sync::Arc;

use remuda::devices::virtio::queue::{MAX_SIZE, Ring, RingLayout, RingRules};
use remuda::mem::{AddressSpace, RamBlock, Region, Topology};
use vm_memory::{Bytes, GuestAddress};

/// Bytes of RAM: the input is written to it again and again.
const RAM: usize = 0x8000;
/// Where the parts of a ring are; descriptors may point anywhere. A page that is repeated has all of them.
const PLACES: [u64; 3] = [0x1000, 0x2400, 0x3800];

/// One driver.
pub(crate) fn run(bytes: &[u8]) {
    let [kind, size, repeat, rest @ ..] = bytes else { return };
    let topology = Topology::new();
    let root = Region::container("root", u64::MAX);
    let Ok(block) = RamBlock::anonymous("ram", RAM) else {
        return;
    };
    let mapping = topology.map(&root, 0, &Region::ram(&block), 0);
    let space: Arc<AddressSpace> = AddressSpace::new(&topology, &root, 0xff);
    let ram = space.ram();
    for start in (0..RAM as u64).step_by(rest.len().max(16)) {
        let _ = ram.write(rest, GuestAddress(start));
    }
    let layout = RingLayout {
        size: 1 << (size % 11),
        descriptors: PLACES[usize::from(kind >> 4) % 3],
        driver: PLACES[usize::from(kind >> 4).wrapping_add(1) % 3],
        device: PLACES[usize::from(kind >> 4).wrapping_add(2) % 3],
    };
    let rules = RingRules {
        packed: kind & 1 != 0,
        event_index: kind & 2 != 0,
        notify_on_empty: kind & 4 != 0,
    };
    let mut ring = Ring::new(layout, rules);
    for _ in 0..=*repeat {
        // As for a frame that may take several buffers: all of them, or none.
        let (start, in_flight) = (ring.position(), ring.in_flight());
        let mut elements = Vec::new();
        while elements.len() <= usize::from(*repeat % 3) {
            let Ok(Some(element)) = ring.pop(&ram) else { break };
            assert!(element.readable().len() + element.writable().len() <= usize::from(MAX_SIZE));
            elements.push(element);
        }
        if elements.len() <= usize::from(*repeat % 3) {
            ring.rewind(start, in_flight);
            break;
        }
        let mut finished = Vec::new();
        for element in &elements {
            let Ok(written) = element.write(&ram, 0, &[0x5a; 64]) else {
                break;
            };
            assert!(u64::from(written) <= element.writable_len());
            finished.push((element, written));
        }
        if ring.push_all(&ram, &finished).is_err() || ring.wants_interrupt(&ram).is_err() {
            break;
        }
    }
    let _ = ring.set_notification(&ram, false);
    drop(mapping);
}
