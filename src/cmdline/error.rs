//! What is wrong with a command line.

use std::fmt;

/// A command line error: printed after the binary's name, it is what QEMU would print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The option and argument at fault as they were given, such as `-m 12Z`; none when no single option is at fault.
    pub location: Option<String>,
    /// What is wrong, naming the thing.
    pub message: String,
    /// More lines that tell how to do it right.
    pub hint: Option<String>,
    /// What cannot be had because of it: an error of its own at the same place.
    pub consequence: Option<String>,
}

impl Error {
    /// An error that does not yet say where it is.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            location: None,
            message: message.into(),
            hint: None,
            consequence: None,
        }
    }

    /// A parameter that must be given is not there.
    pub(super) fn missing(key: &str) -> Self {
        Self::new(format!("Parameter '{key}' is missing"))
    }

    /// A parameter that this option does not know.
    pub(super) fn invalid_parameter(key: &str) -> Self {
        Self::new(format!("Invalid parameter '{key}'"))
    }

    /// A parameter whose value is not one of its enumeration.
    pub(super) fn invalid_value(key: &str, value: &str) -> Self {
        Self::new(format!("Parameter '{key}' does not accept value '{value}'"))
    }

    /// A parameter whose value is of another kind.
    pub(super) fn expects(key: &str, what: &str) -> Self {
        Self::new(format!("Parameter '{key}' expects {what}"))
    }

    /// An id that is not an identifier.
    pub(super) fn malformed_id() -> Self {
        Self::expects("id", "an identifier")
            .with_hint("Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.")
    }

    /// The same error with advice.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with what follows from it.
    #[must_use]
    pub(super) fn with_consequence(mut self, consequence: Option<String>) -> Self {
        self.consequence = consequence;
        self
    }

    /// The error that follows from this one, with its place.
    #[must_use]
    pub fn following(&self) -> Option<Self> {
        let following = Self::new(self.consequence.as_ref()?);
        Some(match &self.location {
            Some(location) => following.at(location),
            None => following,
        })
    }

    /// The same error, with the place unless it names one already.
    #[must_use]
    pub(super) fn at(mut self, location: &str) -> Self {
        self.location.get_or_insert_with(|| location.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
