//! Interrupts of PICs outside the kernel, on their way into a vCPU (KVM_INTERRUPT).

use std::io;

use kvm_ioctls::VcpuFd;
use nix::errno::Errno;

use super::ioctls;
use crate::accel::x86_64::X86Exits;

/// What is between the PICs and the vCPU whose local APIC they are wired to.
#[derive(Debug, Default)]
pub(super) struct ExternalInput {
    /// Acknowledged at the PICs and not yet taken by the kernel.
    vector: Option<u8>,
}

impl ExternalInput {
    /// The interrupt that has been acknowledged and not been taken.
    pub(super) fn waiting(&self) -> Option<u8> {
        self.vector
    }

    /// Before each KVM_RUN: hands over an interrupt, if the vCPU can take it now, or asks for an exit when it can.
    ///
    /// # Errors
    /// When KVM refuses the interrupt.
    pub(super) fn offer(&mut self, fd: &mut VcpuFd, handler: &dyn X86Exits) -> io::Result<()> {
        let is_ready = fd.get_kvm_run().ready_for_interrupt_injection != 0;
        if is_ready && (self.vector.is_some() || handler.has_external_interrupt()) {
            self.vector = self.vector.or_else(|| handler.take_external_interrupt());
            self.hand_over(fd)?;
        }
        let wants_more = self.vector.is_some() || handler.has_external_interrupt();
        fd.get_kvm_run().request_interrupt_window = u8::from(wants_more);
        Ok(())
    }

    fn hand_over(&mut self, fd: &VcpuFd) -> io::Result<()> {
        let Some(vector) = self.vector else { return Ok(()) };
        match ioctls::interrupt(fd, vector) {
            Ok(()) => self.vector = None,
            // The one before has not reached the guest yet.
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
