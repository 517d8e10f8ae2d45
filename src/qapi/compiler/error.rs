//! What is wrong with a schema, and where.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

/// A place in a schema module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The module.
    pub(crate) file: Rc<PathBuf>,
    /// Line, counted from one.
    pub(crate) line: usize,
}

impl Place {
    /// An error at this place.
    pub(crate) fn error(&self, reason: impl Into<String>) -> SchemaError {
        SchemaError {
            place: self.clone(),
            reason: reason.into(),
        }
    }
}

/// A mistake in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemaError {
    /// Where it is.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) reason: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.file.display(), self.place.line, self.reason)
    }
}
