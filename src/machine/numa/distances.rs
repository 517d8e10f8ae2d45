//! `-numa dist`: how far nodes are from each other (ACPI 6.5, 5.2.17).

use std::collections::BTreeMap;

use super::error::NumaError;

/// Distance of a node to itself, and the least there is.
pub(super) const LOCAL: u8 = 10;
/// Distance to another node when none are given.
const REMOTE: u8 = 20;

/// Distances by the two nodes they are between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distances(BTreeMap<(u16, u16), u8>);

impl Distances {
    /// Whether any were given.
    pub(super) fn are_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// Sets one; the last counts.
    pub(super) fn set(&mut self, from: u16, to: u16, distance: u8) {
        self.0.insert((from, to), distance);
    }

    /// From one node to another.
    pub(super) fn get(&self, from: u16, to: u16) -> u8 {
        match (from == to, self.0.get(&(from, to))) {
            (true, _) => LOCAL,
            (false, given) => given.copied().unwrap_or(REMOTE),
        }
    }

    /// Where some are given, each pair of the nodes up to `last` needs one in at least one direction, which then holds
    /// for both; as soon as one pair has two different ones, all pairs need both.
    pub(super) fn complete(&mut self, last: u16) -> Result<(), NumaError> {
        if !self.are_given() {
            return Ok(());
        }
        let pairs = || (0..=last).flat_map(|from| (from + 1..=last).map(move |to| (from, to)));
        let both = |(from, to)| (self.0.get(&(from, to)), self.0.get(&(to, from)));
        if let Some((from, to)) = pairs().find(|pair| both(*pair) == (None, None)) {
            return Err(NumaError::NoDistance { from, to });
        }
        let is_asymmetrical = pairs().any(|pair| matches!(both(pair), (Some(there), Some(back)) if there != back));
        let is_one_way = pairs().any(|pair| matches!(both(pair), (None, _) | (_, None)));
        if is_asymmetrical && is_one_way {
            return Err(NumaError::OneWay);
        }
        let back: Vec<_> = self.0.iter().map(|((from, to), far)| ((*to, *from), *far)).collect();
        for (pair, distance) in back {
            self.0.entry(pair).or_insert(distance);
        }
        Ok(())
    }
}
