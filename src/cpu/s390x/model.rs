//! Models: definitions, the names they go by, and a model with its features.

use super::set::FeatureSet;
use super::tables::DEFINITIONS;

/// A machine of the family, as models are made after it. Sets are cumulative over generations.
#[derive(Debug)]
pub struct Definition {
    /// Its name: `z13.2`.
    pub name: &'static str,
    /// The name of its static variant: `z13.2-base`.
    pub base_name: &'static str,
    /// The QOM type of the model.
    pub typename: &'static str,
    /// The QOM type of its static variant.
    pub base_typename: &'static str,
    /// The name by machine type and its own GA: `2964-ga2`.
    pub seed_name: &'static str,
    /// Further names.
    pub other_names: &'static [&'static str],
    /// The machine type as it is stored in the CPU id: `0x2964`.
    pub machine_type: u16,
    /// The hardware generation: 13 for the z13.
    pub generation: u8,
    /// General-availability level counted over the whole generation.
    pub ga: u8,
    /// General-availability level counted for this machine alone.
    pub own_ga: u8,
    /// Instruction blocking control: generation and GA in 12 bits; 0 before the z10.
    pub ibc: u16,
    /// Bits of a host address.
    pub host_addr_bits: u8,
    /// Which facilities the hypervisor need not manage, two bits for each word of the list.
    pub hmfai: u32,
    /// What the static variant has, for ever.
    pub base: FeatureSet,
    /// What the model has by default on the newest machine.
    pub default: FeatureSet,
    /// What may be switched on.
    pub full: FeatureSet,
}

impl Definition {
    /// The names that are neither the model's own nor that of its static variant.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.seed_name).chain(self.other_names.iter().copied())
    }

    /// Whether this machine is of a later generation, or a later GA of the same one, than `other`.
    #[must_use]
    pub const fn is_newer_than(&self, other: &Self) -> bool {
        self.generation > other.generation || self.generation == other.generation && self.ga > other.ga
    }
}

/// Every definition, in the order they are searched.
#[must_use]
pub fn definitions() -> &'static [Definition] {
    &DEFINITIONS
}

/// Which set a model starts from, or which special model it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `z13-base`: starts from the base set.
    Base,
    /// `z13`: starts from the default set.
    Default,
    /// `qemu`.
    Qemu,
    /// `max`.
    Max,
    /// `host`.
    Host,
}

/// A definition and a variant, by name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The definition.
    pub definition: &'static Definition,
    /// `Base` or `Default`.
    pub variant: Variant,
}

/// What `name` stands for: today's names, their static variants, and every alias. Not `qemu`, `max` or `host`.
#[must_use]
pub fn named(name: &str) -> Option<Named> {
    DEFINITIONS.iter().find_map(|definition| {
        let variant = match name {
            _ if name == definition.name => Variant::Default,
            _ if name == definition.base_name => Variant::Base,
            _ if definition.aliases().any(|alias| alias == name) => Variant::Default,
            _ => return None,
        };
        Some(Named { definition, variant })
    })
}

/// A model with the features it has.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is made after.
    pub definition: &'static Definition,
    /// What it started from.
    pub variant: Variant,
    /// What it has now.
    pub features: FeatureSet,
}

impl Model {
    /// The QOM type of its CPUs.
    #[must_use]
    pub const fn typename(&self) -> &'static str {
        match self.variant {
            Variant::Base => self.definition.base_typename,
            Variant::Default => self.definition.typename,
            Variant::Qemu => super::types::QEMU,
            Variant::Max => super::types::MAX,
            Variant::Host => super::types::HOST,
        }
    }

    /// Today's name of the model.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.variant {
            Variant::Base => self.definition.base_name,
            Variant::Default => self.definition.name,
            Variant::Qemu => "qemu",
            Variant::Max => "max",
            Variant::Host => "host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_names_count_the_machines_own_releases() {
        for (seed, name) in [
            ("2066-ga1", "z800"),
            ("2817-ga2", "z196.2"),
            ("2828-ga1", "zBC12"),
            ("2964-ga1", "z13"),
        ] {
            let named = named(seed).unwrap();
            assert_eq!((named.definition.name, named.variant), (name, Variant::Default));
        }
        assert_eq!(named("z800").unwrap().definition.ga, 3);
        assert_eq!(named("z15").unwrap().definition.name, "gen15a");
        assert_eq!(named("z13s-base").unwrap().variant, Variant::Base);
        for unknown in ["", "Z13", "2066-ga3", "z13-s390x-cpu", "z13-base-base", "host"] {
            assert!(named(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn the_table_is_consistent() {
        let mut names = std::collections::HashSet::new();
        for definition in definitions() {
            assert!(definition.base.is_subset(&definition.full), "{}", definition.name);
            assert!(definition.default.is_subset(&definition.full), "{}", definition.name);
            let seed = format!("{:04x}-ga{}", definition.machine_type, definition.own_ga);
            assert_eq!(seed, definition.seed_name);
            let ibc = match definition.generation {
                10.. => u16::from(definition.generation - 10) << 4 | u16::from(definition.ga),
                _ => 0,
            };
            assert_eq!(ibc, definition.ibc, "{}", definition.name);
            let own = [definition.name, definition.base_name];
            for name in definition.aliases().chain(own) {
                assert!(names.insert(name), "{name} is there twice");
            }
            for other in definitions() {
                if (other.generation, other.ga) == (definition.generation, definition.ga) {
                    assert_eq!(
                        (other.base, other.default, other.full),
                        (definition.base, definition.default, definition.full)
                    );
                }
                if other.is_newer_than(definition) {
                    assert!(
                        definition.full.is_subset(&other.full),
                        "{} {}",
                        definition.name,
                        other.name
                    );
                }
            }
        }
        assert_eq!(definitions().len(), 40);
    }
}
