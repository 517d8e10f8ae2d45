//! Features, groups of features, and the switches that name them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::set::FeatureSet;
use super::tables::{BLOCKS, CURRENT, FEATURES, GROUPS};

/// A feature, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeatureId(pub(super) u16);

impl FeatureId {
    /// The feature of this name, if this release has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match find(name)? {
            Switch::Feature(id) => Some(id),
            Switch::Group(_) => None,
        }
    }

    /// The feature at this place of the table.
    #[must_use]
    pub fn at(place: usize) -> Option<Self> {
        let id = u16::try_from(place).ok()?;
        (place < FEATURES.len()).then_some(Self(id))
    }

    /// Its place in the table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its name on the command line and in QMP.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// All that is known about it.
    #[must_use]
    pub fn entry(self) -> &'static Feature {
        &FEATURES[self.index()]
    }
}

/// A feature of the architecture that a guest may have or lack.
#[derive(Debug)]
pub struct Feature {
    /// Its name on the command line and in QMP.
    pub name: &'static str,
    /// Where the guest sees it.
    pub kind: Indicator,
    /// Place of its group in the table of groups.
    pub group: Option<usize>,
    /// What makes it available on a KVM host.
    pub origin: Origin,
    /// Whether it will go away and guests should not depend on it.
    pub deprecated: bool,
    /// What it is, in a few words.
    pub description: &'static str,
}

/// Where a guest finds a feature indicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// Facility of this number, as STFLE stores it.
    Facility(u16),
    /// A bit of the SCLP read-info block.
    Sclp {
        /// Byte of the block.
        byte: u8,
        /// Bit in the byte, 0 the leftmost.
        bit: u8,
    },
    /// A bit of the SCLP CPU entry.
    SclpCpu {
        /// Byte of the entry's feature field.
        byte: u8,
        /// Bit in the byte, 0 the leftmost.
        bit: u8,
    },
    /// A function code that an instruction's query function reports.
    Function {
        /// Place of the instruction in the table of blocks.
        block: usize,
        /// The code.
        code: u16,
    },
    /// A feature for guests under the ultravisor, by bit from the left.
    Ultravisor(u8),
    /// Nowhere: the guest learns it by other means.
    None,
}

/// What makes a feature available on a KVM host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The facility mask, when the machine has it and the kernel's list names it.
    KernelList,
    /// The facility mask, when the machine has it: the kernel need not manage it.
    PassThrough,
    /// The facility mask, for guests with a chosen CPU model, when the machine has it.
    ModelOnly,
    /// The facility mask, always: the kernel emulates it.
    KernelAlways,
    /// The facility mask, when the machine has the guest TLB facility.
    GuestTlb,
    /// The facility mask, when the channel subsystem has adapter interrupts.
    AdapterInterrupts,
    /// A capability of the kernel that must be there, or be enabled.
    Capability(Capability),
    /// A bit of the MACHINE_FEAT attribute.
    Feat(u16),
    /// A function code of the MACHINE_SUBFUNC attribute.
    Subfunction,
    /// A bit of the MACHINE_UV_FEAT_GUEST attribute.
    Ultravisor,
    /// The attribute that enables CMMA.
    Cmma,
    /// The attribute that enables AP interpretation.
    Apie,
    /// Userspace, on every host.
    Userspace,
    /// Another feature implies it.
    Derived,
    /// No kernel offers it.
    None,
}

/// KVM capabilities that CPU models depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// `KVM_CAP_S390_VECTOR_REGISTERS`.
    VectorRegisters,
    /// `KVM_CAP_S390_RI`.
    Ri,
    /// `KVM_CAP_S390_GS`.
    Gs,
    /// `KVM_CAP_S390_AIS`.
    Ais,
    /// `KVM_CAP_S390_CPU_TOPOLOGY`.
    CpuTopology,
    /// `KVM_CAP_S390_PROTECTED`.
    Protected,
    /// `KVM_CAP_S390_DIAG318`.
    Diag318,
    /// `KVM_CAP_S390_BPB`.
    Bpb,
}

impl Capability {
    /// Every capability with its name in the kernel's header.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::VectorRegisters, "KVM_CAP_S390_VECTOR_REGISTERS"),
        (Self::Ri, "KVM_CAP_S390_RI"),
        (Self::Gs, "KVM_CAP_S390_GS"),
        (Self::Ais, "KVM_CAP_S390_AIS"),
        (Self::CpuTopology, "KVM_CAP_S390_CPU_TOPOLOGY"),
        (Self::Protected, "KVM_CAP_S390_PROTECTED"),
        (Self::Diag318, "KVM_CAP_S390_DIAG318"),
        (Self::Bpb, "KVM_CAP_S390_BPB"),
    ];
}

/// The function codes of one instruction, as its query function stores them.
#[derive(Debug)]
pub struct Block {
    /// The instruction, in lower case.
    pub name: &'static str,
    /// Where the block begins in the SUBFUNC payload.
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
    /// The facility that must be on for the block to mean anything; none for PLO.
    pub unlocked_by: Option<FeatureId>,
}

/// Every block, in the order of the payload.
#[must_use]
pub fn blocks() -> &'static [Block] {
    &BLOCKS
}

/// Features that are switched together.
#[derive(Debug)]
pub struct Group {
    /// Its name on the command line and in QMP.
    pub name: &'static str,
    /// What it switches.
    pub members: FeatureSet,
    /// What it is, in a few words.
    pub description: &'static str,
}

/// What a property name of a CPU switches.
#[derive(Clone, Copy, Debug)]
pub enum Switch {
    /// One feature.
    Feature(FeatureId),
    /// A group of features.
    Group(&'static Group),
}

/// What the property `name` switches.
#[must_use]
pub fn find(name: &str) -> Option<Switch> {
    static BY_NAME: LazyLock<HashMap<&'static str, Switch>> = LazyLock::new(|| {
        let features = CURRENT.iter().map(|id| (id.name(), Switch::Feature(id)));
        let groups = GROUPS.iter().map(|group| (group.name, Switch::Group(group)));
        features.chain(groups).collect()
    });
    BY_NAME.get(name).copied()
}

/// Features that will go away.
#[must_use]
pub fn deprecated() -> FeatureSet {
    let mut set = FeatureSet::EMPTY;
    CURRENT
        .iter()
        .filter(|id| id.entry().deprecated)
        .for_each(|id| set.insert(id));
    set
}
