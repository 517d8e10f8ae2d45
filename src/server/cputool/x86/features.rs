//! Sets of features: how they relate, and which model comes close to one.

use std::cmp::Reverse;

use crate::cpu::x86::{Cpu, Cpus, Features, Model};

/// The named features of a set, in the order of feature words. Some names stand for two bits, and are told once.
pub(super) fn named(features: &Features) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for (word, bit) in features.bits() {
        let name = word.bit_name(bit);
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How two sets relate.
pub(super) struct Relation {
    /// How the first relates to the second, in QMP's words.
    pub(super) result: &'static str,
    /// The features that only the first has.
    pub(super) only_a: Vec<&'static str>,
    /// The features that only the second has.
    pub(super) only_b: Vec<&'static str>,
}

/// How `a` relates to `b`.
pub(super) fn relation(a: &Features, b: &Features) -> Relation {
    let (only_a, only_b) = (named(&minus(a, b)), named(&minus(b, a)));
    let result = match (only_a.is_empty(), only_b.is_empty()) {
        (true, true) => "identical",
        (false, true) => "superset",
        (true, false) => "subset",
        (false, false) => "incompatible",
    };
    Relation { result, only_a, only_b }
}

/// The named model with the most features that all CPUs have, and the features that all have on top of it.
pub(super) fn baseline(cpus: &Cpus<'_>, all: &[Cpu]) -> (Model, Vec<&'static str>) {
    let Some((first, rest)) = all.split_first() else {
        return (Model::Base, Vec::new());
    };
    let shared = rest
        .iter()
        .fold(*first.features(), |shared, cpu| intersection(&shared, cpu.features()));
    let fitting = candidates(cpus).filter(|(_, features)| named(&minus(features, &shared)).is_empty());
    // The first of several: QMP's order has newer names first.
    let best = fitting.max_by_key(|(_, features)| named(features).len());
    let (model, features) = best.unwrap_or((Model::Base, Features::default()));
    (model, named(&minus(&shared, &features)))
}

/// The model that runs and shares the most features with a CPU; of several the one with the fewest others.
pub(super) fn nearest(cpus: &Cpus<'_>, wanted: &Cpu) -> Option<Model> {
    let runs = candidates(cpus).filter(|(model, _)| cpus.unavailable_features(*model).is_empty());
    let closeness = |features: &Features| {
        let shared = named(&intersection(features, wanted.features())).len();
        (shared, Reverse(named(features).len()))
    };
    runs.max_by_key(|(_, features)| closeness(features))
        .map(|(model, _)| model)
}

/// Models with features of their own, by the names that stay what they are.
fn candidates<'c>(cpus: &'c Cpus<'_>) -> impl Iterator<Item = (Model, Features)> + 'c {
    let own = |model: &Model| matches!(model, Model::Named { .. }) && model.alias_of(cpus.compat()).is_none();
    let features = |model| Some((model, *cpus.expanded(model).ok()?.features()));
    cpus.models().filter(own).filter_map(features)
}

fn minus(a: &Features, b: &Features) -> Features {
    Features(std::array::from_fn(|word| a.0[word] & !b.0[word]))
}

fn intersection(a: &Features, b: &Features) -> Features {
    Features(std::array::from_fn(|word| a.0[word] & b.0[word]))
}
