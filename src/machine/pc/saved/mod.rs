//! The saved state of a whole guest: which sections there are, in which order, and whose they are.
//!
//! QEMU's guest of the same command line has the same sections under the same names. Devices that it has and this machine
//! lacks are among them (`devices::absent`).

mod order;
mod parts;
#[cfg(test)]
mod tests;

use super::Vm;
use crate::vmstate::{Saved, Section, StateError, StateErrorKind};
use parts::Parts;

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

/// A section that came from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSection<'a> {
    /// See [`SavedSection::name`].
    pub name: &'a str,
    /// See [`SavedSection::instance`].
    pub instance: u32,
    /// Version of its layout.
    pub version: u32,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// Sections that are read after all others: what reaches an interrupt controller while devices take over their states is
/// nothing that happened.
const LAST: [&str; 2] = ["i8259", "ioapic"];

impl Vm {
    /// Why the guest cannot be saved: each device that stands in the way, with its reason.
    #[must_use]
    pub fn migration_blockers(&self) -> Vec<(&'static str, &'static str)> {
        self.devices.migration_blockers()
    }

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

    /// Takes over the state of another guest of the same command line. Only while paused, just after a reset. Sections may
    /// come in any order, and what there is none for stays as it is. Returns what the guest was doing.
    ///
    /// # Errors
    /// Names the section that is not this guest's, or the field that cannot be taken over. The guest is of no use then.
    pub fn load_sections(&self, received: &[ReceivedSection<'_>]) -> Result<String, StateError> {
        let mut parts = Parts::of(self, "")?;
        let mut unknown: Vec<_> = received
            .iter()
            .map(|section| (section.name, section.instance))
            .collect();
        for controllers in [false, true] {
            self.visit_sections(&mut parts, &mut |name, instance, section| {
                let key = (name, instance);
                let found = received.iter().find(|section| (section.name, section.instance) == key);
                let Some(found) = found.filter(|_| LAST.contains(&name) == controllers) else {
                    return Ok(());
                };
                unknown.retain(|other| *other != key);
                load_one(section, found)
            })?;
        }
        if let Some((name, instance)) = unknown.first() {
            let reason = format!(
                "Unknown section or instance '{name}' {instance}. Make sure that your current VM setup matches your saved VM \
                 setup, including any hotplugged devices"
            );
            return Err(StateError::new(StateErrorKind::Refused(reason)));
        }
        parts.give_to(self)
    }
}

/// A section has a place of its own in a stream, so nothing may be left of it.
fn load_one(section: &mut dyn Section, received: &ReceivedSection<'_>) -> Result<(), StateError> {
    let taken = section.load(received.version, received.bytes)?;
    match received.bytes.len() - taken {
        0 => Ok(()),
        count => Err(StateError::new(StateErrorKind::LeftOver { count }).within(received.name)),
    }
}
