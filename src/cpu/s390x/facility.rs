//! Facility lists as STFLE stores them, and what of them a KVM guest can get.

use super::feature::{Capability, Indicator, Origin};
use super::set::FeatureSet;
use super::tables::{FEATURES, KERNEL_ALWAYS, KERNEL_LIST, MODEL_ONLY, USERSPACE, WITH_ZARCH};

/// Words of 64 bits in a list.
const WORDS: usize = 256;

/// Facility 147, which KVM offers when the machine has the guest TLB facility, and facility 65, offered with adapter interrupts.
const CONFIGURED_ELSEWHERE: [u16; 2] = [147, 65];

/// A set of facility numbers, 0 to 16383. Facility 0 is the most significant bit of the first word.
#[derive(Clone, PartialEq, Eq)]
pub struct FacilityList(pub [u64; WORDS]);

impl std::fmt::Debug for FacilityList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Default for FacilityList {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl FromIterator<u16> for FacilityList {
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Self {
        let mut list = Self::default();
        numbers.into_iter().for_each(|number| list.insert(number));
        list
    }
}

impl FacilityList {
    /// Facilities whose instructions are intercepted and emulated outside the kernel, so that neither the machine nor the kernel
    /// need offer them.
    #[must_use]
    pub fn userspace_mask() -> Self {
        USERSPACE.into_iter().collect()
    }

    /// What a KVM guest can get on a machine with these facilities, when the kernel has the capabilities in `enabled`.
    ///
    /// `hmfai` tells how much of each of the first sixteen words the hypervisor need not manage, in two bits each.
    /// Source: Linux `arch/s390/kvm/kvm-s390.c`, the facility mask at VM creation.
    #[must_use]
    pub fn kvm_mask(machine: &Self, hmfai: u32, enabled: &[Capability]) -> Self {
        let mut mask: Self = KERNEL_LIST
            .into_iter()
            .chain(MODEL_ONLY)
            .chain(CONFIGURED_ELSEWHERE)
            .collect();
        for (place, word) in mask.0.iter_mut().take(16).enumerate() {
            let quarters = (hmfai << (2 * place)) >> 30;
            *word |= 0x0000_ffff_ffff_ffff_u64 >> (16 * quarters);
        }
        for capability in [
            Capability::VectorRegisters,
            Capability::Ri,
            Capability::Gs,
            Capability::Ais,
            Capability::CpuTopology,
        ] {
            let here = Self::of_capability(capability);
            let allowed = if enabled.contains(&capability) {
                here
            } else {
                Self::default()
            };
            Self::of_capability(capability)
                .iter()
                .for_each(|number| mask.remove(number));
            allowed.iter().for_each(|number| mask.insert(number));
        }
        mask.0
            .iter_mut()
            .zip(machine.0)
            .for_each(|(word, machine)| *word &= machine);
        KERNEL_ALWAYS.into_iter().for_each(|number| mask.insert(number));
        mask
    }

    /// The facilities that enabling `capability` adds to a VM.
    #[must_use]
    pub fn of_capability(capability: Capability) -> Self {
        let added = FEATURES.iter().filter_map(|feature| match feature.kind {
            Indicator::Facility(number) if feature.origin == Origin::Capability(capability) => Some(number),
            _ => None,
        });
        added.collect()
    }

    /// The list a guest with `features` gets.
    #[must_use]
    pub fn of_features(features: &FeatureSet) -> Self {
        let own = features.iter().filter_map(|id| match id.entry().kind {
            Indicator::Facility(number) => Some(number),
            _ => None,
        });
        let mut list: Self = own.collect();
        if features.has("zarch") {
            WITH_ZARCH.into_iter().for_each(|number| list.insert(number));
        }
        list
    }

    /// What of the list this release has features for.
    #[must_use]
    pub fn features(&self) -> FeatureSet {
        let mut set = FeatureSet::EMPTY;
        for id in FeatureSet::all().iter() {
            if matches!(id.entry().kind, Indicator::Facility(number) if self.contains(number)) {
                set.insert(id);
            }
        }
        set
    }

    /// What is in either list.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Whether `number` is in the list.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        self.0
            .get(usize::from(number / 64))
            .is_some_and(|word| word >> (63 - number % 64) & 1 == 1)
    }

    /// Adds `number`; numbers beyond the list are left out.
    pub fn insert(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word |= 1 << (63 - number % 64);
        }
    }

    /// Takes `number` out.
    pub fn remove(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word &= !(1 << (63 - number % 64));
        }
    }

    /// The numbers in the list, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().zip((0_u16..).step_by(64)).flat_map(|(word, first)| {
            (0..64)
                .filter(move |bit| word >> (63 - bit) & 1 == 1)
                .map(move |bit| first + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::s390x::named;

    #[test]
    fn numbers_count_from_the_most_significant_bit() {
        let list: FacilityList = [0, 63, 64, 129].into_iter().collect();
        assert_eq!(
            list.0[..3],
            [0x8000_0000_0000_0001, 0x8000_0000_0000_0000, 0x4000_0000_0000_0000]
        );
        assert_eq!(list.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        let mut list = list;
        list.insert(u16::MAX);
        assert_eq!(list.iter().count(), 4);
    }

    #[test]
    fn a_guest_can_get_what_kernel_or_userspace_offers() {
        let definition = named("z13").unwrap().definition;
        let machine = FacilityList::of_features(&definition.default);
        let offered = |enabled: &[Capability]| {
            let mask = FacilityList::kvm_mask(&machine, definition.hmfai, enabled);
            mask.union(&FacilityList::userspace_mask()).features()
        };
        let wanted = machine.features();
        assert_eq!(wanted.minus(&offered(&[])).fold(), ["ri", "vx"]);
        assert!(wanted.is_subset(&offered(&[Capability::VectorRegisters, Capability::Ri])));
    }

    #[test]
    fn the_kernels_lists_agree_with_the_origin_of_each_feature() {
        for feature in &FEATURES {
            let Indicator::Facility(number) = feature.kind else {
                continue;
            };
            let name = feature.name;
            assert_eq!(
                KERNEL_LIST.contains(&number),
                feature.origin == Origin::KernelList,
                "{name}"
            );
            assert_eq!(
                MODEL_ONLY.contains(&number),
                feature.origin == Origin::ModelOnly,
                "{name}"
            );
            assert_eq!(
                USERSPACE.contains(&number),
                feature.origin == Origin::Userspace,
                "{name}"
            );
            assert_eq!(
                KERNEL_ALWAYS.contains(&number),
                feature.origin == Origin::KernelAlways,
                "{name}"
            );
            if feature.origin == Origin::PassThrough {
                let machine: FacilityList = [number].into_iter().collect();
                let mask = FacilityList::kvm_mask(&machine, 0x0800_0000, &[]);
                assert!(mask.contains(number), "{name} is said to pass through");
            }
        }
    }
}
