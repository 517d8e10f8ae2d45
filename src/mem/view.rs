//! What shows where at one moment, and accesses to it.

use std::sync::Arc;

use super::{Access, Doorbell, GuestRam, RamBlock, RamRange, Region, region::Io};

/// A piece of a region that shows.
#[derive(Clone, Debug)]
pub struct FlatRange {
    pub(super) start: u64,
    pub(super) last: u64,
    /// Where the piece starts in its region.
    offset: u64,
    region: Region,
    /// The block whose bytes can be read directly, and whether they can be written.
    direct: Option<(Arc<RamBlock>, bool)>,
}

impl FlatRange {
    pub(super) fn new(region: &Region, start: u64, last: u64, offset: u64, read_only: bool) -> Self {
        Self {
            start,
            last,
            offset,
            region: region.clone(),
            direct: region
                .0
                .memory()
                .map(|(block, is_writable)| (Arc::clone(block), is_writable && !read_only)),
        }
    }

    /// First address.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Last address.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The region of which it is a piece.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// For RAM and ROM: the block, where the piece starts in it, and whether it can be written.
    #[must_use]
    pub fn memory(&self) -> Option<(&Arc<RamBlock>, u64, bool)> {
        let (block, is_writable) = self.direct.as_ref()?;
        Some((block, self.offset, *is_writable))
    }

    /// Whether `next` is the neighbour behind it, and the next piece of the same region.
    pub(super) fn continues_in(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.region.0, &next.region.0)
            && self.is_writable() == next.is_writable()
            && self.last.checked_add(1) == Some(next.start)
            && self.offset + (next.start - self.start) == next.offset
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.region.0, &other.region.0)
            && (self.start, self.last, self.offset, self.is_writable())
                == (other.start, other.last, other.offset, other.is_writable())
    }

    /// Whether memory can be written; none when it is no memory.
    fn is_writable(&self) -> Option<bool> {
        self.direct.as_ref().map(|(_, is_writable)| *is_writable)
    }

    fn io(&self) -> Option<&Io> {
        self.region.0.io()
    }

    fn offset_of(&self, addr: u64) -> u64 {
        self.offset + (addr - self.start)
    }

    /// Bytes of an access of `len` bytes at `addr` that are made at once here.
    fn part(&self, addr: u64, len: usize) -> usize {
        if self.direct.is_some() {
            let left = usize::try_from(self.last - addr)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            return len.min(left);
        }
        // Registers are found by their address alone: an access that goes beyond the end of a range is not cut there.
        let access = self.io().map_or(Access::ANY, |io| io.access);
        access.part(self.offset_of(addr), len)
    }

    fn read(&self, addr: u64, data: &mut [u8]) {
        let offset = self.offset_of(addr);
        match (self.memory(), self.io()) {
            (Some((block, ..)), _) => {
                // The range lies within the block, as its region does.
                if block.read(offset, data).is_err() {
                    data.fill(0);
                }
            }
            (None, Some(io)) => io.access.read(&*io.handler, offset, data),
            (None, None) => data.fill(0),
        }
    }

    fn write(&self, addr: u64, data: &[u8]) {
        let offset = self.offset_of(addr);
        match (self.memory(), self.io()) {
            (Some((block, _, true)), _) => {
                if let Err(error) = block.write(offset, data) {
                    tracing::debug!(block = block.id(), offset, %error, "write to RAM");
                }
            }
            (_, Some(io)) => io.access.write(&*io.handler, offset, data),
            // ROM.
            (_, None) => {}
        }
    }
}

/// A doorbell where it shows.
#[derive(Clone, Debug)]
pub struct PlacedDoorbell {
    /// Guest address.
    pub addr: u64,
    /// The doorbell.
    pub doorbell: Doorbell,
}

impl PlacedDoorbell {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.addr == other.addr
            && self.doorbell.datamatch() == other.doorbell.datamatch()
            && Arc::ptr_eq(self.doorbell.event(), other.doorbell.event())
    }
}

/// What shows where at one moment.
#[derive(Debug, Default)]
pub struct FlatView {
    ranges: Vec<FlatRange>,
    /// By address.
    doorbells: Vec<PlacedDoorbell>,
    ram: Arc<GuestRam>,
}

impl FlatView {
    /// `ranges` are sorted and do not overlap.
    pub(super) fn new(ranges: Vec<FlatRange>, mut doorbells: Vec<PlacedDoorbell>) -> Self {
        doorbells.sort_by_key(|placed| placed.addr);
        let ram = ranges.iter().filter_map(|range| {
            let (block, offset, is_writable) = range.memory()?;
            is_writable.then(|| RamRange::new(block, offset, range.start, range.last))
        });
        let ram = Arc::new(GuestRam::new(ram.collect()));
        Self { ranges, doorbells, ram }
    }

    /// The ranges, by address.
    #[must_use]
    pub fn ranges(&self) -> &[FlatRange] {
        &self.ranges
    }

    /// The doorbells, by address.
    #[must_use]
    pub fn doorbells(&self) -> &[PlacedDoorbell] {
        &self.doorbells
    }

    /// The RAM that can be written, as devices copy to and from it.
    #[must_use]
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// What shows at `addr`.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<&FlatRange> {
        let index = self.ranges.partition_point(|range| range.last < addr);
        self.ranges.get(index).filter(|range| range.start <= addr)
    }

    /// A guest's read. Where nobody answers, it reads as `unassigned`.
    pub(super) fn read(&self, mut addr: u64, mut data: &mut [u8], unassigned: u8) {
        while !data.is_empty() {
            let Some(range) = self.find(addr) else {
                // Nobody answers what starts where nobody is; the rest of the access is looked for anew.
                let (first, rest) = data.split_at_mut(self.hole(addr, data.len()));
                first.fill(unassigned);
                (addr, data) = (addr.wrapping_add(first.len() as u64), rest);
                continue;
            };
            let (part, rest) = data.split_at_mut(range.part(addr, data.len()));
            range.read(addr, part);
            (addr, data) = (addr.wrapping_add(part.len() as u64), rest);
        }
    }

    /// A guest's write. What nobody takes is lost.
    pub(super) fn write(&self, mut addr: u64, mut data: &[u8]) {
        if self.ring(addr, data) {
            return;
        }
        while !data.is_empty() {
            let len = match self.find(addr) {
                Some(range) => {
                    let len = range.part(addr, data.len());
                    range.write(addr, &data[..len]);
                    len
                }
                None => self.hole(addr, data.len()),
            };
            (addr, data) = (addr.wrapping_add(len as u64), &data[len..]);
        }
    }

    /// Bytes of an access of `len` bytes that lie in the hole at `addr`.
    fn hole(&self, addr: u64, len: usize) -> usize {
        let index = self.ranges.partition_point(|range| range.last < addr);
        let next = self.ranges.get(index).map(|range| range.start - addr);
        next.and_then(|next| usize::try_from(next).ok())
            .map_or(len, |next| next.min(len))
    }

    /// Rings what this write rings: those that the accelerator left to us. Whether there was any.
    fn ring(&self, addr: u64, data: &[u8]) -> bool {
        if self.doorbells.is_empty() {
            return false;
        }
        let first = self.doorbells.partition_point(|placed| placed.addr < addr);
        let here = self.doorbells[first..].iter().take_while(|placed| placed.addr == addr);
        let mut is_rung = false;
        for placed in here.filter(|placed| placed.doorbell.is_rung_by(data)) {
            placed.doorbell.ring();
            is_rung = true;
        }
        is_rung
    }
}
