//! The state of a vCPU as QEMU's sections `cpu`, `cpu_common` and `apic` have it.
//!
//! These are plain values; accelerators fill them in and take them back.

mod apic;
mod common;
mod extensions;
mod fields;
mod nested;
mod paravirtual;
mod registers;
mod subsections;
#[cfg(test)]
mod tests;

pub use apic::ApicState;
pub use common::CpuCommonState;
pub use extensions::{Extensions, Fred, LbrState, Mpx, Pmu, ProcessorTrace, Tiles, Xfd};
pub use nested::{NestedControl, NestedState};
pub use paravirtual::{Hyperv, Kvm, Synic};
pub use registers::{Bound, FpReg, LbrRecord, MtrrVar, Segment, Vector};

/// Number of machine check banks that a stream has room for.
pub const MCE_BANKS: usize = 10;

/// The registers of a vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuState {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: the order of the instruction encoding.
    pub regs: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// QEMU's digest of the mode: bit 19 in SMM, bit 21 running a nested guest; KVM needs no more of it.
    pub hflags: u32,
    /// x87 control word.
    pub fpu_control: u16,
    /// x87 status word, with TOP in bits 11 to 13.
    pub fpu_status: u16,
    /// Abridged tag word, as in FXSAVE: bit n is set if register n is in use.
    pub fpu_tag: u16,
    /// ST(0) to ST(7).
    pub fpregs: [FpReg; 8],
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    /// LDTR.
    pub ldt: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR; base and limit only.
    pub gdt: Segment,
    /// IDTR; base and limit only.
    pub idt: Segment,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u32,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// DR0 to DR7; 4 and 5 are copies of 6 and 7.
    pub dr: [u64; 8],
    /// All ones but for bit 20, which is clear while A20 is masked.
    pub a20_mask: i32,
    /// MXCSR.
    pub mxcsr: u32,
    /// ZMM0 to ZMM31.
    pub vectors: [Vector; 32],
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// Where SMM begins.
    pub smbase: u32,
    /// IA32_PAT.
    pub pat: u64,
    /// Bit 0 global interrupt flag, bit 2 NMIs blocked, bit 4 SMM entered from an NMI, bit 8 virtual GIF.
    pub hflags2: u32,
    /// VM_HSAVE_PA.
    pub vm_hsave: u64,
    /// Fixed-range MTRRs: 64K_00000, 16K_80000, 16K_A0000, 4K_C0000 to 4K_F8000.
    pub mtrr_fixed: [u64; 11],
    /// IA32_MTRR_DEF_TYPE.
    pub mtrr_deftype: u64,
    /// Variable-range MTRRs.
    pub mtrr_var: [MtrrVar; 8],
    /// The vector of an interrupt that is being delivered, else -1.
    pub interrupt_injected: i32,
    /// KVM_MP_STATE_*.
    pub mp_state: u32,
    /// IA32_TIME_STAMP_COUNTER.
    pub tsc: u64,
    /// The vector of an exception that is being delivered, else -1.
    pub exception_nr: i32,
    /// The interrupt that is being delivered is one of an INT instruction.
    pub soft_interrupt: bool,
    /// An NMI is being delivered.
    pub nmi_injected: bool,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// The exception that is being delivered pushes an error code.
    pub has_error_code: bool,
    /// The vector of the last start-up IPI.
    pub sipi_vector: u32,
    /// IA32_MCG_CAP.
    pub mcg_cap: u64,
    /// IA32_MCG_STATUS.
    pub mcg_status: u64,
    /// IA32_MCG_CTL.
    pub mcg_ctl: u64,
    /// IA32_MCi_CTL, _STATUS, _ADDR and _MISC of each bank.
    pub mce_banks: [u64; 4 * MCE_BANKS],
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// MSR_KVM_SYSTEM_TIME.
    pub system_time_msr: u64,
    /// MSR_KVM_WALL_CLOCK.
    pub wall_clock_msr: u64,
    /// XCR0.
    pub xcr0: u64,
    /// XSTATE_BV of the XSAVE header.
    pub xstate_bv: u64,
    /// The error code of the exception that is being delivered, where the machine type has a place for it.
    pub error_code: Option<i32>,
    /// An exception that was raised while a nested guest ran.
    pub exception: Option<PendingException>,
    /// MSRs and registers of processor extensions.
    pub extensions: Extensions,
    /// MSRs of KVM's own interface to guests.
    pub kvm: Kvm,
    /// MSRs of Hyper-V's interface to guests.
    pub hyperv: Hyperv,
    /// The nested hypervisor, if there is one.
    pub nested: Option<NestedState>,
    /// The guest's TSC frequency in kHz, 0 if it is not known.
    pub tsc_khz: i64,
    /// The page-directory pointers that PAE paging has loaded.
    pub pdptrs: Option<[u64; 4]>,
    /// A triple fault waits.
    pub triple_fault_pending: bool,
}

/// All that is saved of a vCPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VcpuState {
    /// Its registers.
    pub cpu: CpuState,
    /// What vCPUs of all architectures have.
    pub common: CpuCommonState,
    /// Its local APIC.
    pub apic: ApicState,
}

/// An exception that has not been delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingException {
    /// It waits.
    pub pending: bool,
    /// It is being delivered.
    pub injected: bool,
    /// `payload` is of use.
    pub has_payload: bool,
    /// What goes into CR2 or DR6.
    pub payload: u64,
}

impl Default for CpuState {
    /// What a state reads as whose section leaves everything out: not a state that a vCPU has.
    fn default() -> Self {
        Self {
            regs: [0; 16],
            rip: 0,
            rflags: 0,
            hflags: 0,
            fpu_control: 0,
            fpu_status: 0,
            fpu_tag: 0,
            fpregs: [FpReg::default(); 8],
            segments: [Segment::default(); 6],
            ldt: Segment::default(),
            tr: Segment::default(),
            gdt: Segment::default(),
            idt: Segment::default(),
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            dr: [0; 8],
            a20_mask: -1,
            mxcsr: 0,
            vectors: [[0; 8]; 32],
            efer: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            smbase: 0,
            pat: 0,
            hflags2: 0,
            vm_hsave: 0,
            mtrr_fixed: [0; 11],
            mtrr_deftype: 0,
            mtrr_var: [MtrrVar::default(); 8],
            interrupt_injected: -1,
            mp_state: 0,
            tsc: 0,
            exception_nr: -1,
            soft_interrupt: false,
            nmi_injected: false,
            nmi_pending: false,
            has_error_code: false,
            sipi_vector: 0,
            mcg_cap: 0,
            mcg_status: 0,
            mcg_ctl: 0,
            mce_banks: [0; 4 * MCE_BANKS],
            tsc_aux: 0,
            system_time_msr: 0,
            wall_clock_msr: 0,
            xcr0: 1,
            xstate_bv: 0,
            error_code: None,
            exception: None,
            extensions: Extensions::default(),
            kvm: Kvm::default(),
            hyperv: Hyperv::default(),
            nested: None,
            tsc_khz: 0,
            pdptrs: None,
            triple_fault_pending: false,
        }
    }
}
