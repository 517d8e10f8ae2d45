//! MSRs of interfaces that exist in virtual machines only.

/// KVM's MSRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// MSR_KVM_ASYNC_PF_EN.
    pub async_pf: u64,
    /// MSR_KVM_ASYNC_PF_INT.
    pub async_pf_int: u64,
    /// MSR_KVM_PV_EOI_EN.
    pub pv_eoi: u64,
    /// MSR_KVM_STEAL_TIME.
    pub steal_time: u64,
    /// MSR_KVM_POLL_CONTROL; 1 after a reset.
    pub poll_control: u64,
}

impl Default for Kvm {
    fn default() -> Self {
        Self {
            async_pf: 0,
            async_pf_int: 0,
            pv_eoi: 0,
            steal_time: 0,
            poll_control: 1,
        }
    }
}

/// Hyper-V's MSRs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hyperv {
    /// HV_X64_MSR_GUEST_OS_ID.
    pub guest_os_id: u64,
    /// HV_X64_MSR_HYPERCALL.
    pub hypercall: u64,
    /// HV_X64_MSR_VP_ASSIST_PAGE.
    pub vapic: u64,
    /// HV_X64_MSR_REFERENCE_TSC.
    pub reference_tsc: u64,
    /// HV_X64_MSR_CRASH_P0 to P4.
    pub crash_params: [u64; 5],
    /// HV_X64_MSR_VP_RUNTIME.
    pub runtime: u64,
    /// The synthetic interrupt controller.
    pub synic: Synic,
    /// HV_X64_MSR_STIMER0_CONFIG to 3.
    pub stimer_config: [u64; 4],
    /// HV_X64_MSR_STIMER0_COUNT to 3.
    pub stimer_count: [u64; 4],
    /// HV_X64_MSR_REENLIGHTENMENT_CONTROL, TSC_EMULATION_CONTROL and TSC_EMULATION_STATUS.
    pub reenlightenment: [u64; 3],
}

/// Hyper-V's synthetic interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synic {
    /// HV_X64_MSR_SCONTROL.
    pub control: u64,
    /// HV_X64_MSR_SIEFP.
    pub event_page: u64,
    /// HV_X64_MSR_SIMP.
    pub message_page: u64,
    /// HV_X64_MSR_SINT0 to 15.
    pub sints: [u64; 16],
}
