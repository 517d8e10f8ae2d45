//! What becomes of input that the schema marks as deprecated or unstable.

use crate::qapi::Error;
use crate::report;

/// What the schema says of something that may change or go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It will go away.
    Deprecated,
    /// It may change at any time.
    Unstable,
}

impl Feature {
    /// How a text about it begins.
    const fn title(self) -> &'static str {
        match self {
            Self::Deprecated => "Deprecated",
            Self::Unstable => "Unstable",
        }
    }
}

/// What is done with such input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is taken as any other.
    Accept,
    /// It is an error.
    Reject,
    /// The process ends by `abort`, so that a client's test cannot pass over it.
    Crash,
}

/// What a client may use (`-compat`). Only what QMP clients send is held against it, not the command line, nor what people
/// type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For what will go away.
    pub deprecated: Reaction,
    /// For what may change.
    pub unstable: Reaction,
}

impl Policy {
    /// Everything is taken.
    pub const ACCEPT_ALL: Self = Self {
        deprecated: Reaction::Accept,
        unstable: Reaction::Accept,
    };

    /// Checks the use of `name`, which is a "command", a "parameter" or a "value".
    ///
    /// # Errors
    /// It is not to be used.
    pub fn check(self, feature: Feature, kind: &str, name: &str) -> Result<(), Error> {
        let text = || format!("{} {kind} {name} disabled by policy", feature.title());
        let reaction = match feature {
            Feature::Deprecated => self.deprecated,
            Feature::Unstable => self.unstable,
        };
        match reaction {
            Reaction::Accept => Ok(()),
            Reaction::Reject if kind == "command" => Err(Error::command_not_found(text())),
            Reaction::Reject => Err(Error::generic(text())),
            Reaction::Crash => {
                report::error(text());
                std::process::abort()
            }
        }
    }
}
