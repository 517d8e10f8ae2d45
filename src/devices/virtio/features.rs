//! Feature bits (virtio 1.2, 6).

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// A set of feature bits. Drivers see it in words of 32 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u128);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);
    /// The device interrupts whenever a queue runs empty. Of the legacy interface only.
    pub const NOTIFY_ON_EMPTY: Self = Self::bit(24);
    /// Buffers may be divided in any way. Of the legacy interface only.
    pub const ANY_LAYOUT: Self = Self::bit(27);
    /// Buffers may be described by tables.
    pub const INDIRECT_DESC: Self = Self::bit(28);
    /// Each side says at which index it wants to hear of the other.
    pub const EVENT_IDX: Self = Self::bit(29);
    /// The device has lost its state once. Not negotiated; a bit that the legacy interface must never acknowledge.
    pub const BAD_FEATURE: Self = Self::bit(30);
    /// The driver knows virtio 1.0 or later.
    pub const VERSION_1: Self = Self::bit(32);
    /// Addresses are those of the platform, through an IOMMU if there is one.
    pub const ACCESS_PLATFORM: Self = Self::bit(33);
    /// Packed rings.
    pub const RING_PACKED: Self = Self::bit(34);
    /// Single queues can be reset.
    pub const RING_RESET: Self = Self::bit(40);
    /// Those that the legacy interface has no meaning for.
    pub const MODERN_ONLY: Self = Self(!0 << 32);
    /// Those that only drivers of the legacy interface see.
    pub const LEGACY_ONLY: Self = Self(1 << 24 | 1 << 27 | 1 << 30);

    /// A single bit, below 128.
    #[must_use]
    pub const fn bit(number: u32) -> Self {
        Self(1 << number)
    }

    /// The 32 bits from `32 * word` on; none beyond word 3.
    #[must_use]
    pub const fn word(self, word: u32) -> u32 {
        match word {
            0..4 => (self.0 >> (32 * word)) as u32,
            _ => 0,
        }
    }

    /// The same set with the 32 bits from `32 * word` on replaced; unchanged beyond word 3.
    #[must_use]
    pub const fn with_word(self, word: u32, bits: u32) -> Self {
        match word {
            0..4 => Self(self.0 & !(0xffff_ffff << (32 * word)) | (bits as u128) << (32 * word)),
            _ => self,
        }
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These, and `other` if `on`.
    #[must_use]
    pub const fn with(self, other: Self, on: bool) -> Self {
        if on { Self(self.0 | other.0) } else { self }
    }
}

impl BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Features {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Features {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_see_four_words() {
        let features = Features::VERSION_1 | Features::EVENT_IDX | Features::bit(66);
        let words: Vec<_> = (0..5).map(|word| features.word(word)).collect();
        assert_eq!(words, [1 << 29, 1, 4, 0, 0]);
        assert_eq!(features.with_word(2, 0), Features::VERSION_1 | Features::EVENT_IDX);
        assert_eq!(features.with_word(4, 7), features);
        assert!(!features.contains(Features::RING_PACKED));
    }
}
