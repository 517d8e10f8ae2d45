//! Words of a ring in guest memory.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress};

use super::RingError;
use crate::mem::GuestRam;

/// A descriptor as it lies in memory: address, length, and two words whose meaning depends on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawDescriptor {
    pub(super) addr: u64,
    pub(super) len: u32,
    /// Split: flags. Packed: buffer id.
    pub(super) third: u16,
    /// Split: next descriptor. Packed: flags.
    pub(super) fourth: u16,
}

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u64 = 16;

/// `base` and an offset in a structure that may lie at the very end of the address space.
pub(super) fn at(base: u64, offset: u64) -> Result<u64, RingError> {
    base.checked_add(offset).ok_or(RingError::Ring(base))
}

pub(super) fn load(ram: &GuestRam, addr: u64, order: Ordering) -> Result<u16, RingError> {
    let word: u16 = ram.load(GuestAddress(addr), order).map_err(|_| RingError::Ring(addr))?;
    Ok(u16::from_le(word))
}

pub(super) fn store(ram: &GuestRam, addr: u64, value: u16, order: Ordering) -> Result<(), RingError> {
    ram.store(value.to_le(), GuestAddress(addr), order)
        .map_err(|_| RingError::Ring(addr))
}

pub(super) fn read_descriptor(ram: &GuestRam, table: u64, index: u64) -> Result<RawDescriptor, RingError> {
    let addr = at(table, index * DESCRIPTOR)?;
    let mut bytes = [0_u8; 16];
    ram.read_slice(&mut bytes, GuestAddress(addr))
        .map_err(|_| RingError::Ring(addr))?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    Ok(RawDescriptor {
        addr: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        len: u32::from_le_bytes([i, j, k, l]),
        third: u16::from_le_bytes([m, n]),
        fourth: u16::from_le_bytes([o, p]),
    })
}

pub(super) fn write(ram: &GuestRam, addr: u64, bytes: &[u8]) -> Result<(), RingError> {
    ram.write_slice(bytes, GuestAddress(addr))
        .map_err(|_| RingError::Ring(addr))
}
