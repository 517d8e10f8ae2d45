//! Sets of features.

use super::tables::{Feature, WORD_COUNT, Word};

/// The features of a processor: the values of all feature words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub [u64; WORD_COUNT]);

impl Default for Features {
    fn default() -> Self {
        Self([0; WORD_COUNT])
    }
}

impl Features {
    /// Whether all bits of a feature are set.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.0[feature.word.0] & feature.mask == feature.mask
    }

    /// Whether any bit of a feature is set.
    #[must_use]
    pub fn has_any(&self, feature: Feature) -> bool {
        self.0[feature.word.0] & feature.mask != 0
    }

    /// Sets all bits of a feature.
    pub fn set(&mut self, feature: Feature) {
        self.0[feature.word.0] |= feature.mask;
    }

    /// Clears all bits of a feature.
    pub fn clear(&mut self, feature: Feature) {
        self.0[feature.word.0] &= !feature.mask;
    }

    /// A word.
    #[must_use]
    pub fn word(&self, word: Word) -> u64 {
        self.0[word.0]
    }

    /// The lower half of a word; all there is of those in CPUID.
    #[must_use]
    pub fn register(&self, word: Word) -> u32 {
        let [low, _] = halves(self.0[word.0]);
        low
    }

    /// Every bit that is set, in the order of the words.
    pub fn bits(&self) -> impl Iterator<Item = (Word, u32)> {
        let lowest_off = |value: &u64| Some(value & value.wrapping_sub(1));
        self.0.into_iter().enumerate().flat_map(move |(place, value)| {
            std::iter::successors(Some(value), lowest_off)
                .take_while(|rest| *rest != 0)
                .map(move |rest| (Word(place), rest.trailing_zeros()))
        })
    }
}

/// The lower and the upper half of a number.
pub(super) fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Whether the vendor is AMD.
pub(super) fn is_amd(vendor: [u8; 12]) -> bool {
    &vendor == b"AuthenticAMD"
}

/// Whether the vendor is Intel.
pub(super) fn is_intel(vendor: [u8; 12]) -> bool {
    &vendor == b"GenuineIntel"
}

/// Whether the vendor is Zhaoxin, by either of its names.
pub(super) fn is_zhaoxin(vendor: [u8; 12]) -> bool {
    &vendor == b"CentaurHauls" || &vendor == b"  Shanghai  "
}
