//! Sections of what is alive: a device says which it has, and turns itself into plain states and back.

use std::marker::PhantomData;

use super::{Layout, Saved, StateError, StateErrorKind, VmState, load, save};

/// Something alive, part of which is a section of saved state.
pub trait Stateful<S: VmState> {
    /// What it is like now.
    fn state(&self) -> S;

    /// Becomes what the state says. It was just reset.
    ///
    /// # Errors
    /// Names what it cannot be. It is of no use then, and must not run.
    fn set_state(&mut self, state: S) -> Result<(), StateError>;
}

/// A section of something alive.
pub trait Section {
    /// Its name and versions.
    fn layout(&self) -> Layout;

    /// Saves it.
    ///
    /// # Errors
    /// The state cannot be had.
    fn save(&self) -> Result<Saved, StateError>;

    /// How many bytes it takes from the beginning of `bytes`. Nothing becomes of them.
    ///
    /// # Errors
    /// As [`load`].
    fn measure(&self, version: u32, bytes: &[u8]) -> Result<usize, StateError>;

    /// Reads it from the beginning of `bytes`, and returns how many bytes it took.
    ///
    /// # Errors
    /// As [`load`], and what the device cannot be.
    fn load(&mut self, version: u32, bytes: &[u8]) -> Result<usize, StateError>;
}

/// Called with each section of a device, in QEMU's order. Sections of one name are told apart by that order.
pub type Visitor<'a> = dyn FnMut(&mut dyn Section) -> Result<(), StateError> + 'a;

/// The section that `S` is of `owner`.
pub fn section<S: VmState>(owner: &mut dyn Stateful<S>) -> impl Section {
    Of {
        owner,
        state: PhantomData,
    }
}

struct Of<'a, S> {
    owner: &'a mut dyn Stateful<S>,
    state: PhantomData<S>,
}

impl<S: VmState> Section for Of<'_, S> {
    fn layout(&self) -> Layout {
        self.owner.state().layout()
    }

    fn save(&self) -> Result<Saved, StateError> {
        save(&mut self.owner.state())
    }

    fn measure(&self, version: u32, bytes: &[u8]) -> Result<usize, StateError> {
        load(&mut self.owner.state(), version, bytes)
    }

    fn load(&mut self, version: u32, bytes: &[u8]) -> Result<usize, StateError> {
        let mut state = self.owner.state();
        let taken = load(&mut state, version, bytes)?;
        let name = state.layout().name;
        self.owner.set_state(state).map_err(|error| error.within(name))?;
        Ok(taken)
    }
}

/// A section of a guest's saved state.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSection {
    /// Its name, with the place of a PCI function before it.
    pub name: String,
    /// Tells sections of the same name apart.
    pub instance: u32,
    /// Version of its layout.
    pub version: u32,
    /// What it holds.
    pub saved: Saved,
}

/// A section that comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSection<'a> {
    /// See [`SavedSection::name`].
    pub name: &'a str,
    /// See [`SavedSection::instance`].
    pub instance: u32,
    /// Version of its layout.
    pub version: u32,
    /// What it holds, and perhaps more after that.
    pub bytes: &'a [u8],
}

impl ReceivedSection<'_> {
    /// The error that a guest has no such section.
    #[must_use]
    pub fn unknown(&self) -> StateError {
        let Self { name, instance, .. } = self;
        StateError::new(StateErrorKind::Refused(format!(
            "Unknown section or instance '{name}' {instance}. Make sure that your current VM setup matches your saved VM setup, \
             including any hotplugged devices"
        )))
    }
}
