//! What is wrong with a saved state.

use std::fmt;

/// Why a saved state cannot be read, with the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError {
    /// From the section down to the field, outermost first: `cpu/xss`, `env.xss`.
    pub path: Vec<String>,
    /// What is wrong there.
    pub kind: StateErrorKind,
}

/// What is wrong with a field or section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateErrorKind {
    /// The data end inside a field.
    #[error("{wanted} bytes wanted, {left} left")]
    Truncated {
        /// Bytes the field takes.
        wanted: usize,
        /// Bytes there are.
        left: usize,
    },
    /// The layout is one that is not known here.
    #[error("version {found} cannot be read, only {oldest} to {newest}")]
    Version {
        /// The version in the data.
        found: u32,
        /// The oldest that can be read.
        oldest: u32,
        /// The newest that can be read.
        newest: u32,
    },
    /// Both sides must have the same value here.
    #[error("{theirs} where this machine has {own}")]
    Different {
        /// The value of this machine.
        own: u64,
        /// The value in the data.
        theirs: u64,
    },
    /// A value that the device cannot have.
    #[error("{value:#x} is out of range")]
    OutOfRange {
        /// The value.
        value: u64,
    },
    /// A subsection that the table does not name.
    #[error("unknown subsection")]
    UnknownSubsection,
    /// Bytes that no field takes.
    #[error("{count} bytes are left over")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// The device cannot take the state, for a reason of its own.
    #[error("{0}")]
    Refused(String),
}

impl StateError {
    /// An error in the field or section that is being read; whoever visits it adds where that is.
    #[must_use]
    pub fn new(kind: StateErrorKind) -> Self {
        Self { path: Vec::new(), kind }
    }

    /// A value of the field `name` that the device cannot have.
    #[must_use]
    pub fn out_of_range(name: &str, value: impl Into<u64>) -> Self {
        Self::new(StateErrorKind::OutOfRange { value: value.into() }).within(name)
    }

    /// The same error, inside of `name`.
    #[must_use]
    pub fn within(mut self, name: impl Into<String>) -> Self {
        self.path.insert(0, name.into());
        self
    }

    /// The same error, in a section whose whole name this is.
    #[must_use]
    pub fn of_section(self, name: &str) -> Self {
        match self.path.first().is_some_and(|first| name.ends_with(first.as_str())) {
            true => self.renamed(name.to_owned()),
            false => self.within(name),
        }
    }

    /// The same error, with the outermost place called by another name.
    #[must_use]
    pub(super) fn renamed(mut self, name: String) -> Self {
        if let Some(first) = self.path.first_mut() {
            *first = name;
        }
        self
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_slice() {
            [] => self.kind.fmt(f),
            path => write!(f, "{}: {}", path.join(": "), self.kind),
        }
    }
}

impl std::error::Error for StateError {}
