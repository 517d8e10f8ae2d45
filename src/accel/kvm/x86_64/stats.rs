//! KVM's binary statistics: `struct kvm_stats_header`, descriptors and values (Documentation/virt/kvm/api.rst, 4.133).

use std::{
    fs::File,
    io::{self, Error, ErrorKind},
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use super::ioctls;
use crate::accel::{Stat, StatKind, StatUnit, StatValue};

/// Size of `struct kvm_stats_header`.
const HEADER_SIZE: usize = 24;
/// Size of `struct kvm_stats_desc` without the name.
const DESC_SIZE: usize = 16;
/// More statistics, longer names or histograms than any kernel has are taken for nonsense.
const SANE: u32 = 65_536;

/// Reads all statistics of a VM or vCPU.
pub(super) fn read(of: &impl AsRawFd) -> io::Result<Vec<StatValue>> {
    read_file(&ioctls::stats_file(of)?)
}

fn read_file(file: &File) -> io::Result<Vec<StatValue>> {
    let header = read_exact(file, 0, HEADER_SIZE)?;
    let (name_size, count) = (sane(word(&header, 4)?)?, sane(word(&header, 8)?)?);
    let (desc_offset, data_offset) = (u64::from(word(&header, 16)?), u64::from(word(&header, 20)?));
    let record = DESC_SIZE + name_size;
    let descs = read_exact(file, desc_offset, record * count)?;
    descs
        .chunks_exact(record)
        .map(|desc| {
            let (stat, len, offset) = parse_desc(desc)?;
            let values = read_exact(file, data_offset + offset, 8 * len)?;
            let values = values
                .chunks_exact(8)
                .filter_map(|value| value.try_into().ok().map(u64::from_ne_bytes));
            Ok(StatValue {
                stat,
                values: values.collect(),
            })
        })
        .collect()
}

/// One descriptor: the statistic, how many values it has and where they are in the data block.
fn parse_desc(desc: &[u8]) -> io::Result<(Stat, usize, u64)> {
    let flags = word(desc, 0)?;
    let exponent = i16::from_ne_bytes(half(desc, 4)?.to_ne_bytes());
    let len = half(desc, 6)?;
    let offset = word(desc, 8)?;
    let bucket_size = word(desc, 12)?;
    let kind = match flags & 0xf {
        0 => StatKind::Cumulative,
        1 => StatKind::Instant,
        2 => StatKind::Peak,
        3 => StatKind::LinearHistogram { bucket_size },
        4 => StatKind::Log2Histogram,
        other => return Err(malformed(format!("unknown type {other}"))),
    };
    let unit = match flags >> 4 & 0xf {
        0 => StatUnit::None,
        1 => StatUnit::Bytes,
        2 => StatUnit::Seconds,
        3 => StatUnit::Cycles,
        4 => StatUnit::Boolean,
        other => return Err(malformed(format!("unknown unit {other}"))),
    };
    let name = desc.get(DESC_SIZE..).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let stat = Stat {
        name: String::from_utf8_lossy(name).into_owned(),
        kind,
        unit,
        base: if flags >> 8 & 0xf == 0 { 10 } else { 2 },
        exponent,
    };
    Ok((stat, usize::from(len), u64::from(offset)))
}

fn read_exact(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_ne_bytes).ok_or_else(|| malformed("short record"))
}

fn half(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_ne_bytes).ok_or_else(|| malformed("short record"))
}

fn sane(number: u32) -> io::Result<usize> {
    if number > SANE {
        return Err(malformed(format!("{number} is out of range")));
    }
    usize::try_from(number).map_err(Error::other)
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("KVM statistics: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(flags: u32, exponent: i16, len: u16, offset: u32, bucket: u32, name: &str) -> Vec<u8> {
        let mut bytes = flags.to_ne_bytes().to_vec();
        bytes.extend(exponent.to_ne_bytes());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(bucket.to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(DESC_SIZE + 48, 0);
        bytes
    }

    #[test]
    fn nanoseconds_are_seconds_with_an_exponent() {
        let (stat, len, offset) = parse_desc(&desc(0x20, -9, 1, 8, 0, "halt_poll_success_ns")).unwrap();
        assert_eq!(stat.name, "halt_poll_success_ns");
        assert_eq!((stat.kind, stat.unit), (StatKind::Cumulative, StatUnit::Seconds));
        assert_eq!((stat.base, stat.exponent, len, offset), (10, -9, 1, 8));
    }

    #[test]
    fn histograms_have_several_values() {
        let (stat, len, _) = parse_desc(&desc(0x4 | 0x20, -9, 32, 0, 0, "hist")).unwrap();
        assert_eq!((stat.kind, len), (StatKind::Log2Histogram, 32));
    }

    #[test]
    fn an_unknown_type_is_an_error_and_no_panic() {
        assert!(parse_desc(&desc(0xf, 0, 1, 0, 0, "x")).is_err());
        assert!(parse_desc(&[0; 7]).is_err());
    }
}
