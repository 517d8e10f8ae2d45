//! A buffer that was taken from a ring and not given back, in saved state: a struct of QEMU's as it lies in its memory.

use crate::devices::virtio::queue::{Element, MAX_SIZE, Part};
use crate::vmstate::{Fields, StateError};

/// Parts that there is room for.
const PARTS: usize = MAX_SIZE as usize;
/// Offsets of the numbers of parts, of their addresses, and of their lengths; what the device writes comes first.
const READABLE: usize = 4;
const WRITABLE: usize = 8;
const ADDRESSES: usize = 16;
const LENGTHS: usize = ADDRESSES + 2 * 8 * PARTS;
/// Bytes of a length with the address on the host that comes before it.
const VECTOR: usize = 16;
const LEN: usize = LENGTHS + 2 * VECTOR * PARTS;

/// A buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedElement {
    /// What the driver knows it by.
    pub id: u16,
    /// What the device reads.
    pub readable: Vec<Part>,
    /// What the device writes.
    pub writable: Vec<Part>,
}

impl SavedElement {
    /// The buffer that was taken.
    #[must_use]
    pub fn of(element: &Element) -> Self {
        Self {
            id: element.id(),
            readable: element.readable().to_vec(),
            writable: element.writable().to_vec(),
        }
    }

    /// Visits it.
    ///
    /// # Errors
    /// The data end before, or there are more parts than a buffer has.
    pub fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut bytes = vec![0; LEN];
        put(&mut bytes, 0, self.id.into(), 4);
        put(&mut bytes, READABLE, self.readable.len() as u64, 4);
        put(&mut bytes, WRITABLE, self.writable.len() as u64, 4);
        for (parts, place) in [(&self.writable, 0), (&self.readable, PARTS)] {
            for (part, index) in parts.iter().zip(place..place + PARTS) {
                put(&mut bytes, ADDRESSES + 8 * index, part.addr, 8);
                put(&mut bytes, LENGTHS + VECTOR * index + 8, part.len.into(), 8);
            }
        }
        fields.buffer("element", &mut bytes)?;
        let id = take(&bytes, 0, 4);
        self.id = u16::try_from(id).map_err(|_| StateError::out_of_range("index", id))?;
        self.readable = parts(&bytes, READABLE, PARTS)?;
        self.writable = parts(&bytes, WRITABLE, 0)?;
        Ok(())
    }
}

/// As many parts as is said at `count`, from place `first` on.
fn parts(bytes: &[u8], count: usize, first: usize) -> Result<Vec<Part>, StateError> {
    let count = take(bytes, count, 4);
    let wanted = usize::try_from(count).ok().filter(|count| *count <= PARTS);
    let wanted = wanted.ok_or_else(|| StateError::out_of_range("parts", count))?;
    let part = |index: usize| {
        let len = take(bytes, LENGTHS + VECTOR * index + 8, 8);
        let len = u32::try_from(len).ok().filter(|len| *len != 0);
        let len = len.ok_or_else(|| StateError::out_of_range("length", 0_u64))?;
        Ok(Part {
            addr: take(bytes, ADDRESSES + 8 * index, 8),
            len,
        })
    };
    (first..first + wanted).map(part).collect()
}

fn put(bytes: &mut [u8], at: usize, value: u64, len: usize) {
    bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

fn take(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut value = [0; 8];
    value[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(value)
}
