//! Requests: what a driver asks for, checked (virtio 1.2, 5.2.6).

use crate::block::IoBuffer;
use crate::devices::virtio::Taken;
use crate::mem::GuestRam;

/// What came of a request, as the driver reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    Failed = 1,
    Unsupported = 2,
}

/// Bytes of the header.
const HEADER: usize = 16;
/// Bytes that describe a range to be discarded or zeroed.
const RANGE: usize = 16;
/// A bit in the kind of a request that drivers once set, and that means nothing.
const BARRIER: u32 = 1 << 31;
/// Flag of a range: its room may be given back.
const UNMAP: u32 = 1;

/// A request that was taken from a queue.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) taken: Taken,
    pub(super) wants: Wants,
    /// Where the driver reads what came of it, counted from the first byte that the device may write.
    pub(super) status_at: u32,
}

/// What is asked for. Offsets are in sectors.
#[derive(Clone, Debug)]
pub(super) enum Wants {
    Read { sector: u64, into: IoBuffer },
    Write { sector: u64, from: IoBuffer },
    Flush,
    Identify { into: IoBuffer },
    Discard { sector: u64, count: u32 },
    Zeroes { sector: u64, count: u32, unmap: bool },
    Unknown,
}

/// A request that breaks the device: it has no header, or no place for what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("virtio-blk missing headers")]
    Headers,
    #[error("virtio-blk request outhdr too short")]
    Short,
    #[error("virtio: bogus descriptor or out of resources")]
    Memory,
}

impl Request {
    pub(super) fn parse(taken: Taken, ram: &GuestRam) -> Result<Self, Broken> {
        let element = taken.element();
        let parts = |parts: &[crate::devices::virtio::queue::Part]| {
            let ranges = parts.iter().map(|part| (part.addr, u64::from(part.len)));
            IoBuffer::of_guest(ram, ranges.collect::<Vec<_>>()).ok_or(Broken::Memory)
        };
        let (readable, writable) = (parts(element.readable())?, parts(element.writable())?);
        if readable.is_empty() || writable.is_empty() {
            return Err(Broken::Headers);
        }
        if readable.len() < HEADER {
            return Err(Broken::Short);
        }
        let status_at = u32::try_from(writable.len() - 1).map_err(|_| Broken::Memory)?;
        let mut header = [0; HEADER];
        readable.copy_to(&mut header);
        let into = writable.slice(0..writable.len() - 1);
        let from = readable.slice(HEADER..readable.len());
        Ok(Self {
            taken,
            wants: wants(&header, into, from),
            status_at,
        })
    }
}

fn wants(header: &[u8; HEADER], into: IoBuffer, from: IoBuffer) -> Wants {
    let sector = long(header, 8);
    match word(header, 0) & !BARRIER {
        0 => Wants::Read { sector, into },
        1 => Wants::Write { sector, from },
        4 => Wants::Flush,
        8 => Wants::Identify { into },
        kind @ (11 | 13) => range(kind, &from),
        _ => Wants::Unknown,
    }
}

/// A driver may describe one range, as the configuration says.
fn range(kind: u32, from: &IoBuffer) -> Wants {
    let mut bytes = [0; RANGE];
    if from.len() != RANGE {
        return Wants::Unknown;
    }
    from.copy_to(&mut bytes);
    let (sector, count, flags) = (long(&bytes, 0), word(&bytes, 8), word(&bytes, 12));
    match (kind, flags) {
        (11, 0) => Wants::Discard { sector, count },
        (13, 0 | UNMAP) => Wants::Zeroes {
            sector,
            count,
            unmap: flags == UNMAP,
        },
        _ => Wants::Unknown,
    }
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
