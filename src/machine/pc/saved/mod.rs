//! The saved state of a whole guest: which sections there are, in which order, and whose they are.
//!
//! QEMU's guest of the same command line has the same sections under the same names. Devices that it has and this machine
//! lacks are among them (`devices::absent`).

mod memory;
mod order;
mod parts;
#[cfg(test)]
mod tests;

use super::Vm;
use crate::machine::saved::StateLoader;
use crate::vmstate::{ReceivedSection, SavedSection, Section, StateError, StateErrorKind};
pub(super) use memory::CopiedTables;
use parts::Parts;

/// Sections that are given to their devices after all others: what reaches an interrupt controller while devices take over
/// their states is nothing that happened.
const LAST: [&str; 2] = ["i8259", "ioapic"];

impl Vm {
    /// Saves all sections of the guest but that of its memory, in the order of a stream. Only while paused. `run_state` is
    /// what the guest is doing, such as `running`.
    ///
    /// # Errors
    /// Something cannot be saved; the guest is as it was.
    pub fn save_sections(&self, run_state: &str) -> Result<Vec<SavedSection>, StateError> {
        let mut parts = Parts::of(self, run_state)?;
        let mut all = Vec::new();
        self.visit_sections(&mut parts, &mut |name, instance, section| {
            let version = section.layout().version;
            let saved = section.save()?;
            all.push(SavedSection {
                name: name.to_owned(),
                instance,
                version,
                saved,
            });
            Ok(())
        })?;
        Ok(all)
    }

    /// Begins to take over the state of another guest of the same command line. Only while paused, just after a reset.
    ///
    /// # Errors
    /// The accelerator does not tell what there is.
    pub fn loader(&self) -> Result<Loader<'_>, StateError> {
        Ok(Loader {
            vm: self,
            parts: Parts::of(self, "")?,
            last: Vec::new(),
        })
    }
}

/// Takes over the state of another guest, section by section. What there is no section for stays as it is.
pub struct Loader<'a> {
    vm: &'a Vm,
    parts: Parts,
    /// Sections of [`LAST`].
    last: Vec<(String, u32, u32, Vec<u8>)>,
}

impl Loader<'_> {
    /// Calls `visit` with the section of this name and instance.
    fn with<R>(
        &mut self,
        received: &ReceivedSection<'_>,
        visit: impl FnOnce(&mut dyn Section) -> Result<R, StateError>,
    ) -> Result<R, StateError> {
        let (mut visit, mut result) = (Some(visit), None);
        self.vm
            .visit_sections(&mut self.parts, &mut |name, instance, section| {
                let is_meant = (name, instance) == (received.name, received.instance);
                if let Some(visit) = visit.take_if(|_| is_meant) {
                    result = Some(visit(section).map_err(|error| error.of_section(name))?);
                }
                Ok(())
            })?;
        result.ok_or_else(|| received.unknown())
    }
}

impl StateLoader for Loader<'_> {
    fn measure(&mut self, received: &ReceivedSection<'_>) -> Result<usize, StateError> {
        self.with(received, |section| section.measure(received.version, received.bytes))
    }

    fn load(&mut self, received: &ReceivedSection<'_>) -> Result<(), StateError> {
        let ReceivedSection {
            name,
            instance,
            version,
            bytes,
        } = *received;
        if LAST.contains(&name) {
            let taken = self.measure(received)?;
            self.last.push((name.to_owned(), instance, version, bytes.to_vec()));
            return whole(name, bytes, taken);
        }
        let taken = self.with(received, |section| section.load(version, bytes))?;
        whole(name, bytes, taken)
    }

    fn finish(mut self: Box<Self>) -> Result<String, StateError> {
        for (name, instance, version, bytes) in std::mem::take(&mut self.last) {
            let received = ReceivedSection {
                name: &name,
                instance,
                version,
                bytes: &bytes,
            };
            self.with(&received, |section| section.load(version, &bytes))?;
        }
        self.parts.give_to(self.vm)
    }
}

/// A section has a place of its own in a stream, so nothing may be left of it.
fn whole(name: &str, bytes: &[u8], taken: usize) -> Result<(), StateError> {
    match bytes.len() - taken {
        0 => Ok(()),
        count => Err(StateError::new(StateErrorKind::LeftOver { count }).within(name)),
    }
}
