//! A cursor over the bytes of a saved state.

use super::error::{StateError, StateErrorKind};

/// Marks a subsection; its name with a length byte follows.
pub(super) const SUBSECTION: u8 = 0x05;

/// Bytes that have not been read.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        Ok(*array)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Name and version of the subsection that comes next, if it is one of `owner`.
    pub(super) fn subsection(&mut self, owner: &str) -> Result<Option<(&'a str, u32)>, StateError> {
        let [SUBSECTION, len, after @ ..] = self.rest else {
            return Ok(None);
        };
        let name = after
            .get(..usize::from(*len))
            .and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| name.starts_with(owner)) else {
            return Ok(None);
        };
        self.rest = &after[name.len()..];
        let version = self.array().map(u32::from_be_bytes);
        Ok(Some((name, version.map_err(|error| error.within(name))?)))
    }

    fn truncated(&self, wanted: usize) -> StateError {
        let left = self.rest.len();
        StateError::new(StateErrorKind::Truncated { wanted, left })
    }
}
