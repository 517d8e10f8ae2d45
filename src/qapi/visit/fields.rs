//! The members of an object while they are taken out one by one.

use serde_json::{Map, Value};

use super::at::{At, Mode};
use super::decode::{Decode, DecodeMembers};
use super::policy::{Feature, Policy};
use crate::qapi::Error;

/// The members of an object that nobody has taken yet.
#[derive(Debug)]
pub struct Fields<'a> {
    members: Map<String, Value>,
    at: &'a At<'a>,
}

impl<'a> Fields<'a> {
    /// Reads an object that holds the members of `T` and nothing else.
    pub(super) fn decode_all<T: DecodeMembers>(members: Map<String, Value>, at: &'a At<'a>) -> Result<T, Error> {
        let mut fields = Self { members, at };
        let value = T::decode_members(&mut fields)?;
        match fields.members.keys().next() {
            Some(name) => Err(at.member(name).unexpected()),
            None => Ok(value),
        }
    }

    /// Checks the use of a member that has a feature, if it is there.
    ///
    /// # Errors
    /// It is not to be used.
    pub fn check_policy(&self, name: &str, feature: Feature) -> Result<(), Error> {
        match self.members.contains_key(name) {
            true => self.at.check_policy(feature, "parameter", name),
            false => Ok(()),
        }
    }

    /// Takes a member that must be there.
    ///
    /// # Errors
    /// It is missing or not of its type.
    pub fn required<T: Decode>(&mut self, name: &str) -> Result<T, Error> {
        self.required_with(name, T::decode)
    }

    /// Takes a member that must be there, read by `decode`.
    ///
    /// # Errors
    /// It is missing or not of its type.
    pub fn required_with<T>(
        &mut self,
        name: &str,
        decode: impl FnOnce(Value, &At<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let at = self.at.member(name);
        match self.members.shift_remove(name) {
            Some(value) => decode(value, &at),
            None => Err(at.missing()),
        }
    }

    /// Takes a member that may be left out.
    ///
    /// # Errors
    /// It is not of its type.
    pub fn optional<T: Decode>(&mut self, name: &str) -> Result<Option<T>, Error> {
        self.optional_with(name, T::decode)
    }

    /// Takes a member that may be left out, read by `decode`.
    ///
    /// # Errors
    /// It is not of its type.
    pub fn optional_with<T>(
        &mut self,
        name: &str,
        decode: impl FnOnce(Value, &At<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let at = self.at.member(name);
        self.members
            .shift_remove(name)
            .map(|value| decode(value, &at))
            .transpose()
    }
}

/// Reads the arguments of a command, or the data of an event.
///
/// # Errors
/// The first member that is missing, unexpected, not of its type or against `policy`.
pub fn decode_arguments<T: DecodeMembers>(arguments: Map<String, Value>, policy: Policy) -> Result<T, Error> {
    Fields::decode_all(arguments, &At::root(Mode::Json).held_against(policy))
}

/// Reads an option of the command line, where numbers and booleans may be strings.
///
/// # Errors
/// The first member that is missing, unexpected or not of its type.
pub fn decode_keyval<T: DecodeMembers>(members: Map<String, Value>) -> Result<T, Error> {
    Fields::decode_all(members, &At::root(Mode::Keyval))
}

/// Checks that a command without arguments got none.
///
/// # Errors
/// Names the first argument.
pub fn no_arguments(arguments: Map<String, Value>) -> Result<(), Error> {
    match arguments.into_iter().next() {
        Some((name, _)) => Err(At::root(Mode::Json).member(&name).unexpected()),
        None => Ok(()),
    }
}

/// The error of a command that does not exist where it was looked for.
#[must_use]
pub fn command_not_found(name: &str) -> Error {
    Error::command_not_found(format!("The command {name} has not been found"))
}
