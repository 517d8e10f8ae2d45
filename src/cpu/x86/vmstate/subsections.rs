//! The subsections of the section `cpu`, in QEMU's order: one for each group of registers that most guests never touch.
//!
//! A subsection that did not come means that its registers have the value of a reset.

use super::registers::{ZMM, ZMM_HIGH};
use super::{CpuState, Mpx, Pmu, ProcessorTrace, Synic};
use crate::vmstate::{Integer, Layout, StateError, Subsections};

/// Visits all of them.
pub(super) fn visit(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    visit_events(cpu, all)?;
    visit_kvm(cpu, all)?;
    visit_older_extensions(cpu, all)?;
    visit_hyperv(cpu, all)?;
    visit_avx512(cpu, all)?;
    visit_later_extensions(cpu, all)?;
    let nested = &mut cpu.nested;
    all.section(of("cpu/nested_state"), nested.is_some(), |fields| {
        fields.structure("env.nested_state", nested.get_or_insert_default())
    })?;
    visit_models(cpu, all)
}

const fn of(name: &'static str) -> Layout {
    Layout::new(name, 1)
}

/// A subsection of one field, which is left out while that is `initial`.
fn unless<T: Integer + PartialEq>(
    all: &mut Subsections<'_, '_>,
    layout: Layout,
    name: &'static str,
    value: &mut T,
    initial: T,
) -> Result<(), StateError> {
    all.section(layout, *value != initial, |fields| fields.int(name, value))
}

/// A subsection of one field that the model may lack.
fn optional<T: Integer + Default>(
    all: &mut Subsections<'_, '_>,
    layout: Layout,
    name: &'static str,
    value: &mut Option<T>,
) -> Result<(), StateError> {
    all.section(layout, value.is_some(), |fields| {
        fields.int(name, value.get_or_insert_default())
    })
}

fn visit_events(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let exception = &mut cpu.exception;
    all.section(of("cpu/exception_info"), exception.is_some(), |fields| {
        let exception = exception.get_or_insert_default();
        fields.flag::<u8>("env.exception_pending", &mut exception.pending)?;
        fields.flag::<u8>("env.exception_injected", &mut exception.injected)?;
        fields.flag::<u8>("env.exception_has_payload", &mut exception.has_payload)?;
        fields.int("env.exception_payload", &mut exception.payload)
    })?;
    optional(all, of("cpu/error_code"), "env.error_code", &mut cpu.error_code)
}

fn visit_kvm(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let kvm = &mut cpu.kvm;
    unless(all, of("cpu/async_pf_msr"), "env.async_pf_en_msr", &mut kvm.async_pf, 0)?;
    unless(
        all,
        of("cpu/async_pf_int_msr"),
        "env.async_pf_int_msr",
        &mut kvm.async_pf_int,
        0,
    )?;
    unless(all, of("cpu/async_pv_eoi_msr"), "env.pv_eoi_en_msr", &mut kvm.pv_eoi, 0)?;
    unless(
        all,
        of("cpu/steal_time_msr"),
        "env.steal_time_msr",
        &mut kvm.steal_time,
        0,
    )?;
    unless(
        all,
        of("cpu/poll_control_msr"),
        "env.poll_control_msr",
        &mut kvm.poll_control,
        1,
    )
}

fn visit_older_extensions(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let ext = &mut cpu.extensions;
    let last = &mut ext.fpu_last;
    all.section(of("cpu/fpop_ip_dp"), *last != (0, 0, 0), |fields| {
        fields.int("env.fpop", &mut last.0)?;
        fields.int("env.fpip", &mut last.1)?;
        fields.int("env.fpdp", &mut last.2)
    })?;
    unless(all, of("cpu/msr_tsc_adjust"), "env.tsc_adjust", &mut ext.tsc_adjust, 0)?;
    unless(
        all,
        of("cpu/msr_tscdeadline"),
        "env.tsc_deadline",
        &mut ext.tsc_deadline,
        0,
    )?;
    unless(
        all,
        of("cpu/msr_ia32_misc_enable"),
        "env.msr_ia32_misc_enable",
        &mut ext.misc_enable,
        1,
    )?;
    let control = &mut ext.feature_control;
    unless(
        all,
        of("cpu/msr_ia32_feature_control"),
        "env.msr_ia32_feature_control",
        control,
        0,
    )?;
    let pmu = &mut ext.pmu;
    all.section(of("cpu/msr_architectural_pmu"), *pmu != Pmu::default(), |fields| {
        fields.int("env.msr_fixed_ctr_ctrl", &mut pmu.fixed_ctr_ctrl)?;
        fields.int("env.msr_global_ctrl", &mut pmu.global_ctrl)?;
        fields.int("env.msr_global_status", &mut pmu.global_status)?;
        fields.int("env.msr_global_ovf_ctrl", &mut pmu.global_ovf_ctrl)?;
        fields.ints("env.msr_fixed_counters", &mut pmu.fixed_counters)?;
        fields.ints("env.msr_gp_counters", &mut pmu.gp_counters)?;
        fields.ints("env.msr_gp_evtsel", &mut pmu.gp_evtsel)
    })?;
    let mpx = &mut ext.mpx;
    all.section(of("cpu/mpx"), *mpx != Mpx::default(), |fields| {
        fields.structures("env.bnd_regs", &mut mpx.bounds)?;
        fields.int("env.bndcs_regs.cfgu", &mut mpx.cfgu)?;
        fields.int("env.bndcs_regs.sts", &mut mpx.status)?;
        fields.int("env.msr_bndcfgs", &mut mpx.cfgs)
    })
}

fn visit_hyperv(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let hyperv = &mut cpu.hyperv;
    let (id, hypercall) = (&mut hyperv.guest_os_id, &mut hyperv.hypercall);
    all.section(of("cpu/msr_hyperv_hypercall"), *id != 0 || *hypercall != 0, |fields| {
        fields.int("env.msr_hv_guest_os_id", id)?;
        fields.int("env.msr_hv_hypercall", hypercall)
    })?;
    unless(
        all,
        of("cpu/msr_hyperv_vapic"),
        "env.msr_hv_vapic",
        &mut hyperv.vapic,
        0,
    )?;
    unless(
        all,
        of("cpu/msr_hyperv_time"),
        "env.msr_hv_tsc",
        &mut hyperv.reference_tsc,
        0,
    )?;
    let crash = &mut hyperv.crash_params;
    all.section(of("cpu/msr_hyperv_crash"), *crash != [0; 5], |fields| {
        fields.ints("env.msr_hv_crash_params", crash)
    })?;
    unless(
        all,
        of("cpu/msr_hyperv_runtime"),
        "env.msr_hv_runtime",
        &mut hyperv.runtime,
        0,
    )?;
    let synic = &mut hyperv.synic;
    all.section(of("cpu/msr_hyperv_synic"), *synic != Synic::default(), |fields| {
        fields.int("env.msr_hv_synic_control", &mut synic.control)?;
        fields.int("env.msr_hv_synic_evt_page", &mut synic.event_page)?;
        fields.int("env.msr_hv_synic_msg_page", &mut synic.message_page)?;
        fields.ints("env.msr_hv_synic_sint", &mut synic.sints)
    })?;
    let (config, count) = (&mut hyperv.stimer_config, &mut hyperv.stimer_count);
    let configured = *config != [0; 4] || *count != [0; 4];
    all.section(of("cpu/msr_hyperv_stimer"), configured, |fields| {
        fields.ints("env.msr_hv_stimer_config", config)?;
        fields.ints("env.msr_hv_stimer_count", count)
    })?;
    let [control, emulation, status] = &mut hyperv.reenlightenment;
    let used = *control != 0 || *emulation != 0 || *status != 0;
    all.section(of("cpu/msr_hyperv_reenlightenment"), used, |fields| {
        fields.int("env.msr_hv_reenlightenment_control", control)?;
        fields.int("env.msr_hv_tsc_emulation_control", emulation)?;
        fields.int("env.msr_hv_tsc_emulation_status", status)
    })
}

fn visit_avx512(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let masks = &mut cpu.extensions.opmasks;
    let (low, high) = cpu.vectors.split_at_mut(16);
    let upper_half = low.iter().any(|vector| vector[4..] != [0; 4]);
    let upper_file = high.iter().any(|vector| *vector != [0; 8]);
    all.section(
        of("cpu/avx512"),
        *masks != [0; 8] || upper_half || upper_file,
        |fields| {
            fields.ints("env.opmask_regs", masks)?;
            fields.structures("env.xmm_regs[0]", &mut ZMM_HIGH.of(low))?;
            fields.structures("env.xmm_regs[1]", &mut ZMM.of(high))
        },
    )
}

fn visit_later_extensions(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let ext = &mut cpu.extensions;
    unless(all, of("cpu/xss"), "env.xss", &mut ext.xss, 0)?;
    unless(all, of("cpu/umwait"), "env.umwait", &mut ext.umwait, 0)?;
    unless(all, of("cpu/tsc_khz"), "env.tsc_khz", &mut cpu.tsc_khz, 0)?;
    unless(all, of("cpu/msr_smi_count"), "env.msr_smi_count", &mut ext.smi_count, 0)?;
    unless(all, of("cpu/pkru"), "env.pkru", &mut ext.pkru, 0)?;
    unless(all, of("cpu/pkrs"), "env.pkrs", &mut ext.pkrs, 0)?;
    unless(all, of("cpu/spec_ctrl"), "env.spec_ctrl", &mut ext.spec_ctrl, 0)?;
    optional(
        all,
        of("cpu/amd_tsc_scale_msr"),
        "env.amd_tsc_scale_msr",
        &mut ext.tsc_ratio,
    )?;
    unless(all, of("cpu/mcg_ext_ctl"), "env.mcg_ext_ctl", &mut ext.mcg_ext_ctl, 0)?;
    let trace = &mut ext.trace;
    all.section(of("cpu/intel_pt"), *trace != ProcessorTrace::default(), |fields| {
        fields.int("env.msr_rtit_ctrl", &mut trace.ctrl)?;
        fields.int("env.msr_rtit_status", &mut trace.status)?;
        fields.int("env.msr_rtit_output_base", &mut trace.output_base)?;
        fields.int("env.msr_rtit_output_mask", &mut trace.output_mask)?;
        fields.int("env.msr_rtit_cr3_match", &mut trace.cr3_match)?;
        fields.ints("env.msr_rtit_addrs", &mut trace.addresses)
    })?;
    unless(all, of("cpu/virt_ssbd"), "env.virt_ssbd", &mut ext.virt_ssbd, 0)
}

/// Registers that are sent because the model has them, whatever their value.
fn visit_models(cpu: &mut CpuState, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
    let ext = &mut cpu.extensions;
    optional(all, of("cpu/msr_tsx_ctrl"), "env.tsx_ctrl", &mut ext.tsx_ctrl)?;
    let hash = &mut ext.sgx_hash;
    all.section(of("cpu/intel_sgx"), hash.is_some(), |fields| {
        fields.ints("env.msr_ia32_sgxlepubkeyhash", hash.get_or_insert_default())
    })?;
    let pdptrs = &mut cpu.pdptrs;
    all.section(of("cpu/pdptrs"), pdptrs.is_some(), |fields| {
        fields.ints("env.pdptrs", pdptrs.get_or_insert_default())
    })?;
    let xfd = &mut ext.xfd;
    all.section(of("cpu/msr_xfd"), xfd.is_some(), |fields| {
        let xfd = xfd.get_or_insert_default();
        fields.int("env.msr_xfd", &mut xfd.xfd)?;
        fields.int("env.msr_xfd_err", &mut xfd.error)
    })?;
    unless(all, of("cpu/msr_hwcr"), "env.msr_hwcr", &mut ext.hwcr, 0)?;
    let fred = &mut ext.fred;
    all.section(of("cpu/fred"), fred.is_some(), |fields| {
        let fred = fred.get_or_insert_default();
        let names = ["env.fred_rsp0", "env.fred_rsp1", "env.fred_rsp2", "env.fred_rsp3"];
        for (name, rsp) in names.into_iter().zip(&mut fred.rsp) {
            fields.int(name, rsp)?;
        }
        fields.int("env.fred_stklvls", &mut fred.stklvls)?;
        for (name, ssp) in ["env.fred_ssp1", "env.fred_ssp2", "env.fred_ssp3"]
            .into_iter()
            .zip(&mut fred.ssp)
        {
            fields.int(name, ssp)?;
        }
        fields.int("env.fred_config", &mut fred.config)
    })?;
    let tiles = &mut ext.tiles;
    all.section(of("cpu/intel_amx_xtile"), tiles.is_some(), |fields| {
        let tiles = tiles.get_or_insert_default();
        fields.ints("env.xtilecfg", &mut tiles.config)?;
        fields.ints("env.xtiledata", &mut tiles.data)
    })?;
    let lbr = &mut ext.lbr;
    all.section(of("cpu/arch_lbr"), lbr.is_some(), |fields| {
        let lbr = lbr.get_or_insert_default();
        fields.int("env.msr_lbr_ctl", &mut lbr.ctl)?;
        fields.int("env.msr_lbr_depth", &mut lbr.depth)?;
        fields.structures("env.lbr_records", &mut lbr.records)
    })?;
    let pending = &mut cpu.triple_fault_pending;
    all.section(of("cpu/triple_fault"), *pending, |fields| {
        fields.flag::<u8>("env.triple_fault_pending", pending)
    })
}
