//! vCPUs on the host's KVM: what is saved, and that it comes back.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs};
use kvm_ioctls::{VcpuExit, VmFd};

use super::*;
use crate::accel::kvm::x86_64::System;
use crate::mem::RamBlock;
use crate::vmstate::recorded::sections;
use crate::vmstate::{load_whole, save as save_section};

/// A VM with a vCPU that has all that the host offers.
struct Bench {
    system: System,
    fd: VcpuFd,
    _vm: VmFd,
    _memory: std::sync::Arc<RamBlock>,
}

/// Where the guest's memory is, and its code begins.
const CODE: u64 = 0x1000;

impl Bench {
    fn new(test: &str, code: &[u8]) -> Option<Self> {
        let system = match System::open() {
            Ok(system) => system,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return None;
            }
        };
        let vm = system.kvm().create_vm().unwrap();
        vm.set_tss_address(0xfeff_d000).unwrap();
        vm.create_irq_chip().unwrap();
        let memory = RamBlock::anonymous("ram", 0x2000).unwrap();
        memory.write(0x1000, code).unwrap();
        let region = kvm_bindings::kvm_userspace_memory_region {
            memory_size: 0x2000,
            ..Default::default()
        };
        ioctls::set_memory_slot(&vm, region, &memory, 0).unwrap();
        let fd = vm.create_vcpu(0).unwrap();
        fd.set_cpuid2(&system.kvm().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap())
            .unwrap();
        Some(Self {
            system,
            fd,
            _vm: vm,
            _memory: memory,
        })
    }

    fn save(&self) -> VcpuState {
        super::save(self.system.kvm(), &self.fd, false).unwrap()
    }

    fn load(&self, state: &VcpuState) {
        super::load(self.system.kvm(), &self.fd, false, state).unwrap();
    }
}

/// What a stream holds of a vCPU: bytes of its three sections.
fn bytes(state: &mut VcpuState) -> [Vec<u8>; 3] {
    [
        save_section(&mut state.cpu).unwrap().bytes,
        save_section(&mut state.common).unwrap().bytes,
        save_section(&mut state.apic).unwrap().bytes,
    ]
}

#[test]
fn a_vcpu_starts_as_it_does_in_qemu() {
    let Some(bench) = Bench::new("a_vcpu_starts_as_it_does_in_qemu", &[]) else {
        return;
    };
    let VcpuState { mut cpu, common, apic } = bench.save();
    let [section] = sections("q35-10.2-bare", "cpu").try_into().unwrap();
    let mut qemus = CpuState::default();
    load_whole(&mut qemus, section.version, &section.bytes()).unwrap();
    // These are the model's: its signature, machine check banks, time stamp counter, and how wide addresses are.
    cpu.regs[2] = qemus.regs[2];
    (cpu.mcg_cap, cpu.mcg_ctl, cpu.mce_banks) = (qemus.mcg_cap, qemus.mcg_ctl, qemus.mce_banks);
    (cpu.tsc, cpu.tsc_khz) = (qemus.tsc, qemus.tsc_khz);
    let masks = cpu.mtrr_var.iter_mut().zip(&qemus.mtrr_var);
    masks.for_each(|(range, theirs)| range.mask = theirs.mask);
    for (ours, theirs) in cpu.vectors.iter().zip(&qemus.vectors) {
        assert_eq!(ours, theirs);
    }
    // What only a model with more features has.
    cpu.extensions = qemus.extensions.clone();
    assert_eq!(cpu, qemus);
    let [section] = sections("q35-10.2-bare", "apic").try_into().unwrap();
    let mut qemus = ApicState::default();
    load_whole(&mut qemus, section.version, &section.bytes()).unwrap();
    // KVM leaves LINT0 of the boot vCPU open for the PICs, as firmware does.
    assert_eq!(std::mem::replace(&mut qemus.lvt[3], 0x700), 0x1_0000);
    assert_eq!(apic, qemus);
    assert_eq!(common, CpuCommonState::default());
}

#[test]
fn every_register_survives() {
    let Some(one) = Bench::new("every_register_survives", &[]) else {
        return;
    };
    let mut state = one.save();
    for (number, register) in (1..).zip(&mut state.cpu.regs) {
        *register = 0x1111_1111 * number;
    }
    state.cpu.rip = 0x1234;
    state.cpu.dr[0] = 0x1000;
    state.cpu.segments[0].base = 0x1230;
    state.cpu.segments[0].selector = 0x123;
    state.cpu.fpregs[3].mantissa = 1 << 63;
    state.cpu.fpregs[3].exponent = 0x3fff;
    state.cpu.fpu_tag = 1 << 3;
    state.cpu.vectors[5][1] = 5;
    state.cpu.xstate_bv = 3;
    state.cpu.star = 0x0023_0010_0000_0000;
    state.cpu.lstar = 0xffff_8000_0000_1000;
    state.cpu.kernel_gs_base = 0x77;
    state.cpu.mtrr_deftype = 0xc06;
    state.cpu.mtrr_fixed[2] = 0x0606_0606_0606_0606;
    state.cpu.nmi_pending = true;
    state.apic.spurious = 0x1ff;
    state.apic.lvt[0] = 0x2_0031;
    state.apic.divide_conf = 0xb;
    state.apic.irr[1] = 1 << 16;
    state.common.interrupt_request = 0;
    one.load(&state);
    let mut saved = one.save();
    assert_eq!(saved.cpu.regs, state.cpu.regs);
    assert_eq!(saved.cpu.fpregs, state.cpu.fpregs);
    assert_eq!(saved.cpu.vectors[5][..2], [0, 5]);
    assert_eq!(
        (saved.cpu.mtrr_fixed, saved.cpu.lstar),
        (state.cpu.mtrr_fixed, state.cpu.lstar)
    );
    assert_eq!((saved.apic.lvt, saved.apic.irr), (state.apic.lvt, state.apic.irr));
    assert!(saved.cpu.nmi_pending);
    let other = Bench::new("", &[]).unwrap();
    other.load(&saved);
    let mut moved = other.save();
    moved.cpu.tsc = saved.cpu.tsc;
    assert_eq!(bytes(&mut moved), bytes(&mut saved));
    assert_eq!(moved, saved);
}

/// 16-bit code: counts in AX, and tells each number at a port.
const COUNT: &[u8] = &[0x40, 0xe7, 0x80, 0xeb, 0xfb];

#[test]
fn a_guest_goes_on_counting_in_another_vm() {
    let Some(mut one) = Bench::new("a_guest_goes_on_counting_in_another_vm", COUNT) else {
        return;
    };
    let mut sregs = one.fd.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    one.fd.set_sregs(&sregs).unwrap();
    let regs = kvm_regs {
        rip: CODE,
        rflags: 2,
        ..one.fd.get_regs().unwrap()
    };
    one.fd.set_regs(&regs).unwrap();
    let next = |bench: &mut Bench| match bench.fd.run().unwrap() {
        VcpuExit::IoOut(0x80, [low, high]) => u16::from_le_bytes([*low, *high]),
        other => panic!("{other:?}"),
    };
    let seen: Vec<u16> = (0..3).map(|_| next(&mut one)).collect();
    assert_eq!(seen, [1, 2, 3]);
    // What was told has been told once the vCPU enters the guest again.
    one.fd.set_kvm_immediate_exit(1);
    assert!(one.fd.run().is_err());
    let saved = one.save();
    let mut other = Bench::new("", COUNT).unwrap();
    other.load(&saved);
    let seen: Vec<u16> = (0..3).map(|_| next(&mut other)).collect();
    assert_eq!(seen, [4, 5, 6]);
}

#[test]
fn a_register_that_kvm_does_not_take_is_named() {
    let Some(bench) = Bench::new("a_register_that_kvm_does_not_take_is_named", &[]) else {
        return;
    };
    let mut state = bench.save();
    // No address of 48 or 57 bits.
    state.cpu.lstar = 1 << 62;
    let error = super::load(bench.system.kvm(), &bench.fd, false, &state).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: failed to set MSR 0xc0000082 to 0x4000000000000000"
    );
}
