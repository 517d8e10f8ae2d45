//! Section `globalstate`: what the guest was doing when it was saved.

use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, VmState};

/// Bytes for the name of a run state.
const NAME: usize = 32;

/// The run state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalState {
    /// Its name, such as `running`.
    pub runstate: String,
    /// `was_suspended` is told; releases up to 8.2 have room for a longer name there.
    pub tells_suspended: bool,
    /// The guest was asleep when it was stopped.
    pub was_suspended: bool,
}

impl Default for GlobalState {
    fn default() -> Self {
        Self {
            runstate: String::new(),
            tells_suspended: true,
            was_suspended: false,
        }
    }
}

impl VmState for GlobalState {
    fn layout(&self) -> Layout {
        Layout::new("globalstate", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut name = [0; NAME];
        let len = self.runstate.len().min(NAME - 1);
        name[..len].copy_from_slice(&self.runstate.as_bytes()[..len]);
        // With the NUL that ends it.
        let mut size = len as u32 + 1;
        fields.int("size", &mut size)?;
        fields.buffer("runstate", &mut name)?;
        fields.flag::<u8>("has_vm_was_suspended", &mut self.tells_suspended)?;
        fields.flag::<u8>("vm_was_suspended", &mut self.was_suspended)?;
        fields.buffer("unused", &mut [0; 66])?;
        if fields.reading() {
            self.runstate = run_state(&name)?;
        }
        Ok(())
    }
}

fn run_state(name: &[u8; NAME]) -> Result<String, StateError> {
    let end = name.iter().position(|byte| *byte == 0);
    let text = end.and_then(|end| std::str::from_utf8(&name[..end]).ok());
    let refused = || StateErrorKind::Refused("no name of a run state".to_owned());
    text.map(str::to_owned)
        .ok_or_else(|| StateError::new(refused()).within("runstate"))
}

/// Section `acpi_build`: whether firmware has read the ACPI tables, after which they stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcpiBuildState {
    /// It has.
    pub patched: bool,
}

impl VmState for AcpiBuildState {
    fn layout(&self) -> Layout {
        Layout::new("acpi_build", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.flag::<u8>("patched", &mut self.patched)
    }
}

/// Section `PCIBUS`: how many functions of a bus assert each interrupt line. Functions tell for themselves as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciBusState {
    /// A count for each line; buses behind ports have none of their own.
    pub irq_count: Vec<i32>,
}

impl VmState for PciBusState {
    fn layout(&self) -> Layout {
        Layout::new("PCIBUS", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        // The root bus has eight.
        fields.equal("nirq", self.irq_count.len() as u32, "int32 equal")?;
        fields.ints("irq_count", &mut self.irq_count)
    }
}
