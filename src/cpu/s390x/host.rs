//! What an accelerator offers to CPU models.

use super::model::{Definition, Model, Variant};
use super::set::FeatureSet;

/// One accelerator and the host it would run guests on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The accelerator's name.
    pub accelerator: String,
    /// What `host` and `max` mean there.
    pub kind: HostKind,
    /// The most a guest can have; none if the accelerator knows nothing of CPU models.
    pub model: Option<HostModel>,
}

/// Whether guests run on the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// They do: the model `host` exists and is the default.
    Hardware,
    /// They are emulated: there is no `host`, and `qemu` is the default.
    Emulated,
}

/// The machine as CPU models see it.
#[derive(Clone, Copy, Debug)]
pub struct HostModel {
    /// The machine.
    pub definition: &'static Definition,
    /// What it has.
    pub features: FeatureSet,
    /// What every model on this host takes over.
    pub identity: Identity,
}

/// What every model on a host takes over from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Version byte of the CPU id: 0xff under KVM.
    pub version: u8,
    /// Serial number, 24 bits.
    pub serial: u32,
    /// Format bit of the CPU id.
    pub format: bool,
    /// The least instruction blocking control the machine can be set to; 0 if it has none.
    pub lowest_ibc: u16,
    /// The instruction blocking control of the machine unrestrained.
    pub unblocked_ibc: u16,
}

impl Identity {
    /// From the CPU id, and the lowest and unblocked instruction blocking control in the halves of `ibc`.
    #[must_use]
    pub const fn of_machine(cpuid: u64, ibc: u32) -> Self {
        Self {
            version: (cpuid >> 56) as u8,
            serial: (cpuid >> 32) as u32 & 0x00ff_ffff,
            format: cpuid >> 15 & 1 == 1,
            lowest_ibc: (ibc >> 16) as u16 & 0xfff,
            unblocked_ibc: ibc as u16 & 0xfff,
        }
    }

    /// The lowest and unblocked instruction blocking control, in the halves.
    #[must_use]
    pub const fn ibc(&self) -> u32 {
        (self.lowest_ibc as u32) << 16 | self.unblocked_ibc as u32
    }
}

impl HostModel {
    /// The model `host` or `max` on this host.
    #[must_use]
    pub const fn model(&self, variant: Variant) -> Model {
        Model {
            definition: self.definition,
            variant,
            features: self.features,
        }
    }

    /// What keeps `model` from running here, as `unavailable-features` tells it: empty if nothing does.
    #[must_use]
    pub fn obstacles(&self, model: &Model) -> Vec<&'static str> {
        let mut names = Vec::new();
        if model.definition.is_newer_than(self.definition) {
            names.push("type");
        }
        names.extend(model.features.minus(&self.features).fold());
        names.reverse();
        names
    }

    /// Whether the machine can be held to the instruction level of `definition`. Machines before the z10 have no such level.
    #[must_use]
    pub const fn ibc_in_range(&self, definition: &Definition) -> bool {
        let Identity {
            lowest_ibc,
            unblocked_ibc,
            ..
        } = self.identity;
        lowest_ibc == 0 || definition.ibc == 0 || lowest_ibc <= definition.ibc && definition.ibc <= unblocked_ibc
    }

    /// Whether `model` can run here: nothing stands in its way, and its instruction level can be set.
    #[must_use]
    pub fn can_run(&self, model: &Model) -> bool {
        self.ibc_in_range(model.definition) && self.obstacles(model).is_empty()
    }
}
