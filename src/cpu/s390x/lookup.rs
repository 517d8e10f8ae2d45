//! Finding the definition that describes a machine best.

use super::model::Definition;
use super::set::FeatureSet;
use super::tables::{DEFINITIONS, IGNORED_FOR_BASE};

/// What is known of a machine. A zero means "not known" and matches anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Machine type, as the CPU id has it.
    pub machine_type: u16,
    /// Hardware generation.
    pub generation: u8,
    /// GA in the generation.
    pub ga: u8,
}

/// The definition that comes nearest to `wanted`; if `features` are given, only machines whose base they cover count.
///
/// The table is walked in order, up to the first entry that is too new or not covered. What was the last of the same
/// type is the answer, or else the last of all; so an entry behind a newer one of its generation is not found.
#[must_use]
pub fn find(wanted: Wanted, features: Option<&FeatureSet>) -> Option<&'static Definition> {
    let mut of_type = None;
    let mut last = None;
    for definition in &DEFINITIONS {
        if is_too_new(definition, wanted) {
            break;
        }
        if features.is_some_and(|features| !definition.base.minus(features).is_subset(&IGNORED_FOR_BASE)) {
            break;
        }
        if definition.machine_type == wanted.machine_type {
            if definition.ga == wanted.ga {
                return Some(definition);
            }
            of_type = Some(definition);
        }
        last = Some(definition);
    }
    of_type.or(last)
}

fn is_too_new(definition: &Definition, wanted: Wanted) -> bool {
    if wanted.generation == 0 || definition.generation < wanted.generation {
        return false;
    }
    definition.generation > wanted.generation || wanted.ga != 0 && definition.ga > wanted.ga
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_early_feature_leads_far_back() {
        let z13 = super::super::model::named("z13").unwrap().definition;
        let mut features = z13.base;
        let wanted = Wanted {
            machine_type: z13.machine_type,
            generation: 13,
            ga: 1,
        };
        assert_eq!(find(wanted, Some(&features)).unwrap().name, "z13");
        features = features.minus(&FeatureSet::from_names(["msa"]).unwrap());
        assert_eq!(find(wanted, Some(&features)).unwrap().name, "z800");
        assert!(find(wanted, Some(&FeatureSet::EMPTY)).is_none());
    }
}
