//! What QMP asks about models: definitions, expansion, comparison, baseline.

use serde_json::Value;

use super::compat::Compat;
use super::error::Error;
use super::feature;
use super::host::{Host, HostKind};
use super::lookup::{self, Wanted};
use super::model::{self, Definition, Model, Variant};
use super::order;
use super::set::FeatureSet;
use crate::target::Target;

/// CPU models as one process sees them: of its machine version, on its accelerator.
#[derive(Clone, Copy, Debug)]
pub struct Cpus<'a> {
    /// The rules of the machine version.
    pub compat: Compat,
    /// The accelerator in use; none if none could be used.
    pub host: Option<&'a Host>,
    /// Whether this binary could use KVM for S390 guests, if the host had it: `host` is then a known name everywhere.
    pub kvm_built_in: bool,
}

/// A model as the command argument `CpuModelInfo` gives it.
#[derive(Clone, Copy, Debug)]
pub struct ModelArgument<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its switches, not checked yet.
    pub props: Option<&'a Value>,
    /// The name of the argument it came as: `model`, `modela` or `modelb`.
    pub argument: &'a str,
}

/// Which features an expansion spells out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    /// Those that differ from the static variant of the model.
    Static,
    /// All.
    Full,
}

/// A model in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name of a static variant.
    pub name: &'static str,
    /// Switches in the order QEMU prints them; no `props` member in the reply if empty.
    pub props: Vec<(&'static str, bool)>,
}

/// The reply to `query-cpu-model-expansion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpansionInfo {
    /// The model.
    pub model: ModelInfo,
    /// Features that guests should not depend on: those the model has, or for a full expansion all.
    pub deprecated_props: Vec<&'static str>,
}

/// How one model relates to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Neither runs where the other does.
    Incompatible,
    /// The same.
    Identical,
    /// The first has more.
    Superset,
    /// The first has less.
    Subset,
}

impl CompareResult {
    /// The spelling in replies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incompatible => "incompatible",
            Self::Identical => "identical",
            Self::Superset => "superset",
            Self::Subset => "subset",
        }
    }
}

/// The reply to `query-cpu-model-comparison`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareInfo {
    /// How the first model relates to the second.
    pub result: CompareResult,
    /// What they differ in.
    pub responsible_properties: Vec<&'static str>,
}

/// One entry of the reply to `query-cpu-definitions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionInfo {
    /// The model's name.
    pub name: &'static str,
    /// Its QOM type.
    pub typename: &'static str,
    /// Whether it never changes.
    pub is_static: bool,
    /// Whether a guest with it can move between hosts that have it.
    pub migration_safe: bool,
    /// What keeps it from running on the accelerator in use; none if that is not known.
    pub unavailable_features: Option<Vec<&'static str>>,
    /// Today's name, if this is another one.
    pub alias_of: Option<&'static str>,
    /// What each probed accelerator says of it.
    pub accelerators: Vec<AcceleratorInfo>,
}

/// What one accelerator says of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceleratorInfo {
    /// The accelerator's name.
    pub name: String,
    /// Whether a guest with the model could run.
    pub runnable: bool,
    /// Whether this is the model that `host` stands for. Told under the machine type's own name only, so that one entry of the
    /// list has it for each accelerator.
    pub default: bool,
}

impl<'a> Cpus<'a> {
    /// The models of a machine version on an accelerator.
    #[must_use]
    pub const fn new(compat: Compat, host: Option<&'a Host>) -> Self {
        Self {
            compat,
            host,
            kvm_built_in: Target::S390x.is_native(),
        }
    }

    /// The model of this name before any switch: every name, alias, `qemu`, `max` and `host`.
    ///
    /// # Errors
    /// `UnknownDefinition`, `RequiresKvm` or `HostUnknown`.
    pub fn named(&self, name: &str) -> Result<Model, Error> {
        match name {
            "qemu" => Ok(self.qemu_model()),
            "max" => self.host_model(Variant::Max),
            "host" if self.has_host_type() => match self.host.map(|host| host.kind) {
                Some(HostKind::Hardware) => self.host_model(Variant::Host),
                _ => Err(Error::RequiresKvm(name.to_owned())),
            },
            _ => {
                let named = model::named(name).ok_or_else(|| Error::UnknownDefinition(name.to_owned()))?;
                Ok(self.start(named.definition, named.variant))
            }
        }
    }

    /// The model a query names, with its switches applied.
    ///
    /// # Errors
    /// As [`Cpus::named`] and [`Model::apply_props`].
    pub fn resolve(&self, argument: ModelArgument<'_>) -> Result<Model, Error> {
        let mut model = self.named(argument.name)?;
        model.apply_props(argument.props, argument.argument)?;
        Ok(model)
    }

    /// Answers `query-cpu-model-expansion`.
    ///
    /// # Errors
    /// As [`Cpus::resolve`].
    pub fn expand(&self, kind: Expansion, argument: ModelArgument<'_>) -> Result<ExpansionInfo, Error> {
        Ok(expand(&self.resolve(argument)?, kind))
    }

    /// Answers `query-cpu-model-comparison`.
    ///
    /// # Errors
    /// As [`Cpus::resolve`], for the first model that does not fit.
    pub fn compare(&self, a: ModelArgument<'_>, b: ModelArgument<'_>) -> Result<CompareInfo, Error> {
        let a = self.resolve(a)?;
        let b = self.resolve(b)?;
        Ok(compare(&a, &b))
    }

    /// Answers `query-cpu-model-baseline`.
    ///
    /// # Errors
    /// As [`Cpus::resolve`], or `NoBaseline`.
    pub fn baseline(&self, a: ModelArgument<'_>, b: ModelArgument<'_>) -> Result<ModelInfo, Error> {
        let a = self.resolve(a)?;
        let b = self.resolve(b)?;
        Ok(static_info(&baseline(&a, &b)?))
    }

    /// Answers `query-cpu-definitions`. `probed` is every accelerator that was asked, the one in use among them.
    ///
    /// Where [`cpu_desc_avail`] says no, the reply is an entry `host` with nothing but its name instead.
    #[must_use]
    pub fn definitions(&self, probed: &[Host]) -> Vec<DefinitionInfo> {
        let mut list = Vec::new();
        for variant in [Variant::Qemu, Variant::Max, Variant::Host] {
            list.extend(self.special_info(variant, probed));
        }
        for definition in model::definitions() {
            for variant in [Variant::Base, Variant::Default] {
                list.push(self.info(&self.start(definition, variant), probed));
            }
            for alias in definition.aliases() {
                let mut info = self.info(&self.start(definition, Variant::Default), probed);
                info.alias_of = Some(info.name);
                info.name = alias;
                for (accelerator, host) in info.accelerators.iter_mut().zip(offering(probed)) {
                    let of_host = host
                        .model
                        .is_some_and(|model| std::ptr::eq(model.definition, definition));
                    accelerator.default = of_host && alias == definition.seed_name;
                }
                list.push(info);
            }
        }
        list
    }

    /// The QOM type a guest's CPUs have when the command line names none: `default-cpu-type` in `query-machines`.
    #[must_use]
    pub fn default_cpu_type(&self) -> &'static str {
        match self.host.map(|host| host.kind) {
            Some(HostKind::Hardware) => super::types::HOST,
            _ => super::types::QEMU,
        }
    }

    /// Whether the name `host` means something in this process.
    #[must_use]
    pub fn has_host_type(&self) -> bool {
        self.kvm_built_in || self.host.is_some_and(|host| host.kind == HostKind::Hardware)
    }

    /// A definition's model before any switch.
    fn start(&self, definition: &'static Definition, variant: Variant) -> Model {
        let features = match variant {
            Variant::Base => definition.base,
            _ => self.compat.default_set(definition),
        };
        Model {
            definition,
            variant,
            features,
        }
    }

    fn qemu_model(&self) -> Model {
        let qemu = self.compat.qemu_model();
        let wanted = Wanted {
            machine_type: qemu.machine_type,
            generation: qemu.generation,
            ga: qemu.ga,
        };
        Model {
            definition: lookup::find(wanted, None).unwrap_or(&model::definitions()[0]),
            variant: Variant::Qemu,
            features: qemu.features,
        }
    }

    fn host_model(&self, variant: Variant) -> Result<Model, Error> {
        let host = self.host.and_then(|host| host.model.as_ref());
        host.map(|host| host.model(variant)).ok_or(Error::HostUnknown)
    }

    fn info(&self, model: &Model, probed: &[Host]) -> DefinitionInfo {
        let host = self.host.and_then(|host| host.model.as_ref());
        let is_static = model.variant == Variant::Base;
        let accelerators = offering(probed).map(|host| AcceleratorInfo {
            name: host.accelerator.clone(),
            runnable: host.model.is_some_and(|offered| offered.can_run(model)),
            default: false,
        });
        DefinitionInfo {
            name: model.name(),
            typename: model.typename(),
            is_static,
            migration_safe: is_static || matches!(model.variant, Variant::Default | Variant::Qemu),
            unavailable_features: host.map(|host| host.obstacles(model)),
            alias_of: None,
            accelerators: accelerators.collect(),
        }
    }

    /// The entry of `qemu`, `max` or `host`; `max` and `host` are listed even if the accelerator cannot tell what they are.
    fn special_info(&self, variant: Variant, probed: &[Host]) -> Option<DefinitionInfo> {
        let model = match variant {
            Variant::Host if !self.has_host_type() => return None,
            Variant::Qemu => Ok(self.qemu_model()),
            _ => self.host_model(variant),
        };
        let is_known = model.is_ok();
        let model = model.unwrap_or(Model {
            variant,
            ..self.qemu_model()
        });
        let mut info = self.info(&model, probed);
        if !is_known {
            info.unavailable_features = None;
        }
        if variant != Variant::Qemu {
            // These names stand for another model on each accelerator: for one that it can run.
            for (accelerator, host) in info.accelerators.iter_mut().zip(offering(probed)) {
                accelerator.runnable = variant == Variant::Max || host.kind == HostKind::Hardware;
            }
        }
        Some(info)
    }
}

/// Those that know of CPU models.
fn offering(probed: &[Host]) -> impl Iterator<Item = &Host> {
    probed.iter().filter(|host| host.model.is_some())
}

/// Whether there are CPU descriptions at all: not if accelerators were probed and none of them knows of CPU models.
#[must_use]
pub fn cpu_desc_avail(probed: &[Host]) -> bool {
    probed.is_empty() || probed.iter().any(|host| host.model.is_some())
}

/// A model spelt out.
#[must_use]
pub fn expand(model: &Model, kind: Expansion) -> ExpansionInfo {
    let deprecated = feature::deprecated();
    let (info, deprecated) = match kind {
        Expansion::Static => (static_info(model), deprecated.intersection(&model.features)),
        Expansion::Full => (full_info(model), deprecated),
    };
    let mut deprecated_props = deprecated.fold();
    deprecated_props.reverse();
    ExpansionInfo {
        model: info,
        deprecated_props,
    }
}

/// How `a` relates to `b`.
#[must_use]
pub fn compare(a: &Model, b: &Model) -> CompareInfo {
    let machines = if a.definition.is_newer_than(b.definition) {
        CompareResult::Superset
    } else if b.definition.is_newer_than(a.definition) {
        CompareResult::Subset
    } else {
        CompareResult::Identical
    };
    let features = match (a.features.is_subset(&b.features), b.features.is_subset(&a.features)) {
        (true, true) => CompareResult::Identical,
        (true, false) => CompareResult::Subset,
        (false, true) => CompareResult::Superset,
        (false, false) => CompareResult::Incompatible,
    };
    let result = match (machines, features) {
        (machines, features) if machines == features => machines,
        (CompareResult::Identical, features) => features,
        (machines, CompareResult::Identical) => machines,
        _ => CompareResult::Incompatible,
    };
    let mut properties = Vec::new();
    if machines != CompareResult::Identical {
        properties.push("type");
    }
    properties.extend(a.features.minus(&b.features).fold());
    properties.extend(b.features.minus(&a.features).fold());
    properties.reverse();
    CompareInfo {
        result,
        responsible_properties: properties,
    }
}

/// The largest static model that both `a` and `b` cover.
///
/// # Errors
/// `NoBaseline` if what they share covers no machine's base.
pub fn baseline(a: &Model, b: &Model) -> Result<Model, Error> {
    let shared = a.features.intersection(&b.features);
    let older = if a.definition.generation > b.definition.generation {
        b
    } else {
        a
    }
    .definition;
    let wanted = if a.definition.generation == b.definition.generation {
        let same_type = a.definition.machine_type == b.definition.machine_type;
        Wanted {
            machine_type: if same_type { older.machine_type } else { 0 },
            generation: older.generation,
            ga: a.definition.ga.min(b.definition.ga),
        }
    } else {
        Wanted {
            machine_type: older.machine_type,
            generation: older.generation,
            ga: older.ga,
        }
    };
    let definition = lookup::find(wanted, Some(&shared)).ok_or(Error::NoBaseline)?;
    Ok(Model {
        definition,
        variant: Variant::Base,
        features: shared.intersection(&definition.full),
    })
}

/// The static variant and what differs from it.
#[must_use]
pub fn static_info(model: &Model) -> ModelInfo {
    let base = &model.definition.base;
    let off = base.minus(&model.features).fold().into_iter().map(|name| (name, false));
    let on = model.features.minus(base).fold().into_iter().map(|name| (name, true));
    model_info(model.definition, off.chain(on))
}

/// The static variant and every switch.
fn full_info(model: &Model) -> ModelInfo {
    let on = model.features.fold().into_iter().map(|name| (name, true));
    let off = FeatureSet::all()
        .minus(&model.features)
        .fold()
        .into_iter()
        .map(|name| (name, false));
    model_info(model.definition, on.chain(off))
}

/// `switches` are in the order QEMU puts them into the object.
fn model_info(definition: &Definition, switches: impl Iterator<Item = (&'static str, bool)>) -> ModelInfo {
    ModelInfo {
        name: definition.base_name,
        props: order::walk(switches),
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
