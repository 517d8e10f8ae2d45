//! A driver's side of a split ring, for tests.

use std::sync::Arc;

use super::RingLayout;
use super::memory::DESCRIPTOR;
use crate::mem::{AddressSpace, RamBlock, Region, Topology};

/// Pages of RAM that tests have, from address 0 on.
pub(crate) const PAGES: u64 = 64;
/// Where tests have their buffers.
pub(crate) const BUFFERS: u64 = 0x1_0000;

/// An address space with [`PAGES`] pages of RAM.
pub(crate) fn memory() -> Arc<AddressSpace> {
    let topology = Topology::new();
    let root = Region::container("root", u64::MAX);
    let block = RamBlock::anonymous("ram", usize::try_from(PAGES * 4096).unwrap()).unwrap();
    let mapping = topology.map(&root, 0, &Region::ram(&block), 0).unwrap();
    let space = AddressSpace::new(&topology, &root, 0xff);
    // The memory is there for as long as somebody looks at it.
    std::mem::forget(mapping);
    space
}

/// A driver.
pub(crate) struct SplitDriver {
    pub(crate) space: Arc<AddressSpace>,
    pub(crate) layout: RingLayout,
    offered: u16,
    seen: u16,
    descriptors: u16,
}

impl SplitDriver {
    /// A ring of `size` descriptors in the first pages.
    pub(crate) fn new(space: &Arc<AddressSpace>, size: u16) -> Self {
        let layout = RingLayout {
            size,
            descriptors: 0x1000,
            driver: 0x2000,
            device: 0x3000,
        };
        Self {
            space: Arc::clone(space),
            layout,
            offered: 0,
            seen: 0,
            descriptors: 0,
        }
    }

    pub(crate) fn write(&self, addr: u64, bytes: &[u8]) {
        self.space.write_memory(addr, bytes).unwrap();
    }

    pub(crate) fn u16(&self, addr: u64) -> u16 {
        let mut bytes = [0; 2];
        self.space.read_memory(addr, &mut bytes).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// Writes descriptor `index` of a table: address, length, flags, next.
    pub(crate) fn describe(&self, table: u64, index: u16, (addr, len, flags, next): (u64, u32, u16, u16)) {
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.write(table + u64::from(index) * DESCRIPTOR, &bytes);
    }

    /// Makes the chain that starts with descriptor `head` available.
    pub(crate) fn offer_head(&mut self, head: u16) {
        let slot = u64::from(self.offered % self.layout.size);
        self.write(self.layout.driver + 4 + 2 * slot, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        self.write(self.layout.driver + 2, &self.offered.to_le_bytes());
    }

    /// Offers a buffer of these parts: address, bytes, flags. Returns its id.
    pub(crate) fn offer(&mut self, parts: &[(u64, u32, u16)]) -> u16 {
        let head = self.descriptors % self.layout.size;
        for (number, (addr, len, flags)) in (0..).zip(parts) {
            let index = (head + number) % self.layout.size;
            let is_last = usize::from(number) + 1 == parts.len();
            let flags = flags | if is_last { 0 } else { super::chain::NEXT };
            let next = (index + 1) % self.layout.size;
            self.describe(self.layout.descriptors, index, (*addr, *len, flags, next));
        }
        self.descriptors = (head + u16::try_from(parts.len()).unwrap()) % self.layout.size;
        self.offer_head(head);
        head
    }

    /// Buffers given back since the last call: id and bytes written.
    pub(crate) fn used(&mut self) -> Vec<(u32, u32)> {
        let mut used = Vec::new();
        while self.seen != self.u16(self.layout.device + 2) {
            let slot = u64::from(self.seen % self.layout.size);
            let mut entry = [0; 8];
            self.space
                .read_memory(self.layout.device + 4 + 8 * slot, &mut entry)
                .unwrap();
            let [a, b, c, d, e, f, g, h] = entry;
            used.push((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }
}
