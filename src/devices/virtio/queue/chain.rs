//! Buffers: chains of descriptors, checked.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{
    MAX_SIZE, RingError,
    memory::{DESCRIPTOR, RawDescriptor, read_descriptor},
};
use crate::mem::GuestRam;

/// Descriptor flag: the buffer goes on.
pub(super) const NEXT: u16 = 1;
/// Descriptor flag: the device writes this part.
pub(super) const WRITE: u16 = 1 << 1;
/// Descriptor flag: what it points to is a table of descriptors.
pub(super) const INDIRECT: u16 = 1 << 2;

/// A part of a buffer: contiguous for the guest, and RAM throughout when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Guest address.
    pub addr: u64,
    /// Bytes; never 0.
    pub len: u32,
}

/// A buffer that was taken from a ring. It goes back by [`super::Ring::push`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// What the driver knows it by.
    pub(super) id: u16,
    /// Descriptors it takes in a packed ring.
    pub(super) descriptors: u16,
    readable: Vec<Part>,
    writable: Vec<Part>,
}

impl Element {
    /// A buffer of a split ring that was taken elsewhere.
    ///
    /// # Errors
    /// It has too many parts, or one that is no RAM.
    pub fn resumed(ram: &GuestRam, id: u16, readable: &[Part], writable: &[Part]) -> Result<Self, RingError> {
        let mut element = Self { id, ..Self::default() };
        for (parts, flags) in [(readable, 0), (writable, WRITE)] {
            for part in parts {
                let descriptor = RawDescriptor {
                    addr: part.addr,
                    len: part.len,
                    third: 0,
                    fourth: 0,
                };
                element.add(ram, descriptor, flags)?;
            }
        }
        Ok(element)
    }

    /// What the driver knows it by.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What the device reads.
    #[must_use]
    pub fn readable(&self) -> &[Part] {
        &self.readable
    }

    /// What the device writes.
    #[must_use]
    pub fn writable(&self) -> &[Part] {
        &self.writable
    }

    /// Bytes that the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(|part| u64::from(part.len)).sum()
    }

    /// Bytes that the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(|part| u64::from(part.len)).sum()
    }

    /// Reads from readable byte `offset` on, as much as there is room for in `data`. Returns how much that was.
    ///
    /// # Errors
    /// What was RAM is none any more.
    pub fn read(&self, ram: &GuestRam, offset: u64, data: &mut [u8]) -> Result<usize, RingError> {
        let (mut skip, mut done) = (offset, 0);
        for part in &self.readable {
            let len = u64::from(part.len);
            if skip >= len {
                skip -= len;
                continue;
            }
            let rest = data.get_mut(done..).unwrap_or_default();
            let here = usize::try_from(len - skip).unwrap_or(usize::MAX).min(rest.len());
            if here == 0 {
                break;
            }
            ram.read_slice(&mut rest[..here], GuestAddress(part.addr + skip))
                .map_err(|_| RingError::Buffer)?;
            (skip, done) = (0, done + here);
        }
        Ok(done)
    }

    /// Writes as much of `data` as there is room for, from the writable byte `offset` on. Returns how many bytes of the buffer
    /// that is, counted from its first writable one.
    ///
    /// # Errors
    /// What was RAM is none any more.
    pub fn write(&self, ram: &GuestRam, offset: u32, data: &[u8]) -> Result<u32, RingError> {
        let (mut skip, mut rest) = (offset, data);
        let mut end = 0_u32;
        for part in &self.writable {
            let before = skip.min(part.len);
            skip -= before;
            let room = usize::try_from(part.len - before).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            ram.write_slice(now, GuestAddress(part.addr + u64::from(before)))
                .map_err(|_| RingError::Buffer)?;
            rest = later;
            let len = u32::try_from(now.len()).unwrap_or(u32::MAX);
            end = end.saturating_add(before).saturating_add(len);
        }
        Ok(end)
    }

    /// Adds a part.
    pub(super) fn add(&mut self, ram: &GuestRam, descriptor: RawDescriptor, flags: u16) -> Result<(), RingError> {
        if descriptor.len == 0 {
            return Err(RingError::Empty);
        }
        if self.readable.len() + self.writable.len() >= MAX_SIZE.into() {
            return Err(RingError::TooMany);
        }
        let part = Part {
            addr: descriptor.addr,
            len: descriptor.len,
        };
        let len = usize::try_from(part.len).map_err(|_| RingError::Buffer)?;
        let fits = part.addr.checked_add(u64::from(part.len)).is_some();
        if !fits || !ram.check_range(GuestAddress(part.addr), len) {
            return Err(RingError::Buffer);
        }
        if flags & WRITE != 0 {
            self.writable.push(part);
        } else if self.writable.is_empty() {
            self.readable.push(part);
        } else {
            return Err(RingError::Order);
        }
        Ok(())
    }
}

/// A table of descriptors, and how many may still be followed in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) table: u64,
    pub(super) count: u32,
    left: u32,
}

impl Limits {
    pub(super) fn new(table: u64, count: u32) -> Self {
        Self {
            table,
            count,
            left: count,
        }
    }

    /// The table that an indirect descriptor points to.
    pub(super) fn indirect(descriptor: RawDescriptor, flags: u16) -> Result<Self, RingError> {
        let len = u64::from(descriptor.len);
        if len == 0 || len % DESCRIPTOR != 0 || flags & NEXT != 0 {
            return Err(RingError::IndirectTable);
        }
        let count = u32::try_from(len / DESCRIPTOR).map_err(|_| RingError::IndirectTable)?;
        Ok(Self::new(descriptor.addr, count))
    }

    /// Reads a descriptor, one of those that may be followed.
    pub(super) fn read(&mut self, ram: &GuestRam, index: u32) -> Result<RawDescriptor, RingError> {
        self.left = self.left.checked_sub(1).ok_or(RingError::Looped)?;
        read_descriptor(ram, self.table, index.into())
    }
}
