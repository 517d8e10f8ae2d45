//! The table of internal snapshots.

use super::header::MAX_L1_BYTES;
use super::{Geometry, ImageError};

/// Bytes of an entry before its parts of variable length.
const FIXED: usize = 40;
/// Most bytes of extra data, as in QEMU.
const MAX_EXTRA: usize = 1024;
/// Most bytes of a table, as in QEMU.
pub const MAX_TABLE: u64 = 64 << 20;

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its L1 table is.
    pub l1: u64,
    /// Entries of its L1 table.
    pub l1_entries: u32,
    /// Its number, as text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was taken: seconds and nanoseconds since 1970.
    pub date: (u32, u32),
    /// How long the guest had run, in nanoseconds.
    pub vm_clock: u64,
    /// Bytes of the machine's state in it.
    pub vm_state_size: u64,
    /// Bytes of the disk then; none in old images.
    pub disk_size: Option<u64>,
    /// Instructions that had been executed; none if nobody counted.
    pub icount: Option<u64>,
}

/// A table, or how much of it has been seen so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of it: the snapshots, and how many bytes the table is long.
    Whole(Vec<Snapshot>, u64),
    /// More bytes are needed.
    Partial,
}

/// Reads a table of `count` entries, which `bytes`, at `offset` in the file, are the beginning of.
///
/// # Errors
/// An entry cannot be right.
pub fn parse(bytes: &[u8], offset: u64, count: u32, geometry: Geometry) -> Result<Parsed, ImageError> {
    let mut snapshots = Vec::new();
    let mut at = 0;
    for index in 0..count {
        let Some(fixed) = bytes.get(at..at + FIXED) else {
            return Ok(Parsed::Partial);
        };
        let entry_at = offset + at as u64;
        let wrong = |what: &str| ImageError::corrupt(format!("Snapshot {index}: {what}"), entry_at);
        let (id_len, name_len) = (usize::from(u16_at(fixed, 12)), usize::from(u16_at(fixed, 14)));
        let extra_len = u32_at(fixed, 36) as usize;
        let (l1, l1_entries) = (u64_at(fixed, 0), u32_at(fixed, 8));
        if extra_len > MAX_EXTRA {
            return Err(wrong("too much extra metadata"));
        }
        if u64::from(l1_entries) * 8 > MAX_L1_BYTES {
            return Err(wrong("L1 table too large"));
        }
        if !geometry.is_aligned(l1) || l1 > i64::MAX as u64 - MAX_L1_BYTES || (l1 == 0 && l1_entries != 0) {
            return Err(wrong("L1 table offset invalid"));
        }
        let id_at = at + FIXED + extra_len;
        let end = id_at + id_len + name_len;
        let Some(variable) = bytes.get(at + FIXED..end) else {
            return Ok(Parsed::Partial);
        };
        let (extra, names) = variable.split_at(extra_len);
        let (id, name) = names.split_at(id_len);
        let extra_field = |at: usize| (extra.len() >= at + 8).then(|| u64_at(extra, at));
        snapshots.push(Snapshot {
            l1,
            l1_entries,
            id: String::from_utf8_lossy(id).into_owned(),
            name: String::from_utf8_lossy(name).into_owned(),
            date: (u32_at(fixed, 16), u32_at(fixed, 20)),
            vm_clock: u64_at(fixed, 24),
            vm_state_size: extra_field(0).unwrap_or(u64::from(u32_at(fixed, 32))),
            disk_size: extra_field(8),
            icount: extra_field(16).filter(|count| *count != u64::MAX),
        });
        at = end.next_multiple_of(8);
        if at as u64 > MAX_TABLE {
            return Err(wrong("snapshot table too large"));
        }
    }
    Ok(Parsed::Whole(snapshots, at as u64))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        cluster_bits: 16,
        refcount_order: 4,
        extended: false,
    };

    fn entry(l1: u64, name: &str, extra: &[u64]) -> Vec<u8> {
        let mut bytes = l1.to_be_bytes().to_vec();
        bytes.extend_from_slice(&1u32.to_be_bytes());
        bytes.extend_from_slice(&1u16.to_be_bytes());
        bytes.extend_from_slice(&(name.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&7u32.to_be_bytes());
        bytes.extend_from_slice(&8u32.to_be_bytes());
        bytes.extend_from_slice(&9u64.to_be_bytes());
        bytes.extend_from_slice(&10u32.to_be_bytes());
        bytes.extend_from_slice(&(extra.len() as u32 * 8).to_be_bytes());
        extra
            .iter()
            .for_each(|value| bytes.extend_from_slice(&value.to_be_bytes()));
        bytes.push(b'1');
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn tables_with_none_one_and_two_entries() {
        assert_eq!(parse(&[], 0, 0, GEOMETRY), Ok(Parsed::Whole(Vec::new(), 0)));
        let mut bytes = entry(0x5_0000, "before", &[1 << 33, 64 << 20, u64::MAX]);
        bytes.extend(entry(0x6_0000, "", &[]));
        let Ok(Parsed::Whole(found, length)) = parse(&bytes, 0, 2, GEOMETRY) else {
            panic!("not whole")
        };
        assert_eq!(length, bytes.len() as u64);
        assert_eq!((found[0].name.as_str(), found[0].id.as_str()), ("before", "1"));
        assert_eq!((found[0].vm_state_size, found[0].disk_size), (1 << 33, Some(64 << 20)));
        assert_eq!((found[0].icount, found[0].date, found[0].vm_clock), (None, (7, 8), 9));
        assert_eq!(
            (found[1].l1, found[1].vm_state_size, found[1].disk_size),
            (0x6_0000, 10, None)
        );
        for cut in 0..bytes.len() - 8 {
            let result = parse(&bytes[..cut], 0, 2, GEOMETRY);
            assert_eq!(result, Ok(Parsed::Partial), "{cut} bytes");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (at, value, text) in [
            (36, 1u32 << 20, "Snapshot 0: too much extra metadata"),
            (8, 1 << 30, "Snapshot 0: L1 table too large"),
            (4, 0x5_0200, "Snapshot 0: L1 table offset invalid"),
            (0, 1 << 31, "Snapshot 0: L1 table offset invalid"),
        ] {
            let mut bytes = entry(0x5_0000, "x", &[]);
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            let error = parse(&bytes, 0x1000, 1, GEOMETRY).unwrap_err();
            assert_eq!(error, ImageError::corrupt(text, 0x1000));
        }
    }
}
