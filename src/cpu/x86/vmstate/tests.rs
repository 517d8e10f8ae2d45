//! The sections of vCPUs against those that QEMU wrote.

use super::*;
use crate::vmstate::recorded::check_round_trips;
use crate::vmstate::{load_whole, save};

#[test]
fn recorded_vcpus_are_read_and_written_alike() {
    check_round_trips("cpu", |_| CpuState::default());
    check_round_trips("cpu_common", |_| CpuCommonState::default());
    check_round_trips("apic", |_| ApicState::default());
}

/// Every subsection is needed by this one.
fn full() -> CpuState {
    let mut cpu = CpuState {
        exception: Some(PendingException {
            pending: true,
            payload: 0x1000,
            has_payload: true,
            injected: false,
        }),
        error_code: Some(-2),
        tsc_khz: 2_400_000,
        pdptrs: Some([1, 2, 3, 4]),
        triple_fault_pending: true,
        nested: Some(NestedState {
            flags: 3,
            control: NestedControl::Vmx {
                vmxon: 0x1000,
                vmcs12: 0x2000,
                smm_flags: 1,
                current: Some(Box::new([7; 4096])),
                shadow: Some(Box::new([8; 4096])),
            },
        }),
        ..CpuState::default()
    };
    cpu.kvm = Kvm {
        async_pf: 1,
        async_pf_int: 2,
        pv_eoi: 3,
        steal_time: 4,
        poll_control: 0,
    };
    cpu.hyperv.hypercall = 1;
    cpu.hyperv.vapic = 2;
    cpu.hyperv.reference_tsc = 3;
    cpu.hyperv.crash_params[4] = 4;
    cpu.hyperv.runtime = 5;
    cpu.hyperv.synic.sints[15] = 6;
    cpu.hyperv.stimer_count[3] = 7;
    cpu.hyperv.reenlightenment[2] = 8;
    cpu.vectors[31] = [1, 2, 3, 4, 5, 6, 7, 8];
    cpu.vectors[0][7] = 9;
    let ext = &mut cpu.extensions;
    *ext = Extensions {
        fpu_last: (1, 2, 3),
        tsc_adjust: 1,
        tsc_deadline: 2,
        misc_enable: 3,
        feature_control: 4,
        xss: 5,
        umwait: 6,
        smi_count: 7,
        pkru: 8,
        pkrs: 9,
        spec_ctrl: 10,
        tsc_ratio: Some(11),
        mcg_ext_ctl: 12,
        virt_ssbd: 13,
        tsx_ctrl: Some(14),
        sgx_hash: Some([15; 4]),
        xfd: Some(Xfd { xfd: 16, error: 17 }),
        hwcr: 18,
        fred: Some(Fred::default()),
        tiles: Some(Box::default()),
        lbr: Some(Box::default()),
        ..Extensions::default()
    };
    ext.pmu.gp_evtsel[17] = 1;
    ext.mpx.bounds[3].upper = 2;
    ext.trace.addresses[7] = 3;
    ext.opmasks[7] = 4;
    cpu
}

#[test]
fn every_subsection_survives() {
    let saved = save(&mut full()).unwrap();
    let names: Vec<_> = saved
        .description
        .subsections
        .iter()
        .map(|section| section.vmsd_name)
        .collect();
    assert_eq!(names.len(), 44, "{names:?}");
    let mut back = CpuState::default();
    load_whole(&mut back, 12, &saved.bytes).unwrap();
    assert_eq!(back, full());
}

#[test]
fn a_nested_svm_survives() {
    let mut cpu = CpuState {
        nested: Some(NestedState {
            flags: 1,
            control: NestedControl::Svm {
                vmcb: 0x5000,
                block: Some(Box::new([3; 4096])),
            },
        }),
        ..CpuState::default()
    };
    let saved = save(&mut cpu).unwrap();
    let mut back = CpuState::default();
    load_whole(&mut back, 12, &saved.bytes).unwrap();
    assert_eq!(back, cpu);
}

#[test]
fn a_vcpu_that_cannot_be_is_refused() {
    let bytes = save(&mut CpuState::default()).unwrap().bytes;
    let mut wrong_format = bytes.clone();
    // After 16 registers, RIP, RFLAGS, hflags and three words.
    wrong_format[18 * 8 + 4 + 3 * 2 + 1] = 1;
    let error = load_whole(&mut CpuState::default(), 12, &wrong_format).unwrap_err();
    assert_eq!(error.to_string(), "cpu: env.fpregs_format_vmstate: 0x1 is out of range");
    let xen = [bytes, b"\x05\x0ccpu/xen_vcpu\0\0\0\x01".to_vec()].concat();
    let error = load_whole(&mut CpuState::default(), 12, &xen).unwrap_err();
    assert_eq!(error.to_string(), "cpu: cpu/xen_vcpu: unknown subsection");
}
