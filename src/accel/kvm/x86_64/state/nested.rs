//! The state of a hypervisor that runs in the guest.
#![expect(unsafe_code, reason = "the kernel's structure has unions")]

use kvm_bindings::{KVM_STATE_NESTED_FORMAT_SVM, KVM_STATE_NESTED_FORMAT_VMX, kvm_nested_state};
use kvm_ioctls::{Cap, Kvm, KvmNestedStateBuffer, VcpuFd};

use super::failed;
use crate::accel::kvm::KvmError;
use crate::cpu::x86::vmstate::{CpuState, NestedControl, NestedState};

/// Bytes of the structure's header, and of each VMCS or VMCB behind it.
const HEADER: usize = size_of::<kvm_nested_state>();
const BLOCK: usize = 4096;
/// There is no such VMCS, and no VMXON was executed.
const NONE: u64 = u64::MAX;
/// `hflags`: a guest of the guest runs.
const IN_GUEST: u32 = 1 << 21;
/// Flag of the state: the same.
const GUEST_MODE: u16 = 1;

pub(super) fn save(kvm: &Kvm, fd: &VcpuFd, cpu: &mut CpuState) -> Result<(), KvmError> {
    if !kvm.check_extension(Cap::NestedState) {
        return Ok(());
    }
    let mut buffer = Box::new(KvmNestedStateBuffer::empty());
    // A kernel that was told to have no nested guests knows the request and refuses it.
    if fd.nested_state(&mut buffer).is_err() {
        return Ok(());
    }
    cpu.nested = from_kernel(&buffer);
    if cpu.nested.as_ref().is_some_and(|nested| nested.flags & GUEST_MODE != 0) {
        cpu.hflags |= IN_GUEST;
    }
    Ok(())
}

pub(super) fn load(kvm: &Kvm, fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    let Some(nested) = &cpu.nested else { return Ok(()) };
    if !kvm.check_extension(Cap::NestedState) {
        return Err(KvmError::MissingCapability("KVM_CAP_NESTED_STATE"));
    }
    fd.set_nested_state(&to_kernel(nested))
        .map_err(failed("KVM_SET_NESTED_STATE"))
}

/// None where no hypervisor has begun to work.
fn from_kernel(buffer: &KvmNestedStateBuffer) -> Option<NestedState> {
    let blocks = usize::try_from(buffer.size).ok()?.saturating_sub(HEADER) / BLOCK;
    let control = match u32::from(buffer.format) {
        KVM_STATE_NESTED_FORMAT_VMX => {
            // SAFETY: all members are integers, of which the kernel or `empty` wrote every byte.
            let (header, data) = unsafe { (buffer.hdr.vmx, &buffer.data.vmx) };
            if header.vmxon_pa == NONE {
                return None;
            }
            NestedControl::Vmx {
                vmxon: header.vmxon_pa,
                vmcs12: header.vmcs12_pa,
                smm_flags: header.smm.flags,
                current: (blocks > 0).then(|| Box::new(data.vmcs12)),
                shadow: (blocks > 1).then(|| Box::new(data.shadow_vmcs12)),
            }
        }
        KVM_STATE_NESTED_FORMAT_SVM => {
            // SAFETY: as above.
            let (header, data) = unsafe { (buffer.hdr.svm, &buffer.data.svm) };
            if blocks == 0 {
                return None;
            }
            NestedControl::Svm {
                vmcb: header.vmcb_pa,
                block: Some(Box::new(data.vmcb12)),
            }
        }
        _ => return None,
    };
    Some(NestedState {
        flags: buffer.flags,
        control,
    })
}

fn to_kernel(nested: &NestedState) -> Box<KvmNestedStateBuffer> {
    let mut buffer = Box::new(KvmNestedStateBuffer::empty());
    buffer.flags = nested.flags;
    let blocks = match &nested.control {
        NestedControl::Vmx {
            vmxon,
            vmcs12,
            smm_flags,
            current,
            shadow,
        } => {
            // Both formats are small numbers.
            buffer.format = KVM_STATE_NESTED_FORMAT_VMX as u16;
            // SAFETY: all members are integers, of which `empty` wrote every byte.
            let (header, data) = unsafe { (&mut buffer.hdr.vmx, &mut buffer.data.vmx) };
            header.vmxon_pa = *vmxon;
            header.vmcs12_pa = *vmcs12;
            header.smm.flags = *smm_flags;
            if let Some(block) = current {
                data.vmcs12 = **block;
            }
            if let Some(block) = shadow {
                data.shadow_vmcs12 = **block;
            }
            usize::from(current.is_some()) + usize::from(shadow.is_some())
        }
        NestedControl::Svm { vmcb, block } => {
            buffer.format = KVM_STATE_NESTED_FORMAT_SVM as u16;
            // SAFETY: as above.
            let (header, data) = unsafe { (&mut buffer.hdr.svm, &mut buffer.data.svm) };
            header.vmcb_pa = *vmcb;
            if let Some(block) = block {
                data.vmcb12 = **block;
            }
            usize::from(block.is_some())
        }
    };
    // At most 8320.
    buffer.size = (HEADER + blocks * BLOCK) as u32;
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_survive() {
        let vmx = |current, shadow| NestedControl::Vmx {
            vmxon: 0x1000,
            vmcs12: 0x2000,
            smm_flags: 1,
            current,
            shadow,
        };
        let block = |byte| Some(Box::new([byte; BLOCK]));
        for control in [
            vmx(None, None),
            vmx(block(1), None),
            vmx(block(1), block(2)),
            NestedControl::Svm {
                vmcb: 0x3000,
                block: block(3),
            },
        ] {
            let nested = NestedState { flags: 1, control };
            assert_eq!(from_kernel(&to_kernel(&nested)), Some(nested));
        }
        let idle = NestedState::default();
        assert_eq!(from_kernel(&to_kernel(&idle)), None);
    }
}
