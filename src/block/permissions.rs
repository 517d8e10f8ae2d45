//! What users of a node do with it, and what they let others do.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// A set of things to do with a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

/// The numbers and names of those there are. The numbers are those that lie in the locks of image files.
const NAMES: [(u8, &str); 4] = [
    (0, "consistent read"),
    (1, "write"),
    (2, "write unchanged"),
    (3, "resize"),
];

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// To read, and to rely on what was read.
    pub const READ: Self = Self(1);
    /// To write.
    pub const WRITE: Self = Self(1 << 1);
    /// To write what is there already.
    pub const WRITE_UNCHANGED: Self = Self(1 << 2);
    /// To make it longer or shorter.
    pub const RESIZE: Self = Self(1 << 3);
    /// Everything.
    pub const ALL: Self = Self(0xf);

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each thing in it, by number and name.
    pub fn each(self) -> impl Iterator<Item = (u8, &'static str)> {
        NAMES.into_iter().filter(move |(number, _)| self.0 & 1 << number != 0)
    }
}

impl BitAnd for Permissions {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Permissions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Permissions {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.each().map(|(_, name)| name).collect();
        f.write_str(&names.join(", "))
    }
}

/// What one user of a node does with it, and what it lets others do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// What it does.
    pub takes: Permissions,
    /// What others may do.
    pub shares: Permissions,
}

impl Use {
    /// None at all.
    pub const NONE: Self = Self {
        takes: Permissions::NONE,
        shares: Permissions::ALL,
    };

    /// This, and another beside it.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            takes: self.takes | other.takes,
            shares: self.shares & other.shares,
        }
    }
}
