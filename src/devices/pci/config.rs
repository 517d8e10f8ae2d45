//! A function's configuration space (PCI Local Bus 3.0 chapter 6, PCI Express Base 5.0 chapter 7).

use std::ops::Range;

use crate::vmstate::{StateError, StateErrorKind};

/// Bytes of a PCI Express function's configuration space.
const SIZE: usize = 4096;
/// First byte after the header.
const HEADER_END: usize = 0x40;
/// First byte that conventional configuration accesses do not reach.
const EXTENDED: usize = 0x100;

// Registers of every header.
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const CACHE_LINE: usize = 0x0c;
const HEADER_TYPE: usize = 0x0e;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
/// Base and limit of a bridge's window for ports.
pub(super) const IO_BASE: usize = 0x1c;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;

/// Command: the function answers I/O.
const COMMAND_IO: u16 = 1;
/// Command: the function answers memory.
const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may start transfers.
const COMMAND_MASTER: u16 = 1 << 2;
/// Command: the function may not raise INTx.
const COMMAND_INTX_OFF: u16 = 1 << 10;
/// What the guest may change in the command register: those, and reports of system errors.
const COMMAND_MASK: u16 = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | 1 << 8 | COMMAND_INTX_OFF;
/// Status bits that are cleared by writing ones.
const STATUS_CLEAR: u16 = 0xf900;
/// Status: there is a list of capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: the device has more than function 0.
const MULTIFUNCTION: u8 = 0x80;

/// What a base address register maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next register as well.
    Memory64 {
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
}

/// Configuration space: bytes, and which of their bits the guest may change.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    initial: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    clearable: Box<[u8; SIZE]>,
    bars: [Option<(BarKind, u64)>; 6],
    next_capability: usize,
    /// Where capabilities are, but for the bytes of them that devices change.
    capabilities: Vec<Range<usize>>,
    last_extended: Option<usize>,
    next_extended: usize,
}

impl ConfigSpace {
    /// The space of a function with this vendor, device, class (class, subclass, interface) and revision.
    #[must_use]
    pub fn new(vendor: u16, device: u16, class: [u8; 3], revision: u8) -> Self {
        let mut space = Self {
            bytes: Box::new([0; SIZE]),
            initial: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            clearable: Box::new([0; SIZE]),
            bars: [None; 6],
            next_capability: HEADER_END,
            capabilities: Vec::new(),
            last_extended: None,
            next_extended: EXTENDED,
        };
        let [class, subclass, interface] = class;
        space.set(0, &vendor.to_le_bytes());
        space.set(2, &device.to_le_bytes());
        space.set(8, &[revision, interface, subclass, class]);
        space.allow_write(COMMAND, &COMMAND_MASK.to_le_bytes());
        space.allow_clear(STATUS, &STATUS_CLEAR.to_le_bytes());
        space.allow_write(CACHE_LINE, &[0xff]);
        space.allow_write(INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Subsystem vendor and id, in the header of an endpoint.
    #[must_use]
    pub fn with_subsystem(mut self, vendor: u16, id: u16) -> Self {
        self.set(0x2c, &vendor.to_le_bytes());
        self.set(0x2e, &id.to_le_bytes());
        self
    }

    /// Makes it the space of a bridge (header type 1).
    #[must_use]
    pub fn into_bridge(mut self) -> Self {
        self.set(HEADER_TYPE, &[1]);
        // Bus numbers and the latency timer; windows for I/O, memory and prefetchable memory; bridge control.
        self.allow_write(0x18, &[0xff, 0xff, 0xff, 0]);
        self.allow_write(0x1c, &[0xf0, 0xf0]);
        self.allow_clear(0x1e, &STATUS_CLEAR.to_le_bytes());
        self.allow_write(0x20, &[0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff]);
        self.allow_write(0x28, &[0xff; 8]);
        self.allow_write(0x3e, &[0x5f, 0]);
        self.allow_clear(0x3f, &[0x04]);
        // No window is open: each ends before it starts. 16 bits of I/O addresses, 64 bits of prefetchable memory addresses.
        self.set(0x1c, &[0xf0, 0]);
        self.set(0x20, &[0xf0, 0xff, 0, 0, 0xf1, 0xff, 1, 0]);
        self
    }

    /// Lets the guest keep what it likes in the bytes from the header's end to `size` that no capability takes.
    #[must_use]
    pub fn with_scratch(mut self, size: usize) -> Self {
        self.writable[HEADER_END..size].fill(0xff);
        self
    }

    /// Says that the slot may hold more functions.
    #[must_use]
    pub fn with_multifunction(mut self, multifunction: bool) -> Self {
        if multifunction {
            self.bytes[HEADER_TYPE] |= MULTIFUNCTION;
        }
        self
    }

    /// Interrupt pin: 1 for INTA#.
    #[must_use]
    pub fn with_interrupt_pin(mut self, pin: u8) -> Self {
        self.set(INTERRUPT_PIN, &[pin]);
        self
    }

    /// Adds a base address register. `size` is a power of two, at least 4 for ports and 16 for memory.
    pub fn add_bar(&mut self, index: usize, kind: BarKind, size: u64) {
        debug_assert!(size.is_power_of_two() && index < 6);
        let at = BARS + 4 * index;
        let mask = (!(size - 1)).to_le_bytes();
        let (kind_bits, width) = match kind {
            BarKind::Io => (1, 4),
            BarKind::Memory32 => (0, 4),
            BarKind::Memory64 { prefetchable } => (if prefetchable { 0xc } else { 4 }, 8),
        };
        self.bytes[at] = kind_bits;
        self.allow_write(at, &mask[..width]);
        self.bars[index] = Some((kind, size));
    }

    /// Adds a capability behind those that are there, and as the first of their list; `body` follows its two header bytes.
    /// Returns its offset.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> usize {
        let at = self.next_capability;
        self.next_capability = (at + 2 + body.len()).next_multiple_of(4);
        debug_assert!(self.next_capability <= EXTENDED);
        self.bytes[at] = id;
        self.writable[at..self.next_capability].fill(0);
        self.capabilities.push(at..at + 2 + body.len());
        self.bytes[at + 1] = self.bytes[CAPABILITIES];
        self.set(at + 2, body);
        self.bytes[CAPABILITIES] = u8::try_from(at).unwrap_or_default();
        self.bytes[STATUS] |= STATUS_CAPABILITIES.to_le_bytes()[0];
        at
    }

    /// The first byte behind all capabilities.
    #[must_use]
    pub fn capabilities_end(&self) -> usize {
        self.next_capability
    }

    /// Adds an extended capability; `body` follows its four header bytes. Returns its offset.
    pub fn add_extended_capability(&mut self, id: u16, version: u8, body: &[u8]) -> usize {
        let at = self.next_extended;
        self.next_extended = (at + 4 + body.len()).next_multiple_of(4);
        let header = u32::from(id) | u32::from(version & 0xf) << 16;
        self.writable[at..self.next_extended].fill(0);
        self.capabilities.push(at..at + 4 + body.len());
        self.set(at, &header.to_le_bytes());
        self.set(at + 4, body);
        if let Some(last) = self.last_extended.replace(at) {
            let next = u16::try_from(at).unwrap_or_default() << 4;
            let low = self.bytes[last + 2] & 0xf;
            self.set(last + 2, &(next | u16::from(low)).to_le_bytes());
        }
        at
    }

    /// Says that the device itself changes bytes of a capability, so that they do not tell one function from another.
    pub fn vary(&mut self, changing: Range<usize>) {
        let ranges = std::mem::take(&mut self.capabilities).into_iter();
        let around = |range: Range<usize>| {
            let before = range.start..range.end.min(changing.start);
            let after = range.start.max(changing.end)..range.end;
            [before, after]
        };
        self.capabilities = ranges.flat_map(around).filter(|range| !range.is_empty()).collect();
    }

    /// Sets bytes whatever the guest may do to them.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Lets the guest change the bits of `mask` from byte `at` on.
    pub fn allow_write(&mut self, at: usize, mask: &[u8]) {
        self.writable[at..at + mask.len()].copy_from_slice(mask);
    }

    /// Keeps the guest from letting the function answer I/O.
    pub(super) fn forbid_io(&mut self) {
        self.writable[COMMAND] &= !COMMAND_IO.to_le_bytes()[0];
    }

    /// Lets the guest clear the bits of `mask` from byte `at` on, by writing ones.
    pub fn allow_clear(&mut self, at: usize, mask: &[u8]) {
        self.clearable[at..at + mask.len()].copy_from_slice(mask);
    }

    /// Takes the present state for the one after power-on. Once all registers are there.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.initial = self.bytes.clone();
        self
    }

    /// Returns to the state after power-on.
    pub fn reset(&mut self) {
        self.bytes = self.initial.clone();
    }

    /// A guest's read. Bytes beyond the end read as ones.
    pub fn read(&self, at: u16, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(usize::from(at)..) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    /// A guest's write: changes what it may change.
    pub fn write(&mut self, at: u16, data: &[u8]) {
        for (byte, at) in data.iter().zip(usize::from(at)..SIZE) {
            let writable = self.writable[at];
            let kept = self.bytes[at] & !writable & !(byte & self.clearable[at]);
            self.bytes[at] = kept | byte & writable;
        }
    }

    /// One byte.
    #[must_use]
    pub fn u8(&self, at: usize) -> u8 {
        self.bytes[at]
    }

    /// Two bytes, little endian.
    #[must_use]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Four bytes, little endian.
    #[must_use]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// The base address registers there are: what they map and how many bytes.
    pub fn bars(&self) -> impl Iterator<Item = (usize, BarKind, u64)> {
        let bars = self.bars.iter().enumerate();
        bars.filter_map(|(index, bar)| bar.map(|(kind, size)| (index, kind, size)))
    }

    /// Where the guest has mapped base address register `index`; none while it has not, or has switched it off.
    #[must_use]
    pub fn bar_range(&self, index: usize) -> Option<Range<u64>> {
        let (kind, size) = self.bars.get(index).copied().flatten()?;
        let low = u64::from(self.u32(BARS + 4 * index));
        let (enabled, address) = match kind {
            BarKind::Io => (COMMAND_IO, low & 0xfffc),
            BarKind::Memory32 => (COMMAND_MEMORY, low & !0xf),
            BarKind::Memory64 { .. } => (
                COMMAND_MEMORY,
                u64::from(self.u32(BARS + 4 * index + 4)) << 32 | low & !0xf,
            ),
        };
        let decodes = self.u16(COMMAND) & enabled != 0 && address != 0;
        let end = address.checked_add(size)?;
        decodes.then_some(address..end)
    }

    /// Whether the function may start transfers.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.u16(COMMAND) & COMMAND_MASTER != 0
    }

    /// Whether the function may raise INTx.
    #[must_use]
    pub fn allows_intx(&self) -> bool {
        self.u16(COMMAND) & COMMAND_INTX_OFF == 0
    }

    /// All bytes, for saving.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Takes back saved bytes: all of them, or the 256 of a conventional function.
    ///
    /// # Errors
    /// When the function that was saved is another one: names the first byte that differs.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let len = bytes.len().min(SIZE);
        let differs = |at: &usize| {
            let fixed = self.fixed_bits(*at);
            (bytes[*at] ^ self.initial[*at]) & fixed != 0
        };
        if let Some(at) = (0..len).find(differs) {
            let kind = StateErrorKind::Different {
                own: self.initial[at].into(),
                theirs: bytes[at].into(),
            };
            return Err(StateError::new(kind).within(format!("configuration byte {at:#x}")));
        }
        self.bytes[..len].copy_from_slice(&bytes[..len]);
        Ok(())
    }

    /// The bits of a byte that say what the function is, and that nothing ever changes.
    fn fixed_bits(&self, at: usize) -> u8 {
        let fixed = match at {
            0..=3 | 8..=11 | HEADER_TYPE | CAPABILITIES => 0xff,
            STATUS => STATUS_CAPABILITIES.to_le_bytes()[0],
            _ if self.capabilities.iter().any(|range| range.contains(&at)) => 0xff,
            _ => 0,
        };
        fixed & !self.writable[at] & !self.clearable[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::new(0x1af4, 0x1041, [2, 0, 0], 1);
        space.add_bar(0, BarKind::Io, 32);
        space.add_bar(1, BarKind::Memory32, 4096);
        space.add_bar(4, BarKind::Memory64 { prefetchable: true }, 16384);
        space.sealed()
    }

    fn read32(space: &ConfigSpace, at: u16) -> u32 {
        let mut data = [0; 4];
        space.read(at, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn sizes_are_found_by_writing_ones() {
        let mut space = space();
        for (at, answer) in [
            (0x10, 0xffff_ffe1),
            (0x14, 0xffff_f000),
            (0x20, 0xffff_c00c),
            (0x24, 0xffff_ffff),
            (0x18, 0),
        ] {
            space.write(at, &[0xff; 4]);
            assert_eq!(read32(&space, at), answer, "register {at:#x}");
        }
    }

    #[test]
    fn ranges_show_only_while_decoding_is_on() {
        let mut space = space();
        space.write(0x14, &0xfe00_0000_u32.to_le_bytes());
        space.write(0x20, &0x0000_0000_u32.to_le_bytes());
        space.write(0x24, &0x10_u32.to_le_bytes());
        assert_eq!(space.bar_range(1), None);
        space.write(4, &[2, 0]);
        assert_eq!(space.bar_range(1), Some(0xfe00_0000..0xfe00_1000));
        assert_eq!(space.bar_range(4), Some(0x10_0000_0000..0x10_0000_4000));
        assert_eq!(space.bar_range(0), None);
        space.reset();
        assert_eq!(space.bar_range(1), None);
    }

    #[test]
    fn identity_is_read_only_and_status_is_cleared_by_ones() {
        let mut space = space();
        space.write(0, &[0, 0, 0, 0]);
        assert_eq!(read32(&space, 0), 0x1041_1af4);
        space.set(6, &[0, 0xf9]);
        space.write(6, &[0, 0x80]);
        assert_eq!(space.u16(6), 0x7900);
    }

    #[test]
    fn capabilities_form_lists() {
        let mut space = ConfigSpace::new(1, 2, [6, 4, 0], 0);
        let first = space.add_capability(0x10, &[0; 10]);
        let second = space.add_capability(0x05, &[0; 8]);
        assert_eq!(
            (space.u8(0x34), space.u8(second + 1), space.u8(first + 1)),
            (u8::try_from(second).unwrap(), 0x40, 0),
            "the latest is the first of the list"
        );
        assert_eq!(space.u16(6) & 0x10, 0x10);
        let first = space.add_extended_capability(1, 2, &[0; 68]);
        let second = space.add_extended_capability(0xd, 1, &[0; 4]);
        assert_eq!((first, space.u32(first)), (0x100, 0x1482_0001 & !0xf_ffff | 0x2_0001));
        assert_eq!(space.u32(second), 0x1_000d);
    }
}
