//! Sets of features: how they relate, and which model comes close to one.

use std::cmp::Reverse;

use crate::cpu::x86::{Cpu, Cpus, Features, Host, Model, PropValue};

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

/// In QMP's words, how the first relates to the second by what only each of them has.
pub(super) fn relation(only_a: &[&str], only_b: &[&str]) -> &'static str {
    match (only_a.is_empty(), only_b.is_empty()) {
        (true, true) => "identical",
        (false, true) => "superset",
        (true, false) => "subset",
        (false, false) => "incompatible",
    }
}

/// What a baseline is to suit.
pub(super) struct Wanted<'h> {
    /// All models on each of the hosts.
    pub(super) hosts: Vec<(Cpus<'h>, &'h Host)>,
    /// CPUs that must have all features of the baseline.
    pub(super) cpus: Vec<Cpu>,
    /// The vendor of all of them, if they have one.
    pub(super) vendor: Option<String>,
}

/// A named model and how it falls short.
pub(super) struct Choice {
    pub(super) model: Model,
    pub(super) features: Features,
    /// The features that some host or CPU lacks, to be switched off.
    pub(super) lacking: Vec<&'static str>,
}

impl Wanted<'_> {
    /// The best of the named models: first one that runs everywhere as it is, else the one that lacks least; of the right
    /// vendor; of the nearest family; with the most features. Of several the first: QMP's order has newer names first.
    pub(super) fn best(&self, all: &Cpus<'_>) -> Option<Choice> {
        let own = all.models().filter(|model| is_own(*model, all));
        let right = own.filter(|model| self.vendor.is_none() || model.vendor() == self.vendor.as_deref());
        let choices = right.filter_map(|model| self.choice(model, all));
        choices.min_by_key(|choice| {
            let more = named(&choice.features).len() - choice.lacking.len().min(named(&choice.features).len());
            (choice.lacking.len(), self.distance(choice.model), Reverse(more))
        })
    }

    fn choice(&self, model: Model, all: &Cpus<'_>) -> Option<Choice> {
        let features = *self
            .hosts
            .first()
            .map_or(all, |(cpus, _)| cpus)
            .expanded(model)
            .ok()?
            .features();
        let mut lacking: Vec<&'static str> = Vec::new();
        for (cpus, _) in &self.hosts {
            let missing = cpus.unavailable_features(model);
            lacking.extend(missing.into_iter().filter(|name| !name.is_empty()));
        }
        for cpu in &self.cpus {
            lacking.extend(named(&minus(&features, cpu.features())));
        }
        lacking.sort_unstable();
        lacking.dedup();
        Some(Choice {
            model,
            features,
            lacking,
        })
    }

    /// How far the family of a model is from those that are to run it.
    fn distance(&self, model: Model) -> u32 {
        let family = model.family().unwrap_or_default();
        let hosts = self.hosts.iter().map(|(_, host)| host.signature().0);
        let cpus = self.cpus.iter().map(|cpu| match cpu.get("family") {
            Some(PropValue::Uint(family)) => u32::try_from(family).unwrap_or_default(),
            _ => 0,
        });
        hosts.chain(cpus).map(|wanted| wanted.abs_diff(family)).sum()
    }

    /// The features that every host offers to its own model, and every CPU has.
    pub(super) fn shared(&self) -> Features {
        let of_hosts = self
            .hosts
            .iter()
            .filter_map(|(cpus, _)| Some(*cpus.expanded(Model::Host).ok()?.features()));
        let of_cpus = self.cpus.iter().map(|cpu| *cpu.features());
        of_hosts
            .chain(of_cpus)
            .reduce(|a, b| intersection(&a, &b))
            .unwrap_or_default()
    }
}

/// The model that runs and shares the most features with a CPU; of several the one with the fewest others. One of the
/// host's vendor goes before all others.
pub(super) fn nearest(cpus: &Cpus<'_>, wanted: &Cpu, vendor: &str) -> Option<Model> {
    let own = cpus.models().filter(|model| is_own(*model, cpus));
    let runs = own.filter(|model| cpus.unavailable_features(*model).is_empty());
    let closeness = |model: &Model| {
        let features = cpus.expanded(*model).map(|cpu| *cpu.features()).unwrap_or_default();
        let shared = named(&intersection(&features, wanted.features())).len();
        (model.vendor() == Some(vendor), shared, Reverse(named(&features).len()))
    };
    runs.max_by_key(closeness)
}

/// Whether a model has features of its own, and its name stays what it is.
fn is_own(model: Model, all: &Cpus<'_>) -> bool {
    matches!(model, Model::Named { .. }) && model.alias_of(all.compat()).is_none()
}

/// The features of the first that the second lacks.
pub(super) fn minus(a: &Features, b: &Features) -> Features {
    Features(std::array::from_fn(|word| a.0[word] & !b.0[word]))
}

fn intersection(a: &Features, b: &Features) -> Features {
    Features(std::array::from_fn(|word| a.0[word] & b.0[word]))
}
