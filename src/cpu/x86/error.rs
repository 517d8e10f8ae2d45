//! What can be wrong with a CPU, and what is worth a warning.

use std::fmt;

use thiserror::Error;

use super::tables::{Location, Word};

/// Why a question cannot be answered or a CPU cannot be made. On the wire the class is always `GenericError`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// `-cpu` names no model.
    #[error("unable to find CPU model '{0}'")]
    UnknownModel(String),
    /// A request names no model.
    #[error("CPU model '{0}' not found")]
    NoSuchModel(String),
    /// A model that only an accelerator knows.
    #[error("CPU model '{0}' requires KVM or a host description")]
    NeedsHost(String),
    /// A property that the type does not have.
    #[error("Property '{typename}.{property}' not found")]
    NoSuchProperty {
        /// The type.
        typename: String,
        /// The property.
        property: String,
    },
    /// A property that can be read only.
    #[error("Property '{typename}.{property}' is not writable")]
    NotWritable {
        /// The type.
        typename: String,
        /// The property.
        property: String,
    },
    /// A value of another JSON type.
    #[error("Invalid parameter type for '{parameter}', expected: {expected}")]
    WrongType {
        /// The parameter.
        parameter: String,
        /// The type it should have.
        expected: &'static str,
    },
    /// A value that the type does not have.
    #[error("Parameter '{parameter}' expects {expected}")]
    BadValue {
        /// The parameter.
        parameter: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A value that the enumeration does not have.
    #[error("Parameter '{parameter}' does not accept value '{value}'")]
    NotInEnum {
        /// The parameter.
        parameter: String,
        /// The value.
        value: String,
    },
    /// A number beyond what the processor's fields hold.
    #[error("parameter '{parameter}' can be at most {limit}")]
    TooLarge {
        /// The parameter.
        parameter: &'static str,
        /// The greatest value.
        limit: u64,
    },
    /// Bits that the property does not have.
    #[error("Property value for '{parameter}' has bits outside mask '0x{mask:x}'")]
    OutsideMask {
        /// The parameter.
        parameter: &'static str,
        /// The bits it has.
        mask: u64,
    },
    /// A vendor that does not fit the registers.
    #[error("value of property 'vendor' must consist of exactly 12 characters")]
    Vendor,
    /// A property on the command line cannot be set.
    #[error("can't apply global {typename}.{property}={value}: {reason}")]
    Global {
        /// The type.
        typename: String,
        /// The property.
        property: String,
        /// The value.
        value: String,
        /// Why not.
        reason: Box<Error>,
    },
    /// `tsc-freq` is no frequency.
    #[error("bad numerical value {0}")]
    BadNumber(String),
    /// `enforce` was given, and a feature is missing.
    #[error("Host doesn't support requested features")]
    Enforced,
    /// `legacy-cache=off` without caches to show.
    #[error("CPU model '{0}' doesn't support legacy-cache=off")]
    NoCaches(String),
    /// Physical addresses of impossible size.
    #[error("phys-bits should be between 32 and 52  (but is {0})")]
    PhysBits(i64),
    /// Physical addresses of a processor without long mode.
    #[error("phys-bits is not user-configurable in 32 bit")]
    PhysBitsFixed,
    /// A place that the command line gives to a vCPU, and that is another one's.
    #[error("property {property}: {given} doesn't match set apic-id: 0x{apic_id:x} ({property}: {place})")]
    Place {
        /// The property.
        property: &'static str,
        /// Its value, as the 32 bits it is kept in.
        given: u32,
        /// The APIC id, which tells the place.
        apic_id: u32,
        /// The value it must have.
        place: u32,
    },
    /// A NUMA node other than the vCPU's.
    #[error("invalid node-id, must be {0}")]
    Node(u16),
    /// A Hyper-V enlightenment the kernel does not have.
    #[error("Hyper-V {0} is not supported by kernel")]
    HypervUnsupported(&'static str),
    /// Numbers of virtual processors, which the kernel does not let us set.
    #[error("kernel doesn't allow setting HyperV VP_INDEX")]
    HypervVpIndex,
    /// A Hyper-V enlightenment without another one.
    #[error("Hyper-V {feature} requires Hyper-V {needs}")]
    HypervNeeds {
        /// The enlightenment.
        feature: &'static str,
        /// The one that is missing.
        needs: &'static str,
    },
    /// Branch records without performance counters.
    #[error("vPMU is required for LBR passthrough")]
    LbrNeedsPmu,
    /// Branch records of another format than the host's.
    #[error("vPMU: the lbr-fmt value (0x{given:x}) does not match the host value (0x{host:x})")]
    LbrFormat {
        /// The format asked for.
        given: u64,
        /// The host's.
        host: u64,
    },
    /// Local machine check exceptions that KVM does not have.
    #[error("kvm: LMCE not supported")]
    Lmce,
    /// Fewer banks of machine check registers than a guest gets.
    #[error("kvm: Unsupported MCE bank count (QEMU = {wanted}, KVM = {offered})")]
    MceBanks {
        /// Banks a guest gets.
        wanted: u64,
        /// Banks KVM has.
        offered: u64,
    },
}

/// Something that is not as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `+f` or `-f` and `f=v` in one text.
    Ambiguous {
        /// `+` or `-`.
        sign: char,
        /// The property.
        property: String,
        /// Its value.
        value: String,
    },
    /// There was one of the former.
    AmbiguousText,
    /// The host lacks a feature.
    Unsupported(Word, u32),
    /// A feature without what it needs.
    Unmet(Word, u32),
    /// The host's version of AVX10 is lower; the guest gets it.
    Avx10 {
        /// The version asked for.
        asked: u64,
        /// The host's.
        host: u64,
    },
    /// AVX10 is not there at all.
    NoAvx10(u64),
    /// Physical addresses differ from the host's.
    PhysBits {
        /// The host's.
        host: u32,
        /// The guest's.
        given: u32,
    },
    /// Threads that this AMD processor cannot tell about.
    Threads(u32),
    /// A Hyper-V vendor too long for the registers.
    VendorTruncated,
    /// Machine check capabilities KVM does not have.
    Mcg(u64),
}

impl Warning {
    /// Whether every vCPU gives the warning, and not only the first.
    #[must_use]
    pub fn repeats(&self) -> bool {
        matches!(
            self,
            Self::Unsupported(..)
                | Self::Unmet(..)
                | Self::Avx10 { .. }
                | Self::NoAvx10(_)
                | Self::VendorTruncated
                | Self::Mcg(_)
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { sign, property, value } => {
                write!(
                    f,
                    "Ambiguous CPU model string. Don't mix both \"{sign}{property}\" and \"{property}={value}\""
                )
            }
            Self::AmbiguousText => {
                write!(
                    f,
                    "Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions"
                )
            }
            Self::Unsupported(word, bit) => {
                write!(f, "host doesn't support requested feature: {}", BitName(*word, *bit))
            }
            Self::Unmet(word, bit) => {
                write!(
                    f,
                    "This feature depends on other features that were not requested: {}",
                    BitName(*word, *bit)
                )
            }
            Self::Avx10 { asked, host } => {
                write!(
                    f,
                    "host doesn't support requested feature: avx10.{asked}. Adjust to avx10.{host}"
                )
            }
            Self::NoAvx10(version) => write!(f, "host doesn't support requested feature: avx10.{version}."),
            Self::PhysBits { host, given } => {
                write!(
                    f,
                    "Host physical bits ({host}) does not match phys-bits property ({given})"
                )
            }
            Self::Threads(threads) => write!(
                f,
                "This family of AMD CPU doesn't support hyperthreading({threads}). \
                 Please configure -smp options properly or try enabling topoext feature."
            ),
            Self::VendorTruncated => write!(f, "hv-vendor-id truncated to 12 characters"),
            Self::Mcg(bits) => write!(f, "Unsupported MCG_CAP bits: 0x{bits:x}"),
        }
    }
}

/// A bit by its place, and by its name if it has one: `CPUID[eax=01h].EDX.ss [bit 27]`.
#[derive(Clone, Copy, Debug)]
pub struct BitName(pub Word, pub u32);

impl fmt::Display for BitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(word, bit) = *self;
        match word.location() {
            Location::Cpuid {
                leaf,
                subleaf: Some(subleaf),
                register,
            } => {
                write!(f, "CPUID[eax={leaf:02X}h,ecx={subleaf:02X}h].{}", register.name())?;
            }
            Location::Cpuid {
                leaf,
                subleaf: None,
                register,
            } => {
                write!(f, "CPUID[eax={leaf:02X}h].{}", register.name())?;
            }
            Location::Msr(index) => write!(f, "MSR({index:02X}h)")?,
        }
        match word.bit_name(bit) {
            "" => write!(f, " [bit {bit}]"),
            name => write!(f, ".{name} [bit {bit}]"),
        }
    }
}
