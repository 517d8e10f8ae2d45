//! The section `cpu_common`: what QEMU keeps of every kind of vCPU.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// What is the same for vCPUs of all architectures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuCommonState {
    /// The vCPU executed HLT and waits.
    pub halted: bool,
    /// Bit 6 an SMI waits, bit 9 an NMI, bit 10 an INIT that is latched.
    pub interrupt_request: u32,
    /// The guest reported that it crashed.
    pub crash_occurred: bool,
}

impl VmState for CpuCommonState {
    fn layout(&self) -> Layout {
        Layout::new("cpu_common", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.flag::<u32>("halted", &mut self.halted)?;
        fields.int("interrupt_request", &mut self.interrupt_request)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let crashed = &mut self.crash_occurred;
        subsections.section(Layout::new("cpu_common/crash_occurred", 1), *crashed, |fields| {
            fields.int("crash_occurred", crashed)
        })
    }
}
