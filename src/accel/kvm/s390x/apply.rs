//! Telling the kernel the CPU model of a guest, before its first vCPU.

use super::control::{ControlError, VmControl, get, set, turn_on};
use super::uapi::{Be64, Feat, Payload, Processor, Subfunc, UvFeat, attr};
use crate::cpu::s390x::ProcessorProps;

/// What the kernel made of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The instruction blocking control that was asked for; 0 for the machine's own.
    pub ibc_asked: u16,
    /// The one the guest runs with. The kernel silently takes the nearest one the machine can do.
    pub ibc: u16,
}

impl Applied {
    /// Whether the guest got another instruction level than it asked for.
    #[must_use]
    pub const fn is_clamped(&self) -> bool {
        self.ibc_asked != 0 && self.ibc != self.ibc_asked
    }
}

/// Sets the guest's CPUs up as `props` says.
///
/// # Errors
/// What the kernel refused; EBUSY if the VM has a vCPU already.
pub fn apply(vm: &impl VmControl, props: &ProcessorProps) -> Result<Applied, ControlError> {
    let mut processor = Processor::zeroed();
    processor.cpuid = Be64::new(props.cpuid);
    processor.ibc = props.ibc.to_be_bytes();
    processor.fac_list = props.fac_list.0.map(Be64::new);
    set(vm, attr::PROCESSOR, &*processor)?;
    let mut feat = Feat::zeroed();
    feat.feat = props.feat.map(Be64::new);
    set(vm, attr::PROCESSOR_FEAT, &*feat)?;
    if vm.has_attr(attr::PROCESSOR_SUBFUNC) {
        let mut subfunc = Subfunc::zeroed();
        subfunc.blocks = *props.subfunctions.0;
        set(vm, attr::PROCESSOR_SUBFUNC, &*subfunc)?;
    }
    if props.cmma {
        turn_on(vm, attr::ENABLE_CMMA)?;
    }
    if props.apie {
        turn_on(vm, attr::ENABLE_APIE)?;
        if vm.has_attr(attr::PROCESSOR_UV_FEAT) {
            let mut uv_feat = UvFeat::zeroed();
            uv_feat.feat = Be64::new(props.uv_feat);
            set(vm, attr::PROCESSOR_UV_FEAT, &*uv_feat)?;
        }
    }
    let set: Box<Processor> = get(vm, attr::PROCESSOR)?;
    Ok(Applied {
        ibc_asked: props.ibc,
        ibc: u16::from_be_bytes(set.ibc),
    })
}

/// Sets a guest up on a kernel that knows no CPU models: page state interpretation is all there is to switch.
///
/// # Errors
/// What the kernel refused.
pub fn apply_without_model(vm: &impl VmControl) -> Result<(), ControlError> {
    if vm.has_attr(attr::ENABLE_CMMA) {
        turn_on(vm, attr::ENABLE_CMMA)?;
    }
    Ok(())
}
