//! Message-signalled interrupts.

use std::{io, sync::Arc};

use vmm_sys_util::eventfd::EventFd;

/// A message: what is written where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Msi {
    /// The guest physical address that is written to. On a PC it names the processors; bits 8 to 14 of a destination are
    /// in bits 5 to 11, where virtual machines have them (KVM_FEATURE_MSI_EXT_DEST_ID).
    pub address: u64,
    /// What is written. On a PC: vector, delivery mode and trigger mode.
    pub data: u32,
}

/// An interrupt of a device that the guest programs with a message.
pub trait MsiVector: Send + Sync {
    /// From now on the vector sends `to`; none while it is masked or off.
    fn program(&self, to: Option<Msi>);
    /// Sends the message. Of a masked vector with a descriptor it is remembered until the vector is programmed; without
    /// one it is lost. Never waits.
    fn fire(&self);
    /// The vector's descriptor, the same each time: a write to it fires the vector, from whatever process.
    ///
    /// # Errors
    /// The host has no descriptor left, or the accelerator takes none for an interrupt.
    fn event(&self) -> io::Result<Arc<EventFd>>;
    /// Whether the vector was fired through its descriptor while it was masked.
    fn is_pending(&self) -> bool;
}

/// Where devices get vectors.
pub trait MsiSource: Send + Sync {
    /// A new vector, masked. It costs nothing until it has a descriptor.
    fn vector(&self) -> Arc<dyn MsiVector>;
    /// Programs many vectors at the cost of one.
    fn together(&self, job: &mut dyn FnMut());
}
