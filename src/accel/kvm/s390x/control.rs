//! What CPU models need of a VM: capabilities and attributes. Behind a trait, so that a simulated kernel can take KVM's place.

use std::io;

use super::uapi::{Attr, Cap, Payload, attr, cap};

/// A VM, before and after its first vCPU.
pub trait VmControl {
    /// What the kernel says of a capability: 0 if it lacks it.
    ///
    /// # Errors
    /// The kernel's.
    fn check_extension(&self, cap: Cap) -> io::Result<i32>;

    /// Enables a capability that takes no arguments.
    ///
    /// # Errors
    /// The kernel's: EINVAL for one it lacks, EBUSY after the first vCPU.
    fn enable_cap(&self, cap: Cap) -> io::Result<()>;

    /// Whether the VM has an attribute.
    fn has_attr(&self, attr: Attr) -> bool;

    /// Reads an attribute; `payload` has exactly its length.
    ///
    /// # Errors
    /// The kernel's.
    fn get_attr(&self, attr: Attr, payload: &mut [u8]) -> io::Result<()>;

    /// Writes an attribute; `payload` has exactly its length.
    ///
    /// # Errors
    /// The kernel's: EBUSY after the first vCPU, EINVAL for what the machine cannot do.
    fn set_attr(&self, attr: Attr, payload: &[u8]) -> io::Result<()>;
}

/// Why a VM cannot have a CPU model.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel is too old for any S390 guest.
    #[error("KVM is missing capability {0}")]
    Missing(&'static str),
    /// The kernel refused something.
    #[error("KVM: {operation} {name} failed")]
    Refused {
        /// `check`, `enable`, `get` or `set`.
        operation: &'static str,
        /// The capability or attribute.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel describes a machine that no known model comes near to.
    #[error("KVM: host CPU model could not be identified")]
    UnknownHost,
}

impl ControlError {
    fn refused(operation: &'static str, name: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused {
            operation,
            name,
            source,
        }
    }
}

/// Whether the kernel has `cap`.
pub(super) fn check(vm: &impl VmControl, cap: Cap) -> Result<bool, ControlError> {
    let answer = vm.check_extension(cap).map_err(ControlError::refused("check", cap.1))?;
    Ok(answer > 0)
}

/// Enables `cap` if the kernel has it; tells whether it is enabled.
pub(super) fn enable(vm: &impl VmControl, cap: Cap) -> Result<bool, ControlError> {
    if !check(vm, cap)? {
        return Ok(false);
    }
    vm.enable_cap(cap).map_err(ControlError::refused("enable", cap.1))?;
    Ok(true)
}

/// Reads an attribute.
pub(super) fn get<P: Payload>(vm: &impl VmControl, attr: Attr) -> Result<Box<P>, ControlError> {
    let mut payload = P::zeroed();
    vm.get_attr(attr, payload.as_bytes_mut())
        .map_err(ControlError::refused("get", attr.name))?;
    Ok(payload)
}

/// Writes an attribute.
pub(super) fn set<P: Payload>(vm: &impl VmControl, attr: Attr, payload: &P) -> Result<(), ControlError> {
    vm.set_attr(attr, payload.as_bytes())
        .map_err(ControlError::refused("set", attr.name))
}

/// Switches an attribute without a payload on.
pub(super) fn turn_on(vm: &impl VmControl, attr: Attr) -> Result<(), ControlError> {
    vm.set_attr(attr, &[]).map_err(ControlError::refused("set", attr.name))
}

/// Whether the kernel lets a guest's CPU model be chosen.
pub(super) fn has_model_support(vm: &impl VmControl) -> Result<bool, ControlError> {
    let needed = [
        attr::MACHINE,
        attr::PROCESSOR,
        attr::MACHINE_FEAT,
        attr::PROCESSOR_FEAT,
        attr::MACHINE_SUBFUNC,
    ];
    Ok(check(vm, cap::VM_ATTRIBUTES)? && needed.into_iter().all(|attr| vm.has_attr(attr)))
}
