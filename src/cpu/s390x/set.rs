//! Sets of features.

use super::feature::{self, FeatureId};
use super::tables;

/// Words of 64 bits in a set.
const WORDS: usize = 7;

/// A set of features as bits; the order of the features is that of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeatureSet(pub(super) [u64; WORDS]);

impl FeatureSet {
    /// The set without a feature.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Every feature of this release.
    #[must_use]
    pub const fn all() -> Self {
        tables::CURRENT
    }

    /// The set of these names, groups allowed; `Err` with the first name that is neither.
    ///
    /// # Errors
    /// The unknown name.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut set = Self::EMPTY;
        for name in names {
            match feature::find(name) {
                Some(feature::Switch::Feature(id)) => set.insert(id),
                Some(feature::Switch::Group(group)) => set = set.union(&group.members),
                None => return Err(name),
            }
        }
        Ok(set)
    }

    /// Whether `id` is in the set.
    #[must_use]
    pub const fn contains(&self, id: FeatureId) -> bool {
        self.0[id.index() / 64] >> (id.index() % 64) & 1 == 1
    }

    /// Whether the feature of this name is in the set; false for unknown names.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        matches!(feature::find(name), Some(feature::Switch::Feature(id)) if self.contains(id))
    }

    /// Adds `id`.
    pub const fn insert(&mut self, id: FeatureId) {
        self.0[id.index() / 64] |= 1 << (id.index() % 64);
    }

    /// Takes `id` out.
    pub const fn remove(&mut self, id: FeatureId) {
        self.0[id.index() / 64] &= !(1 << (id.index() % 64));
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether all of `self` is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.minus(other).is_empty()
    }

    /// Whether some feature is in both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether no feature is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// How many features are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The features in table order.
    pub fn iter(&self) -> impl Iterator<Item = FeatureId> + use<> {
        self.0.into_iter().enumerate().flat_map(|(place, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                FeatureId::at(place * 64 + bit)
            })
        })
    }

    /// The names as replies give them: groups that are wholly in the set first, in group order, then what is left, in feature order.
    #[must_use]
    pub fn fold(&self) -> Vec<&'static str> {
        let mut left = *self;
        let mut names = Vec::new();
        for group in &tables::GROUPS {
            if group.members.is_subset(&left) {
                left = left.minus(&group.members);
                names.push(group.name);
            }
        }
        names.extend(left.iter().map(FeatureId::name));
        names
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|word| combine(self.0[word], other.0[word])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_group_is_named_and_a_half_one_is_spelt_out() {
        let whole = FeatureSet::from_names(["vx", "msa5", "esan3"]).unwrap();
        assert_eq!(whole.fold(), ["msa5", "esan3", "vx"]);
        let mut half = whole;
        half.remove(FeatureId::named("msa5-base").unwrap());
        assert_eq!(half.fold(), ["esan3", "vx", "ppno-sha-512-drng"]);
    }

    #[test]
    fn walking_a_set_gives_back_its_members_in_order() {
        let all = FeatureSet::all();
        assert_eq!(all.len(), 394);
        let ids: Vec<usize> = all.iter().map(FeatureId::index).collect();
        assert_eq!(ids.len(), 394);
        assert!(ids.is_sorted());
        assert_eq!(FeatureSet::from_names(["esan3", "no-such"]), Err("no-such"));
    }
}
