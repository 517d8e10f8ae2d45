//! Preparing a VM for a CPU model, and reading what the machine offers.

use super::control::{ControlError, VmControl, check, enable, get, has_model_support};
use super::uapi::{Cap, Feat, Machine, Subfunc, UvFeat, attr, cap};
use crate::cpu::s390x::feature::Capability;
use crate::cpu::s390x::{FacilityList, Host, HostKind, HostModel, MachineProps, Subfunctions};

/// Capabilities no S390 guest can do without.
const REQUIRED: [Cap; 3] = [cap::DEVICE_CTRL, cap::SYNC_REGS, cap::S390_COW];

/// Capabilities to enable, in this order, and before the machine is read: they widen what it offers.
const ENABLED: [Cap; 6] = [
    cap::S390_USER_SIGP,
    cap::S390_VECTOR_REGISTERS,
    cap::S390_USER_STSI,
    cap::S390_CPU_TOPOLOGY,
    cap::S390_GS,
    cap::S390_RI,
];

/// Enables what widens the machine's offer, then reads it. None if the kernel cannot be told a CPU model.
///
/// # Errors
/// If the kernel lacks what every guest needs, or refuses something.
pub fn prepare(vm: &impl VmControl) -> Result<Option<MachineProps>, ControlError> {
    for needed in REQUIRED {
        if !check(vm, needed)? {
            return Err(ControlError::Missing(needed.1));
        }
    }
    for wanted in ENABLED {
        enable(vm, wanted)?;
    }
    // Without the means to save the suppression state a guest with it could not move.
    if check(vm, cap::S390_AIS_MIGRATION)? {
        enable(vm, cap::S390_AIS)?;
    }
    if !has_model_support(vm)? {
        return Ok(None);
    }
    read(vm).map(Some)
}

/// What accelerator `kvm` offers to CPU models.
///
/// # Errors
/// `UnknownHost` if the machine is like none that is known.
pub fn host(props: Option<&MachineProps>) -> Result<Host, ControlError> {
    let model: Option<HostModel> = match props {
        Some(props) => Some(props.host_model().ok_or(ControlError::UnknownHost)?),
        None => None,
    };
    Ok(Host {
        accelerator: "kvm".to_owned(),
        kind: HostKind::Hardware,
        model,
    })
}

fn read(vm: &impl VmControl) -> Result<MachineProps, ControlError> {
    let machine: Box<Machine> = get(vm, attr::MACHINE)?;
    let feat: Box<Feat> = get(vm, attr::MACHINE_FEAT)?;
    let subfunc: Box<Subfunc> = get(vm, attr::MACHINE_SUBFUNC)?;
    let uv_feat = match vm.has_attr(attr::MACHINE_UV_FEAT) {
        true => get::<UvFeat>(vm, attr::MACHINE_UV_FEAT)?.feat.get(),
        false => 0,
    };
    let mut capabilities = Vec::new();
    for (capability, _) in Capability::ALL {
        if check(vm, cap::of_model(capability))? {
            capabilities.push(capability);
        }
    }
    Ok(MachineProps {
        cpuid: machine.cpuid.get(),
        ibc: u32::from_be_bytes(machine.ibc),
        fac_mask: FacilityList(machine.fac_mask.map(super::uapi::Be64::get)),
        fac_list: FacilityList(machine.fac_list.map(super::uapi::Be64::get)),
        feat: feat.feat.map(super::uapi::Be64::get),
        subfunctions: Subfunctions(Box::new(subfunc.blocks)),
        uv_feat,
        cmma: vm.has_attr(attr::ENABLE_CMMA),
        apie: vm.has_attr(attr::ENABLE_APIE),
        capabilities,
    })
}
