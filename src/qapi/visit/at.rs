//! Where in the arguments a value is, for error texts.

use std::fmt::Write;

use super::policy::{Feature, Policy};
use crate::qapi::Error;

/// What kind of text the values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// JSON: every value has its proper type.
    Json,
    /// `key=value` on the command line: numbers and booleans may come as strings.
    Keyval,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Item(usize),
}

/// The place of a value, as the steps that lead to it.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    mode: Mode,
    policy: Policy,
}

impl<'a> At<'a> {
    /// The whole of what is decoded.
    #[must_use]
    pub const fn root(mode: Mode) -> Self {
        Self {
            parent: None,
            step: Step::Root,
            mode,
            policy: Policy::ACCEPT_ALL,
        }
    }

    /// The same, of a client that may use what `policy` allows.
    #[must_use]
    pub const fn held_against(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The member `name` of the object here.
    #[must_use]
    pub const fn member(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Member(name),
            mode: self.mode,
            policy: self.policy,
        }
    }

    /// Item `index` of the array here.
    #[must_use]
    pub const fn item(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Item(index),
            mode: self.mode,
            policy: self.policy,
        }
    }

    /// What kind of text the values come from.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The way from the root: `model.props`, `capabilities[0].state`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Item(index) => {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{index}]");
            }
        }
        path
    }

    /// The last step alone, by which QEMU names a value of the right type that is out of range.
    fn name(&self) -> &str {
        match self.step {
            Step::Member(name) => name,
            Step::Root | Step::Item(_) => "null",
        }
    }

    /// Checks the use of a member or value with this feature.
    ///
    /// # Errors
    /// It is not to be used.
    pub fn check_policy(&self, feature: Feature, kind: &str, name: &str) -> Result<(), Error> {
        self.policy.check(feature, kind, name)
    }

    /// The value is missing.
    #[must_use]
    pub fn missing(&self) -> Error {
        Error::generic(format!("Parameter '{}' is missing", self.path()))
    }

    /// The value should not be there.
    #[must_use]
    pub fn unexpected(&self) -> Error {
        Error::generic(format!("Parameter '{}' is unexpected", self.path()))
    }

    /// The value has the wrong JSON type.
    #[must_use]
    pub fn wrong_type(&self, expected: &str) -> Error {
        Error::generic(format!(
            "Invalid parameter type for '{}', expected: {expected}",
            self.path()
        ))
    }

    /// The text of the value cannot be read as what it should be.
    #[must_use]
    pub fn unreadable(&self, expected: &str) -> Error {
        Error::generic(format!("Parameter '{}' expects {expected}", self.path()))
    }

    /// The value is a number that does not fit.
    #[must_use]
    pub fn out_of_range(&self, expected: &str) -> Error {
        Error::generic(format!("Parameter '{}' expects {expected}", self.name()))
    }

    /// The value is no value of the enumeration.
    #[must_use]
    pub fn bad_value(&self, value: &str) -> Error {
        Error::generic(format!("Parameter '{}' does not accept value '{value}'", self.name()))
    }

    /// The value is of no type that the alternate `expected` has.
    #[must_use]
    pub fn wrong_alternative(&self, expected: &str) -> Error {
        Error::generic(format!(
            "Invalid parameter type for '{}', expected: {expected}",
            self.name()
        ))
    }
}
