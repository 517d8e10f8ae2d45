//! Models by name.

use super::compat::{DefaultVersion, MachineCompat};
use super::tables::{Definition, MODELS, ModelType, TYPES, TypeVersion, Version};

/// A CPU model: what `-cpu` names.
#[derive(Clone, Copy, Debug)]
pub enum Model {
    /// `base`: no features.
    Base,
    /// `max`: all that the accelerator can give.
    Max,
    /// `host`: the same, where the accelerator passes the host's processor through.
    Host,
    /// A version of a named model.
    Named {
        /// Its type.
        model_type: &'static ModelType,
        /// The version that the type stands for on this machine.
        version: &'static Version,
    },
}

impl Model {
    /// The model called `name` on this machine.
    #[must_use]
    pub fn find(name: &str, compat: MachineCompat) -> Option<Self> {
        match name {
            "base" => return Some(Self::Base),
            "max" => return Some(Self::Max),
            "host" => return Some(Self::Host),
            _ => {}
        }
        let place = TYPES.binary_search_by(|model_type| name.cmp(model_type.name)).ok()?;
        Some(Self::of_type(&TYPES[place], compat))
    }

    /// The model that a type stands for on this machine.
    pub(super) fn of_type(model_type: &'static ModelType, compat: MachineCompat) -> Self {
        let versions = MODELS[model_type.definition].versions;
        let number = match (model_type.version, compat.default_version()) {
            (TypeVersion::Fixed(number) | TypeVersion::Alias(number), _) => number,
            (TypeVersion::Default, DefaultVersion::Latest) => versions.len(),
            (TypeVersion::Default, DefaultVersion::First | DefaultVersion::None) => 1,
        };
        Self::Named {
            model_type,
            version: &versions[number - 1],
        }
    }

    /// Its name after `-cpu`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Max => "max",
            Self::Host => "host",
            Self::Named { model_type, .. } => model_type.name,
        }
    }

    /// Its QOM type.
    #[must_use]
    pub const fn typename(&self) -> &'static str {
        match self {
            Self::Base => "base-x86_64-cpu",
            Self::Max => "max-x86_64-cpu",
            Self::Host => "host-x86_64-cpu",
            Self::Named { model_type, .. } => model_type.typename,
        }
    }

    /// What it is another name of on this machine.
    #[must_use]
    pub fn alias_of(&self, compat: MachineCompat) -> Option<&'static str> {
        match self {
            Self::Named { model_type, version }
                if !matches!(model_type.version, TypeVersion::Fixed(_))
                    && compat.default_version() != DefaultVersion::None =>
            {
                Some(version.name)
            }
            _ => None,
        }
    }

    /// Whether its features depend on the host.
    #[must_use]
    pub const fn is_max(&self) -> bool {
        matches!(self, Self::Max | Self::Host)
    }

    /// Whether a setting for `driver` is for this model.
    pub(super) fn is_a(&self, driver: &str) -> bool {
        matches!(driver, "x86_64-cpu" | "cpu" | "device")
            || driver == self.typename()
            || matches!((self, driver), (Self::Host, "max-x86_64-cpu"))
    }

    /// The vendor of the processor that a named model is like.
    #[must_use]
    pub fn vendor(&self) -> Option<&'static str> {
        self.definition().map(|definition| definition.vendor)
    }

    /// The family of that processor.
    #[must_use]
    pub fn family(&self) -> Option<u32> {
        self.definition().map(|definition| definition.family)
    }

    /// The named model, if it is one.
    pub(super) fn definition(&self) -> Option<&'static Definition> {
        match self {
            Self::Named { model_type, .. } => Some(&MODELS[model_type.definition]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_means_what_the_machine_says() {
        let version = |machine, name| match Model::find(name, MachineCompat::of_machine(machine)?)? {
            Model::Named { version, .. } => Some(version.name),
            _ => None,
        };
        assert_eq!(version("q35", "Cascadelake-Server"), Some("Cascadelake-Server-v1"));
        assert_eq!(version("microvm", "Cascadelake-Server"), Some("Cascadelake-Server-v5"));
        assert_eq!(version("q35", "EPYC-IBPB"), Some("EPYC-v2"));
        assert_eq!(version("q35", "epyc"), None);
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for model_type in &TYPES {
            let model = Model::find(model_type.name, MachineCompat::newest()).unwrap();
            assert_eq!(model.name(), model_type.name);
            assert_eq!(model.typename(), format!("{}-x86_64-cpu", model.name()));
        }
    }
}
