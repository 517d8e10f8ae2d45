//! What can be wrong with a request about CPU models. The texts are those clients know from QEMU 10.

use thiserror::Error;

/// A request about CPU models that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A model name in a query stands for nothing.
    #[error("The CPU definition '{0}' is unknown.")]
    UnknownDefinition(String),
    /// `host` without KVM.
    #[error("The CPU definition '{0}' requires KVM")]
    RequiresKvm(String),
    /// `host` or `max` where the accelerator told nothing about the host.
    #[error("Details about the host CPU model are not available, it cannot be used.")]
    HostUnknown,
    /// A feature of `host` or `max` is switched where the accelerator told nothing about the host.
    #[error("Details about the host CPU model are not available, features cannot be changed.")]
    HostFeaturesUnknown,
    /// No property of this name.
    #[error("Property '{typename}.{name}' not found")]
    PropertyNotFound {
        /// QOM type of the CPU.
        typename: &'static str,
        /// The name.
        name: String,
    },
    /// A property that can only be read.
    #[error("Property '{typename}.{name}' is not writable")]
    NotWritable {
        /// QOM type of the CPU.
        typename: &'static str,
        /// The name.
        name: String,
    },
    /// A value of the wrong JSON type.
    #[error("Invalid parameter type for '{path}', expected: {expected}")]
    WrongType {
        /// Where the value stands in the command's arguments.
        path: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A number out of range.
    #[error("Parameter '{path}' expects {expected}")]
    OutOfRange {
        /// Where the value stands in the command's arguments.
        path: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A value that is not one of an enumeration.
    #[error("Parameter '{path}' does not accept value '{value}'")]
    NotAccepted {
        /// Where the value stands in the command's arguments.
        path: String,
        /// The value.
        value: String,
    },
    /// A feature that the model's machine did not have.
    #[error("Feature '{feature}' is not available for CPU model '{model}', it was introduced with later models.")]
    FeatureTooNew {
        /// The feature.
        feature: &'static str,
        /// The model.
        model: &'static str,
    },
    /// A group of which the model's machine had nothing.
    #[error("Group '{group}' is not available for CPU model '{model}', it was introduced with later models.")]
    GroupTooNew {
        /// The group.
        group: &'static str,
        /// The model.
        model: &'static str,
    },
    /// Two models have nothing in common.
    #[error("No compatible CPU model could be created as important base features are disabled")]
    NoBaseline,
    /// The name in `-cpu` stands for nothing.
    #[error("unable to find CPU model '{0}'")]
    UnableToFind(String),
    /// Something in `-cpu` is not `NAME=VALUE`.
    #[error("Expected key=value format, found {0}.")]
    NotKeyValue(String),
    /// A property in `-cpu` cannot be set.
    #[error("can't apply global {typename}.{name}={value}: {reason}")]
    CannotApply {
        /// QOM type of the CPU.
        typename: &'static str,
        /// The property.
        name: String,
        /// The text given for it.
        value: String,
        /// Why not.
        reason: Box<Error>,
    },
    /// A text that is neither on nor off.
    #[error("Parameter '{0}' expects 'on' or 'off'")]
    NotOnOff(String),
    /// The model is of a later generation than the host.
    #[error("Selected CPU generation is too new. Maximum supported model in the current configuration: '{0}'")]
    GenerationTooNew(&'static str),
    /// The model is of a later GA of the host's generation.
    #[error("Selected CPU GA level is too new. Maximum supported model in the current configuration: '{0}'")]
    GaTooNew(&'static str),
    /// Secure execution and `-only-migratable`.
    #[error(
        "The unpack facility is not compatible with the --only-migratable option. You must remove either the 'unpack' \
         facility or the --only-migratable option"
    )]
    OnlyMigratable,
    /// The host lacks features of the model. Every name is followed by a space, as clients that split the text expect.
    #[error("Some features requested in the CPU model are not available in the current configuration: {} ", Spaced(.0))]
    FeaturesMissing(Vec<&'static str>),
    /// CPUs of one guest differ.
    #[error("Mixed CPU models are not supported on s390x.")]
    Mixed,
    /// A feature is switched on a CPU that exists already.
    #[error("Attempt to set property '{name}' on '{typename}' after it was realized")]
    AfterRealize {
        /// QOM type of the CPU.
        typename: &'static str,
        /// The property.
        name: String,
    },
}

impl Error {
    /// A second line that a command line user sees.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::GenerationTooNew(_) | Self::GaTooNew(_) => {
                Some("Consider a different accelerator, try \"-accel help\"")
            }
            Self::FeaturesMissing(_) => Some("Consider a different accelerator, QEMU, or kernel version"),
            _ => None,
        }
    }
}

/// Names, each with a space after it.
struct Spaced<'a>(&'a [&'static str]);

impl std::fmt::Display for Spaced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "{name} "))
    }
}
