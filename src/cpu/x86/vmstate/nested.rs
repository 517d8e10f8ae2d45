//! The state of a hypervisor that runs in the guest.

use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, Subsections, VmState};

/// Bytes of a VMCS or VMCB.
const CONTROL_BLOCK: usize = 4096;
/// `format` of VMX and SVM in KVM's state.
const FORMAT_VMX: u16 = 0;
const FORMAT_SVM: u16 = 1;
/// Bytes of KVM's header of a nested state (linux/kvm.h, `struct kvm_nested_state`).
const HEADER: u32 = 128;

/// A nested hypervisor, as KVM's `struct kvm_nested_state` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NestedState {
    /// KVM_STATE_NESTED_*.
    pub flags: u16,
    /// What the processor's virtualisation has.
    pub control: NestedControl,
}

/// What the two kinds of virtualisation have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NestedControl {
    /// Intel's.
    Vmx {
        /// Where VMXON put its region.
        vmxon: u64,
        /// Where the current VMCS lies, all ones if there is none.
        vmcs12: u64,
        /// KVM_STATE_NESTED_SMM_*.
        smm_flags: u16,
        /// The current VMCS.
        current: Option<Box<[u8; CONTROL_BLOCK]>>,
        /// Its shadow.
        shadow: Option<Box<[u8; CONTROL_BLOCK]>>,
    },
    /// AMD's.
    Svm {
        /// Where the VMCB lies.
        vmcb: u64,
        /// The VMCB.
        block: Option<Box<[u8; CONTROL_BLOCK]>>,
    },
}

impl Default for NestedState {
    fn default() -> Self {
        Self {
            flags: 0,
            control: NestedControl::Vmx {
                vmxon: u64::MAX,
                vmcs12: u64::MAX,
                smm_flags: 0,
                current: None,
                shadow: None,
            },
        }
    }
}

impl VmState for NestedState {
    fn layout(&self) -> Layout {
        Layout::new("cpu/kvm_nested_state", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("flags", &mut self.flags)?;
        let mut format = match self.control {
            NestedControl::Vmx { .. } => FORMAT_VMX,
            NestedControl::Svm { .. } => FORMAT_SVM,
        };
        fields.int("format", &mut format)?;
        let mut size = self.size();
        fields.int("size", &mut size)?;
        if !fields.reading() {
            return Ok(());
        }
        self.control = match format {
            FORMAT_VMX => Self::default().control,
            FORMAT_SVM => NestedControl::Svm { vmcb: 0, block: None },
            other => return Err(StateError::out_of_range("format", other)),
        };
        Ok(())
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let is_vmx = matches!(&self.control, NestedControl::Vmx { vmxon, .. } if *vmxon != u64::MAX);
        subsections.whole(is_vmx, &mut Vmx(&mut self.control))?;
        let has_block = matches!(&self.control, NestedControl::Svm { block: Some(_), .. });
        subsections.whole(has_block, &mut Svm(&mut self.control))
    }
}

impl NestedState {
    /// Bytes of KVM's structure with what follows its header.
    fn size(&self) -> u32 {
        let blocks = match &self.control {
            NestedControl::Vmx { current, shadow, .. } => u32::from(current.is_some()) + u32::from(shadow.is_some()),
            NestedControl::Svm { block, .. } => u32::from(block.is_some()),
        };
        HEADER + blocks * CONTROL_BLOCK as u32
    }
}

/// What to say when a subsection is one of the other format.
fn wrong_format() -> StateError {
    StateError::new(StateErrorKind::Refused(
        "not of the format that the state has".to_owned(),
    ))
}

struct Vmx<'a>(&'a mut NestedControl);

impl VmState for Vmx<'_> {
    fn layout(&self) -> Layout {
        Layout::new("cpu/kvm_nested_state/vmx", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let NestedControl::Vmx {
            vmxon,
            vmcs12,
            smm_flags,
            ..
        } = self.0
        else {
            return Err(wrong_format());
        };
        fields.int("hdr.vmx.vmxon_pa", vmxon)?;
        fields.int("hdr.vmx.vmcs12_pa", vmcs12)?;
        fields.int("hdr.vmx.smm.flags", smm_flags)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let NestedControl::Vmx { current, shadow, .. } = self.0 else {
            return Err(wrong_format());
        };
        let layout = Layout::new("cpu/kvm_nested_state/vmx/vmcs12", 1);
        control_block(subsections, layout, "data.vmx[0].vmcs12", current)?;
        let layout = Layout::new("cpu/kvm_nested_state/vmx/shadow_vmcs12", 1);
        control_block(subsections, layout, "data.vmx[0].shadow_vmcs12", shadow)
    }
}

fn control_block(
    subsections: &mut Subsections<'_, '_>,
    layout: Layout,
    name: &'static str,
    block: &mut Option<Box<[u8; CONTROL_BLOCK]>>,
) -> Result<(), StateError> {
    subsections.section(layout, block.is_some(), |fields| visit_block(fields, name, block))
}

fn visit_block(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    block: &mut Option<Box<[u8; CONTROL_BLOCK]>>,
) -> Result<(), StateError> {
    let block = block.get_or_insert_with(|| Box::new([0; CONTROL_BLOCK]));
    fields.ints(name, block.as_mut_slice())
}

struct Svm<'a>(&'a mut NestedControl);

impl VmState for Svm<'_> {
    fn layout(&self) -> Layout {
        Layout::new("cpu/kvm_nested_state/svm", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let NestedControl::Svm { vmcb, block } = self.0 else {
            return Err(wrong_format());
        };
        fields.int("hdr.svm.vmcb_pa", vmcb)?;
        visit_block(fields, "data.svm[0].vmcb12", block)
    }
}
