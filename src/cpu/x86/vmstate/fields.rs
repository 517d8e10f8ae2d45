//! The fields of the section `cpu`.

use super::registers::{XMM, YMM_HIGH};
use super::{CpuState, subsections};
use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// The only layout of x87 registers that is in use.
const FPREGS_EXTENDED: u16 = 0;

impl VmState for CpuState {
    fn layout(&self) -> Layout {
        Layout::new("cpu", 12).since(11)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        self.visit_core(fields)?;
        self.visit_system(fields)?;
        visit_svm_of_tcg(fields)?;
        self.visit_memory_types(fields)?;
        self.visit_events(fields)?;
        self.visit_machine_check(fields)?;
        fields.int("env.tsc_aux", &mut self.tsc_aux)?;
        fields.int("env.system_time_msr", &mut self.system_time_msr)?;
        fields.int("env.wall_clock_msr", &mut self.wall_clock_msr)?;
        if fields.version() < 12 {
            return Ok(());
        }
        fields.int("env.xcr0", &mut self.xcr0)?;
        fields.int("env.xstate_bv", &mut self.xstate_bv)?;
        fields.structures("env.xmm_regs[1]", &mut YMM_HIGH.of(&mut self.vectors[..16]))
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        subsections::visit(self, subsections)
    }
}

impl CpuState {
    fn visit_core(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.ints("env.regs", &mut self.regs)?;
        fields.int("env.eip", &mut self.rip)?;
        fields.int("env.eflags", &mut self.rflags)?;
        fields.int("env.hflags", &mut self.hflags)?;
        fields.int("env.fpuc", &mut self.fpu_control)?;
        fields.int("env.fpus_vmstate", &mut self.fpu_status)?;
        fields.int("env.fptag_vmstate", &mut self.fpu_tag)?;
        let mut format = FPREGS_EXTENDED;
        fields.int("env.fpregs_format_vmstate", &mut format)?;
        if format != FPREGS_EXTENDED {
            return Err(StateError::out_of_range("env.fpregs_format_vmstate", format));
        }
        fields.structures("env.fpregs", &mut self.fpregs)
    }

    fn visit_system(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structures("env.segs", &mut self.segments)?;
        fields.structure("env.ldt", &mut self.ldt)?;
        fields.structure("env.tr", &mut self.tr)?;
        fields.structure("env.gdt", &mut self.gdt)?;
        fields.structure("env.idt", &mut self.idt)?;
        fields.int("env.sysenter_cs", &mut self.sysenter_cs)?;
        fields.int("env.sysenter_esp", &mut self.sysenter_esp)?;
        fields.int("env.sysenter_eip", &mut self.sysenter_eip)?;
        fields.int("env.cr[0]", &mut self.cr0)?;
        fields.int("env.cr[2]", &mut self.cr2)?;
        fields.int("env.cr[3]", &mut self.cr3)?;
        fields.int("env.cr[4]", &mut self.cr4)?;
        fields.ints("env.dr", &mut self.dr)?;
        fields.int("env.a20_mask", &mut self.a20_mask)?;
        fields.int("env.mxcsr", &mut self.mxcsr)?;
        fields.structures("env.xmm_regs[0]", &mut XMM.of(&mut self.vectors[..16]))?;
        fields.int("env.efer", &mut self.efer)?;
        fields.int("env.star", &mut self.star)?;
        fields.int("env.lstar", &mut self.lstar)?;
        fields.int("env.cstar", &mut self.cstar)?;
        fields.int("env.fmask", &mut self.fmask)?;
        fields.int("env.kernelgsbase", &mut self.kernel_gs_base)?;
        fields.int("env.smbase", &mut self.smbase)?;
        fields.int("env.pat", &mut self.pat)?;
        fields.int("env.hflags2", &mut self.hflags2)?;
        fields.int("env.vm_hsave", &mut self.vm_hsave)
    }

    fn visit_memory_types(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.ints("env.mtrr_fixed", &mut self.mtrr_fixed)?;
        fields.int("env.mtrr_deftype", &mut self.mtrr_deftype)?;
        fields.structures("env.mtrr_var", &mut self.mtrr_var)
    }

    fn visit_events(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("env.interrupt_injected", &mut self.interrupt_injected)?;
        fields.int("env.mp_state", &mut self.mp_state)?;
        fields.int("env.tsc", &mut self.tsc)?;
        fields.int("env.exception_nr", &mut self.exception_nr)?;
        fields.flag::<u8>("env.soft_interrupt", &mut self.soft_interrupt)?;
        fields.flag::<u8>("env.nmi_injected", &mut self.nmi_injected)?;
        fields.flag::<u8>("env.nmi_pending", &mut self.nmi_pending)?;
        fields.flag::<u8>("env.has_error_code", &mut self.has_error_code)?;
        fields.int("env.sipi_vector", &mut self.sipi_vector)
    }

    fn visit_machine_check(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("env.mcg_cap", &mut self.mcg_cap)?;
        fields.int("env.mcg_status", &mut self.mcg_status)?;
        fields.int("env.mcg_ctl", &mut self.mcg_ctl)?;
        fields.ints("env.mce_banks", &mut self.mce_banks)
    }
}

/// What only an emulated AMD-V has: zero under an accelerator.
fn visit_svm_of_tcg(fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
    for name in ["env.vm_vmcb", "env.tsc_offset", "env.intercept"] {
        fields.int(name, &mut 0_u64)?;
    }
    for name in [
        "env.intercept_cr_read",
        "env.intercept_cr_write",
        "env.intercept_dr_read",
        "env.intercept_dr_write",
    ] {
        fields.int(name, &mut 0_u16)?;
    }
    fields.int("env.intercept_exceptions", &mut 0_u32)?;
    fields.int("env.v_tpr", &mut 0_u8)
}
