//! The saved state of devices, in QEMU's layout.
//!
//! A device says once, in [`VmState`], which fields its state has: their names, types, order and the conditions of
//! subsections. [`save`] makes bytes and their description from that, [`load`] reads them back. The layout is that of
//! QEMU's migration stream: big-endian, without padding, lengths or tags; only subsections carry a name.

mod describe;
mod error;
mod fields;
mod input;
mod integer;
pub mod pc;
#[cfg(test)]
pub(crate) mod recorded;
mod section;
#[cfg(test)]
mod tests;

pub use describe::{Description, FieldDescription};
pub use error::{StateError, StateErrorKind};
pub use fields::{Fields, Subsections};
pub use integer::Integer;
pub use section::{ReceivedSection, SavedSection, Section, Stateful, Visitor, section};

use input::Input;

/// What a section, struct or subsection is called, and which versions of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// QEMU's name of it.
    pub name: &'static str,
    /// The version that is written.
    pub version: u32,
    /// The oldest version that can be read.
    pub oldest: u32,
}

impl Layout {
    /// A layout of which one version is known.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        assert!(name.len() <= u8::MAX as usize, "the length of a name is a byte");
        Self {
            name,
            version,
            oldest: version,
        }
    }

    /// The same layout, of which versions from `oldest` on can be read.
    #[must_use]
    pub const fn since(self, oldest: u32) -> Self {
        Self { oldest, ..self }
    }

    fn check(self, found: u32) -> Result<(), StateError> {
        if (self.oldest..=self.version).contains(&found) {
            return Ok(());
        }
        let (oldest, newest) = (self.oldest, self.version);
        Err(StateError::new(StateErrorKind::Version { found, oldest, newest }))
    }
}

/// Something that can be saved and moved.
///
/// The methods are called in the order they have here; those that write see the state as it is, those that read change
/// it field by field. After an error the state is of no use and must not run.
pub trait VmState {
    /// Its name and versions.
    fn layout(&self) -> Layout;

    /// Before saving: brings the fields up to date, from an accelerator for example.
    ///
    /// # Errors
    /// The state cannot be had.
    fn pre_save(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Visits every field, in QEMU's order.
    ///
    /// # Errors
    /// Those of `fields`, passed on.
    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError>;

    /// Visits every subsection, in QEMU's order. While reading, this is called once for each subsection that came.
    ///
    /// # Errors
    /// Those of `subsections`, passed on.
    fn subsections(&mut self, _subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        Ok(())
    }

    /// After reading: checks what no field checks by itself, and acts on the new state.
    ///
    /// # Errors
    /// Says which field has a value that the device cannot have.
    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        Ok(())
    }
}

/// A state as it is sent: the bytes, and what they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The fields and subsections.
    pub bytes: Vec<u8>,
    /// Their names, types and sizes.
    pub description: Description,
}

/// Saves a state.
///
/// # Errors
/// The state cannot be had; the error says of what.
pub fn save(state: &mut dyn VmState) -> Result<Saved, StateError> {
    let mut bytes = Vec::new();
    let name = state.layout().name;
    let description = Fields::write(state, &mut bytes).map_err(|error| error.within(name))?;
    Ok(Saved { bytes, description })
}

/// Reads a state of this version from the beginning of `bytes`, and returns how many bytes it took.
///
/// # Errors
/// Names the field that is truncated or out of range, the version or the subsection that is not known.
pub fn load(state: &mut dyn VmState, version: u32, bytes: &[u8]) -> Result<usize, StateError> {
    let mut input = Input::new(bytes);
    let name = state.layout().name;
    Fields::read(state, version, &mut input).map_err(|error| error.within(name))?;
    Ok(bytes.len() - input.len())
}

/// Reads a state that takes all of `bytes`.
///
/// # Errors
/// As [`load`], and if bytes are left over.
pub fn load_whole(state: &mut dyn VmState, version: u32, bytes: &[u8]) -> Result<(), StateError> {
    let name = state.layout().name;
    match bytes.len() - load(state, version, bytes)? {
        0 => Ok(()),
        count => Err(StateError::new(StateErrorKind::LeftOver { count }).within(name)),
    }
}
