//! What may be wrong with a property, or with the name of a type, in QEMU's words.

use crate::qapi::{ErrorClass, QmpError};

/// A property that does not exist, cannot be set, or does not take its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// It must be given.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// Objects of users have no such property.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// The same, said of `key=value` texts.
    #[error("Invalid parameter '{0}'")]
    Invalid(String),
    /// The type has no such property.
    #[error("Property '{type_name}.{property}' not found")]
    NotFound {
        /// The type.
        type_name: String,
        /// The property.
        property: String,
    },
    /// It can only be read.
    #[error("Property '{type_name}.{property}' is not writable")]
    NotWritable {
        /// The type.
        type_name: String,
        /// The property.
        property: String,
    },
    /// The value is not of the form that the property has.
    #[error("Parameter '{name}' expects {what}")]
    Expects {
        /// The property, with the index of the item in a list.
        name: String,
        /// The form.
        what: &'static str,
    },
    /// The value is of another JSON type.
    #[error("Invalid parameter type for '{name}', expected: {expected}")]
    WrongType {
        /// The property.
        name: String,
        /// The JSON type that it has.
        expected: &'static str,
    },
    /// A PCI address is neither a number nor a text.
    #[error("Invalid parameter type for '{0}', expected int or str")]
    NoAddress(String),
    /// An enumeration has no such value.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NoSuchValue {
        /// The property.
        name: String,
        /// What was given.
        value: String,
    },
    /// A text that stands for nothing.
    #[error("Property '{type_name}.{property}' doesn't take value '{value}'")]
    Meaningless {
        /// The type.
        type_name: String,
        /// The property.
        property: String,
        /// What was given.
        value: String,
    },
    /// A number that objects of this type cannot do with.
    #[error("property '{property}' of {type_name} doesn't take value '{value}'")]
    Refused {
        /// The type.
        type_name: String,
        /// The property.
        property: &'static str,
        /// What was given.
        value: u64,
    },
    /// `-global` gives what the property does not take.
    #[error("can't apply global {driver}.{property}={value}: {cause}")]
    Global {
        /// The type that it names.
        driver: String,
        /// The property.
        property: String,
        /// What it gives.
        value: String,
        /// Why not.
        cause: Box<PropertyError>,
    },
    /// `object-add` makes no objects of this type.
    #[error("Parameter 'qom-type' does not accept value '{0}'")]
    NotCreatable(String),
}

impl QmpError for PropertyError {}

impl PropertyError {
    /// A value that is not of the form that the property has.
    pub(super) fn expects(name: &str, what: &'static str) -> Self {
        Self::Expects {
            name: name.to_owned(),
            what,
        }
    }

    /// A value of another JSON type.
    pub(super) fn wrong_type(name: &str, expected: &'static str) -> Self {
        Self::WrongType {
            name: name.to_owned(),
            expected,
        }
    }

    /// A property that the type does not have.
    pub(super) fn not_found(type_name: &str, property: &str) -> Self {
        Self::NotFound {
            type_name: type_name.to_owned(),
            property: property.to_owned(),
        }
    }

    /// A property that can only be read.
    pub(super) fn not_writable(type_name: &str, property: &str) -> Self {
        Self::NotWritable {
            type_name: type_name.to_owned(),
            property: property.to_owned(),
        }
    }
}

/// A question about a type that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// There is no such type.
    #[error("Class '{0}' not found")]
    NoType(String),
    /// There is no such type of device.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// Interfaces have no objects.
    #[error("Parameter 'typename' expects a QOM type")]
    Interface,
    /// It is abstract, or none of devices.
    #[error("Parameter 'typename' expects a non-abstract device type")]
    NotADevice,
}

impl QmpError for TypeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoType(_) | Self::NoDevice(_) => ErrorClass::DeviceNotFound,
            Self::Interface | Self::NotADevice => ErrorClass::GenericError,
        }
    }
}
