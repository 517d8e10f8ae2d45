//! The tables of `schema/cpu/x86`, compiled in, and what their entries are made of.

include!(concat!(env!("OUT_DIR"), "/x86_tables.rs"));

/// A feature word: 32 bits of a CPUID register, or the bits of a feature register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub usize);

impl Word {
    /// Where the word is found.
    #[must_use]
    pub fn location(self) -> Location {
        WORDS[self.0].location
    }

    /// The name of one of its bits, as a property; empty if it has none.
    #[must_use]
    pub fn bit_name(self, bit: u32) -> &'static str {
        let names = WORDS[self.0].names;
        usize::try_from(bit)
            .ok()
            .and_then(|bit| names.get(bit))
            .copied()
            .unwrap_or_default()
    }
}

/// A general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

impl Register {
    /// Its name, in capitals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eax => "EAX",
            Self::Ebx => "EBX",
            Self::Ecx => "ECX",
            Self::Edx => "EDX",
        }
    }
}

/// Where a feature word is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a register of a CPUID leaf.
    Cpuid {
        /// EAX before the instruction.
        leaf: u32,
        /// ECX before the instruction, where it matters.
        subleaf: Option<u32>,
        /// The register that holds the word.
        register: Register,
    },
    /// In a model-specific register.
    Msr(u32),
}

/// What is known of a feature word.
#[derive(Clone, Copy, Debug)]
pub struct WordInfo {
    /// Where it is found.
    pub location: Location,
    /// Named bits that keep a guest from moving.
    pub unmigratable: u64,
    /// Unnamed bits that do not keep a guest from moving.
    pub migratable: u64,
    /// Bits that `host` and `max` leave off unless asked for.
    pub not_automatic: u64,
    /// The names of its bits from bit 0 on; empty for those without.
    pub names: &'static [&'static str],
}

/// One or more bits of a feature word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The word.
    pub word: Word,
    /// The bits.
    pub mask: u64,
}

/// A state component of XSAVE.
#[derive(Clone, Copy, Debug)]
pub struct XsaveArea {
    /// Its bit in XCR0 or IA32_XSS.
    pub component: u32,
    /// Bytes it takes.
    pub size: u32,
    /// The feature whose state it is.
    pub feature: Feature,
    /// Whether its bit is in IA32_XSS.
    pub supervisor: bool,
}

/// A property with a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalarId(pub usize);

/// The type of a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// `bool`.
    Bool,
    /// `uint8`.
    Uint8,
    /// `uint16`.
    Uint16,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `int32`.
    Int32,
    /// `OnOffAuto`: 0 is auto, 1 on, 2 off.
    OnOffAuto,
    /// `str`.
    Str,
}

/// What is known of a plain property.
#[derive(Clone, Copy, Debug)]
pub struct ScalarInfo {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ScalarKind,
    /// Its value when nobody set it.
    pub initial: i64,
    /// Whether `device-list-properties` tells that value.
    pub shows_default: bool,
    /// The bits that may be set; 0 for all.
    pub mask: u64,
    /// Whether only `host` and `max` have it.
    pub only_max: bool,
}

/// A property that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A feature.
    Feature(Feature),
    /// A plain value.
    Scalar(ScalarId),
    /// `family`, as computed from both fields of the signature.
    Family,
    /// `model`, likewise.
    Model,
    /// `stepping`.
    Stepping,
    /// `vendor`.
    Vendor,
    /// `model-id`.
    ModelId,
    /// `tsc-frequency`, in Hz.
    TscFrequency,
    /// `start-powered-off`: of no effect here, since firmware starts every processor but the first.
    StartPoweredOff,
}

/// Features that need at least one of others.
#[derive(Clone, Copy, Debug)]
pub struct Dependency {
    /// The others.
    pub needs: Feature,
    /// The features that go with them.
    pub of: Feature,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Data.
    Data,
    /// Instructions.
    Instruction,
    /// Both.
    Unified,
}

/// A level of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A thread.
    Thread,
    /// A core.
    Core,
    /// A module of cores.
    Module,
    /// A die.
    Die,
    /// A socket.
    Socket,
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// What it holds.
    pub kind: CacheKind,
    /// Its level.
    pub level: u32,
    /// Ways of associativity.
    pub ways: u32,
    /// Bytes in a line.
    pub line: u32,
    /// Physical line partitions.
    pub partitions: u32,
    /// Sets.
    pub sets: u32,
    /// Lines that share a tag (AMD).
    pub lines_per_tag: u32,
    /// Whether it needs no initialisation by software.
    pub self_init: bool,
    /// Whether WBINVD leaves lower levels of other threads alone.
    pub no_invd_sharing: bool,
    /// Whether it includes lower levels.
    pub inclusive: bool,
    /// Whether the index is a hash.
    pub complex_indexing: bool,
    /// Who shares it.
    pub share: Level,
}

impl Cache {
    /// Bytes it holds.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.line * self.ways * self.partitions * self.sets
    }
}

/// The caches of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// First level, data.
    pub l1d: Cache,
    /// First level, instructions.
    pub l1i: Cache,
    /// Second level.
    pub l2: Cache,
    /// Third level.
    pub l3: Cache,
}

/// A cache descriptor of leaf 2.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The byte.
    pub code: u8,
    /// Level of the cache.
    pub level: u32,
    /// What it holds.
    pub kind: CacheKind,
    /// Bytes it holds.
    pub size: u32,
    /// Ways of associativity.
    pub ways: u32,
    /// Bytes in a line.
    pub line: u32,
}

/// A named model.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Highest basic leaf of the real processor.
    pub level: u32,
    /// Highest extended leaf of the real processor.
    pub xlevel: u32,
    /// Vendor of the real processor.
    pub vendor: &'static str,
    /// Family.
    pub family: u32,
    /// Model number of the first version.
    pub model: u32,
    /// Its versions, from 1 on.
    pub versions: &'static [Version],
}

/// A version of a named model.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Name with version: `EPYC-v2`.
    pub name: &'static str,
    /// What is special about it.
    pub note: Option<&'static str>,
    /// Model number.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Brand string.
    pub model_id: &'static str,
    /// Version of AVX10; 0 for none.
    pub avx10_version: u8,
    /// Whether leaf 0x1f is there whatever the topology.
    pub force_leaf_1f: bool,
    /// Its caches, if it has any of its own.
    pub caches: Option<&'static Caches>,
    /// Its features.
    pub words: [u64; WORD_COUNT],
}

/// Which version of a model a type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeVersion {
    /// The one the machine type says.
    Default,
    /// This one.
    Fixed(usize),
    /// This one, under another name.
    Alias(usize),
}

/// A type that stands for a version of a named model.
#[derive(Clone, Copy, Debug)]
pub struct ModelType {
    /// The name after `-cpu`.
    pub name: &'static str,
    /// The name of the QOM type.
    pub typename: &'static str,
    /// Its place in [`MODELS`].
    pub definition: usize,
    /// Which version.
    pub version: TypeVersion,
}

/// What machine types up to a release change.
#[derive(Clone, Copy, Debug)]
pub struct MachineRelease {
    /// The newest release that it holds for.
    pub up_to: (u32, u32),
    /// The changes.
    pub settings: &'static [Setting],
}

/// A property with another value than usual.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The type, exactly, or `x86_64-cpu` for all.
    pub driver: &'static str,
    /// The property.
    pub property: Property,
    /// Its value.
    pub value: u64,
}

/// A Hyper-V enlightenment.
#[derive(Clone, Copy, Debug)]
pub struct HypervFeature {
    /// The property that asks for it.
    pub property: ScalarId,
    /// What messages call it.
    pub description: &'static str,
    /// What CPUID tells about it: leaf, register and bits.
    pub bits: &'static [(u32, Register, u32)],
    /// The enlightenments it needs.
    pub requires: &'static [ScalarId],
}
