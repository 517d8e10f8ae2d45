//! How a device answers accesses: which sizes it takes, and what it does with them.

/// Answers a guest's accesses to a region. Called on vCPU threads, several at a time.
pub trait IoHandler: Send + Sync {
    /// Fills `data` (1, 2, 4 or 8 bytes) from `offset` in the region on.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes `data` (1, 2, 4 or 8 bytes) for `offset` in the region.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Sizes of accesses, in bytes: powers of two up to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest.
    pub min: u8,
    /// The largest.
    pub max: u8,
    /// Whether offsets need not be multiples of the size.
    pub unaligned: bool,
}

/// What a region takes from the guest, and how its handler wants to see it.
///
/// An access of a size that is not valid does not reach the handler: it reads as zero and writes nothing. A valid access
/// that the handler does not know is split into, or widened to, ones that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What the guest may do. An access that is longer than the largest is made in several.
    pub valid: Sizes,
    /// What the handler sees.
    pub handled: Sizes,
}

impl Access {
    /// Whatever the guest does reaches the handler as it is.
    pub const ANY: Self = Self {
        valid: sizes(1, 8),
        handled: sizes(1, 8),
    };
    /// The guest may use up to four bytes, the handler sees one after the other.
    pub const BYTES: Self = Self {
        valid: sizes(1, 4),
        handled: sizes(1, 1),
    };
    /// Up to four bytes at once, as they are.
    pub const UP_TO_FOUR: Self = Self {
        valid: sizes(1, 4),
        handled: sizes(1, 4),
    };

    /// Bytes of the next part of an access of `len` bytes at `offset`.
    pub(super) fn part(self, offset: u64, len: usize) -> usize {
        let mut max = usize::from(self.valid.max);
        if !self.handled.unaligned && offset != 0 {
            max = max.min(1 << offset.trailing_zeros().min(3));
        }
        let part = len.min(max).max(1);
        // A power of two.
        1 << part.ilog2()
    }

    fn is_valid(self, offset: u64, len: usize) -> bool {
        let is_aligned = self.valid.unaligned || offset % (len as u64) == 0;
        is_aligned && (usize::from(self.valid.min)..=usize::from(self.valid.max)).contains(&len)
    }

    /// Bytes the handler sees at once of an access of `len` bytes.
    fn handled_size(self, len: usize) -> usize {
        len.clamp(usize::from(self.handled.min), usize::from(self.handled.max))
    }

    /// A read of one part.
    pub(super) fn read(self, handler: &dyn IoHandler, offset: u64, data: &mut [u8]) {
        if !self.is_valid(offset, data.len()) {
            return data.fill(0);
        }
        let size = self.handled_size(data.len());
        if size <= data.len() {
            for (chunk, at) in data.chunks_mut(size).zip((offset..).step_by(size)) {
                handler.read(at, chunk);
            }
            return;
        }
        let mut wide = [0; 8];
        handler.read(offset, &mut wide[..size]);
        data.copy_from_slice(&wide[..data.len()]);
    }

    /// A write of one part.
    pub(super) fn write(self, handler: &dyn IoHandler, offset: u64, data: &[u8]) {
        if !self.is_valid(offset, data.len()) {
            return;
        }
        let size = self.handled_size(data.len());
        if size <= data.len() {
            for (chunk, at) in data.chunks(size).zip((offset..).step_by(size)) {
                handler.write(at, chunk);
            }
            return;
        }
        let mut wide = [0; 8];
        wide[..data.len()].copy_from_slice(data);
        handler.write(offset, &wide[..size]);
    }
}

const fn sizes(min: u8, max: u8) -> Sizes {
    Sizes {
        min,
        max,
        unaligned: false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes what it sees; reads as the offset of each byte.
    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, usize)>>);

    impl IoHandler for Log {
        fn read(&self, offset: u64, data: &mut [u8]) {
            self.0.lock().unwrap().push((offset, data.len()));
            for (byte, at) in data.iter_mut().zip(offset..) {
                *byte = u8::try_from(at).unwrap();
            }
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.len()));
        }
    }

    fn seen(access: Access, offset: u64, len: usize) -> (Vec<(u64, usize)>, Vec<u8>) {
        let log = Log::default();
        let mut data = vec![0xaa; len];
        access.read(&log, offset, &mut data);
        let read = std::mem::take(&mut *log.0.lock().unwrap());
        access.write(&log, offset, &vec![0; len]);
        assert_eq!(read, *log.0.lock().unwrap(), "reads and writes are split alike");
        (read, data)
    }

    #[test]
    fn accesses_are_split_for_a_handler_of_bytes() {
        assert_eq!(
            seen(Access::BYTES, 4, 4),
            (vec![(4, 1), (5, 1), (6, 1), (7, 1)], vec![4, 5, 6, 7])
        );
    }

    #[test]
    fn accesses_are_widened_for_a_handler_of_words() {
        let words = Access {
            handled: sizes(4, 4),
            ..Access::UP_TO_FOUR
        };
        assert_eq!(seen(words, 8, 2), (vec![(8, 4)], vec![8, 9]));
    }

    #[test]
    fn what_is_not_valid_reads_as_zero_and_reaches_nobody() {
        let words = Access {
            valid: sizes(4, 4),
            handled: sizes(4, 4),
        };
        assert_eq!(seen(words, 8, 2), (vec![], vec![0, 0]));
        assert_eq!(seen(words, 6, 4), (vec![], vec![0; 4]));
        assert_eq!(seen(words, 8, 4).0, [(8, 4)]);
    }

    #[test]
    fn long_and_odd_accesses_come_in_parts() {
        assert_eq!(Access::UP_TO_FOUR.part(0, 8), 4);
        assert_eq!(Access::UP_TO_FOUR.part(0, 3), 2);
        assert_eq!(Access::UP_TO_FOUR.part(2, 4), 2);
        assert_eq!(Access::UP_TO_FOUR.part(1, 4), 1);
        let unaligned = Access {
            handled: Sizes {
                unaligned: true,
                ..Access::UP_TO_FOUR.handled
            },
            ..Access::UP_TO_FOUR
        };
        assert_eq!(unaligned.part(1, 4), 4);
    }
}
