//! What older machine versions take away from the default sets, and the `qemu` model of each.

use super::model::Definition;
use super::set::FeatureSet;
use super::tables::{MACHINES, NEWEST_QEMU};

/// The model named `qemu` in one machine version.
#[derive(Debug)]
pub struct EmulatedModel {
    /// Machine type of the definition it is based on.
    pub machine_type: u16,
    /// Generation of that definition.
    pub generation: u8,
    /// GA of that definition in its generation.
    pub ga: u8,
    /// What it has.
    pub features: FeatureSet,
}

/// Features that are off by default from some generation on.
#[derive(Debug)]
pub struct DefaultOff {
    /// First generation concerned.
    pub generation: u8,
    /// First GA of that generation concerned.
    pub ga: u8,
    /// What is off.
    pub features: FeatureSet,
}

/// One version of `s390-ccw-virtio`.
#[derive(Debug)]
pub struct MachineVersion {
    /// The end of its name: `7.2`.
    pub version: &'static str,
    /// What it takes away beyond what newer versions take away.
    pub off: &'static [DefaultOff],
    /// Its own `qemu` model, if it differs from that of the version after it.
    pub qemu: Option<EmulatedModel>,
}

/// The rules of one machine version for CPU models.
#[derive(Clone, Copy, Debug)]
pub struct Compat(usize);

impl Compat {
    /// The rules of the newest machine; also those of `-machine none`.
    #[must_use]
    pub const fn newest() -> Self {
        Self(0)
    }

    /// The rules of the machine of this name: `none`, `s390-ccw-virtio` or `s390-ccw-virtio-VERSION`.
    #[must_use]
    pub fn of_machine(name: &str) -> Option<Self> {
        if matches!(name, "none" | "s390-ccw-virtio") {
            return Some(Self::newest());
        }
        let version = name.strip_prefix("s390-ccw-virtio-")?;
        MACHINES.iter().position(|machine| machine.version == version).map(Self)
    }

    /// The default set of `definition` in this machine.
    #[must_use]
    pub fn default_set(self, definition: &Definition) -> FeatureSet {
        let mut set = definition.default;
        for off in MACHINES[..=self.0].iter().flat_map(|machine| machine.off) {
            if (definition.generation, definition.ga) >= (off.generation, off.ga) {
                set = set.minus(&off.features);
            }
        }
        set
    }

    /// The model `qemu` of this machine.
    #[must_use]
    pub fn qemu_model(self) -> &'static EmulatedModel {
        let own = MACHINES[..=self.0]
            .iter()
            .rev()
            .find_map(|machine| machine.qemu.as_ref());
        own.unwrap_or(&NEWEST_QEMU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_machines_keep_taking_away_what_newer_ones_do() {
        let gen16a = super::super::model::named("gen16a").unwrap().definition;
        let newest = Compat::newest().default_set(gen16a);
        let of = |name| Compat::of_machine(name).unwrap().default_set(gen16a);
        assert_eq!(newest.minus(&of("s390-ccw-virtio-7.1")).fold(), ["paie"]);
        assert_eq!(newest.minus(&of("s390-ccw-virtio-6.1")).len(), 6);
        assert_eq!(of("s390-ccw-virtio-7.2"), newest);
        assert_eq!(of("s390-ccw-virtio-10.2"), newest);
        assert!(Compat::of_machine("s390-ccw-virtio-99.9").is_none());
        assert!(Compat::of_machine("pc-q35-9.0").is_none());
    }

    #[test]
    fn the_qemu_model_is_the_one_of_the_nearest_machine() {
        let of = |name| Compat::of_machine(name).unwrap().qemu_model();
        assert_eq!(of("s390-ccw-virtio-5.0").machine_type, 0x2964);
        assert_eq!(of("s390-ccw-virtio-6.2").generation, 14);
        assert_eq!(of("none").machine_type, 0x8561);
    }
}
