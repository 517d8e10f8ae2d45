//! From the text of `-cpu` to the model of a guest's CPUs, and whether the host can run it.

use super::error::Error;
use super::feature;
use super::model::Model;
use super::props::other_property;
use super::query::Cpus;
use super::tables::NEEDS;
use crate::qom::PropertyKind;

/// A feature that is on while one it needs is off. A guest may be made so, but is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistency {
    /// The feature that is on.
    pub feature: &'static str,
    /// The one that is off.
    pub requires: &'static str,
}

impl std::fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' requires '{}'.", self.feature, self.requires)
    }
}

impl Cpus<'_> {
    /// The model that `-cpu TEXT` asks for: a name, then switches in the order they stand. Without a text, the default.
    ///
    /// # Errors
    /// `UnableToFind`, `NotKeyValue`, or `CannotApply` with the reason.
    pub fn parse(&self, text: Option<&str>) -> Result<Model, Error> {
        let default = self.default_cpu_type().trim_end_matches("-s390x-cpu");
        let mut parts = text.unwrap_or(default).split(',');
        let name = parts.next().unwrap_or_default();
        let mut model = self.named(name).map_err(|error| match error {
            Error::UnknownDefinition(name) => Error::UnableToFind(name),
            other => other,
        })?;
        let mut pairs = Vec::new();
        for part in parts {
            let pair = part
                .split_once('=')
                .ok_or_else(|| Error::NotKeyValue(part.to_owned()))?;
            pairs.push(pair);
        }
        for (name, value) in pairs {
            apply_text(&mut model, name, value).map_err(|reason| Error::CannotApply {
                typename: model.typename(),
                name: name.to_owned(),
                value: value.to_owned(),
                reason: Box::new(reason),
            })?;
        }
        Ok(model)
    }

    /// Whether CPUs of `model` can be made on the accelerator in use; if so, what is odd about the model.
    ///
    /// # Errors
    /// `GenerationTooNew`, `GaTooNew`, `OnlyMigratable` or `FeaturesMissing`; `HostUnknown` if there is no accelerator.
    pub fn check_creation(&self, model: &Model, only_migratable: bool) -> Result<Vec<Inconsistency>, Error> {
        let host = self
            .host
            .and_then(|host| host.model.as_ref())
            .ok_or(Error::HostUnknown)?;
        let most = host.definition;
        if model.definition.generation > most.generation {
            return Err(Error::GenerationTooNew(most.name));
        }
        if model.definition.is_newer_than(most) {
            return Err(Error::GaTooNew(most.name));
        }
        if only_migratable && model.features.has("unpack") {
            return Err(Error::OnlyMigratable);
        }
        let missing = host.obstacles(model);
        if !missing.is_empty() {
            return Err(Error::FeaturesMissing(missing));
        }
        Ok(inconsistencies(model))
    }

    /// The name a client of the 2015 proposal knows a guest's model by: machine type and the machine's own GA.
    #[must_use]
    pub fn query_cpu_model(&self, active: &Model) -> &'static str {
        active.definition.seed_name
    }
}

/// Features of `model` that need others which are off, in the order of the table.
#[must_use]
pub fn inconsistencies(model: &Model) -> Vec<Inconsistency> {
    let odd = NEEDS
        .iter()
        .filter(|(first, second)| model.features.contains(*first) && !model.features.contains(*second));
    odd.map(|(first, second)| Inconsistency {
        feature: first.name(),
        requires: second.name(),
    })
    .collect()
}

/// Whether a second CPU of a guest may have `added` when the first has `first`.
///
/// # Errors
/// `Mixed` if they differ.
pub fn check_same(first: &Model, added: &Model) -> Result<(), Error> {
    let same = first.typename() == added.typename() && first.features == added.features;
    if same { Ok(()) } else { Err(Error::Mixed) }
}

fn apply_text(model: &mut Model, name: &str, value: &str) -> Result<(), Error> {
    if let Some(property) = other_property(name) {
        if !property.settable {
            return Err(model.not_writable(name));
        }
        return check_text(property.kind, name, value);
    }
    if feature::find(name).is_none() {
        return Err(model.no_property(name));
    }
    model.switch(name, on_off(name, value)?)
}

/// Checks a text for a property that switches nothing.
fn check_text(kind: PropertyKind, name: &str, value: &str) -> Result<(), Error> {
    let expects = |expected| Error::OutOfRange {
        path: name.to_owned(),
        expected,
    };
    match kind {
        PropertyKind::Bool => on_off(name, value).map(|_| ()),
        PropertyKind::Uint32 => value.parse::<u32>().map(|_| ()).map_err(|_| expects("uint32_t")),
        PropertyKind::Int32 => value.parse::<i32>().map(|_| ()).map_err(|_| expects("int32_t")),
        PropertyKind::Enum(_, values) if !values.contains(&value) => Err(Error::NotAccepted {
            path: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The texts for a boolean that the command line accepts.
fn on_off(name: &str, value: &str) -> Result<bool, Error> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Error::NotOnOff(name.to_owned())),
    }
}
