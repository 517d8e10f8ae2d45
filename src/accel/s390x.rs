//! What an accelerator does for guests of s390x: as far as CPUs go, it makes the whole guest.

pub use super::kvm::s390x::{Applied, GuestConfig, GuestError};

use super::kvm;
use crate::cpu::s390x::{Inconsistency, Model};

/// A guest with its CPU model set and its vCPUs made. They stand still.
pub trait S390Guest: Send + Sync {
    /// The guest's model; none on a host that knows no CPU models.
    fn model(&self) -> Option<&Model>;
    /// What the host made of the model.
    fn applied(&self) -> Option<Applied>;
    /// What is odd about the model.
    fn inconsistencies(&self) -> &[Inconsistency];
    /// The kernel's ids of the vCPU threads, by vCPU.
    fn thread_ids(&self) -> Vec<i32>;
    /// Lets the guest run.
    ///
    /// # Errors
    /// It cannot.
    fn start(&self) -> Result<(), GuestError>;
}

/// Makes a guest.
///
/// # Errors
/// What is wrong with the model, the host or the kernel.
pub fn create(config: GuestConfig<'_>) -> Result<Box<dyn S390Guest>, GuestError> {
    Ok(Box::new(kvm::s390x::Guest::create(config)?))
}
