//! MSRs and registers of processor extensions. Those that a model may lack are options.

use super::registers::{Bound, LbrRecord};

/// Registers beside those that every x86_64 processor has.
#[derive(Clone, Debug, PartialEq)]
pub struct Extensions {
    /// Opcode, instruction pointer and data pointer of the last x87 instruction.
    pub fpu_last: (u16, u64, u64),
    /// IA32_TSC_ADJUST.
    pub tsc_adjust: u64,
    /// IA32_TSC_DEADLINE.
    pub tsc_deadline: u64,
    /// IA32_MISC_ENABLE; 1 after a reset.
    pub misc_enable: u64,
    /// IA32_FEATURE_CONTROL.
    pub feature_control: u64,
    /// Performance counters.
    pub pmu: Pmu,
    /// Memory protection.
    pub mpx: Mpx,
    /// K0 to K7.
    pub opmasks: [u64; 8],
    /// IA32_XSS.
    pub xss: u64,
    /// IA32_UMWAIT_CONTROL.
    pub umwait: u32,
    /// MSR_SMI_COUNT.
    pub smi_count: u64,
    /// PKRU.
    pub pkru: u32,
    /// IA32_PKRS.
    pub pkrs: u32,
    /// IA32_SPEC_CTRL.
    pub spec_ctrl: u64,
    /// AMD's TSC ratio.
    pub tsc_ratio: Option<u64>,
    /// IA32_MCG_EXT_CTL.
    pub mcg_ext_ctl: u64,
    /// Processor trace.
    pub trace: ProcessorTrace,
    /// VIRT_SPEC_CTRL.
    pub virt_ssbd: u64,
    /// IA32_TSX_CTRL.
    pub tsx_ctrl: Option<u32>,
    /// IA32_SGXLEPUBKEYHASH0 to 3.
    pub sgx_hash: Option<[u64; 4]>,
    /// Extended feature disable.
    pub xfd: Option<Xfd>,
    /// AMD's hardware configuration register.
    pub hwcr: u64,
    /// Flexible return and event delivery.
    pub fred: Option<Fred>,
    /// AMX.
    pub tiles: Option<Box<Tiles>>,
    /// Last branch records.
    pub lbr: Option<Box<LbrState>>,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            fpu_last: (0, 0, 0),
            tsc_adjust: 0,
            tsc_deadline: 0,
            misc_enable: 1,
            feature_control: 0,
            pmu: Pmu::default(),
            mpx: Mpx::default(),
            opmasks: [0; 8],
            xss: 0,
            umwait: 0,
            smi_count: 0,
            pkru: 0,
            pkrs: 0,
            spec_ctrl: 0,
            tsc_ratio: None,
            mcg_ext_ctl: 0,
            trace: ProcessorTrace::default(),
            virt_ssbd: 0,
            tsx_ctrl: None,
            sgx_hash: None,
            xfd: None,
            hwcr: 0,
            fred: None,
            tiles: None,
            lbr: None,
        }
    }
}

/// The architectural performance counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pmu {
    /// IA32_FIXED_CTR_CTRL.
    pub fixed_ctr_ctrl: u64,
    /// IA32_PERF_GLOBAL_CTRL.
    pub global_ctrl: u64,
    /// IA32_PERF_GLOBAL_STATUS.
    pub global_status: u64,
    /// IA32_PERF_GLOBAL_OVF_CTRL.
    pub global_ovf_ctrl: u64,
    /// IA32_FIXED_CTR0 to 2.
    pub fixed_counters: [u64; 3],
    /// IA32_PMC0 to 17.
    pub gp_counters: [u64; 18],
    /// IA32_PERFEVTSEL0 to 17.
    pub gp_evtsel: [u64; 18],
}

/// Memory protection extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mpx {
    /// BND0 to BND3.
    pub bounds: [Bound; 4],
    /// BNDCFGU.
    pub cfgu: u64,
    /// BNDSTATUS.
    pub status: u64,
    /// IA32_BNDCFGS.
    pub cfgs: u64,
}

/// Intel processor trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTrace {
    /// IA32_RTIT_CTL.
    pub ctrl: u64,
    /// IA32_RTIT_STATUS.
    pub status: u64,
    /// IA32_RTIT_OUTPUT_BASE.
    pub output_base: u64,
    /// IA32_RTIT_OUTPUT_MASK_PTRS.
    pub output_mask: u64,
    /// IA32_RTIT_CR3_MATCH.
    pub cr3_match: u64,
    /// IA32_RTIT_ADDR0_A to ADDR3_B.
    pub addresses: [u64; 8],
}

/// Extended feature disable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Xfd {
    /// IA32_XFD.
    pub xfd: u64,
    /// IA32_XFD_ERR.
    pub error: u64,
}

/// Flexible return and event delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fred {
    /// IA32_FRED_RSP0 to 3.
    pub rsp: [u64; 4],
    /// IA32_FRED_STKLVLS.
    pub stklvls: u64,
    /// IA32_FRED_SSP1 to 3.
    pub ssp: [u64; 3],
    /// IA32_FRED_CONFIG.
    pub config: u64,
}

/// The tile registers of AMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// TILECFG.
    pub config: [u8; 64],
    /// TMM0 to TMM7.
    pub data: [u8; 8192],
}

impl Default for Tiles {
    fn default() -> Self {
        Self {
            config: [0; 64],
            data: [0; 8192],
        }
    }
}

/// Architectural last branch records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LbrState {
    /// IA32_LBR_CTL.
    pub ctl: u64,
    /// IA32_LBR_DEPTH.
    pub depth: u64,
    /// The records.
    pub records: [LbrRecord; 32],
}
