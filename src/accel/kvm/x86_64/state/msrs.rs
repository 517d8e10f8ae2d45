//! Model specific registers: which field of the state each is.

use kvm_bindings::{CpuId, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::failed;
use crate::accel::kvm::KvmError;
use crate::accel::kvm::x86_64::reset::{read_msrs, set_msrs};
use crate::cpu::x86::vmstate::{CpuState, Fred, LbrState, Xfd};

const FEATURE_CONTROL: u32 = 0x3a;
const TSC_DEADLINE: u32 = 0x6e0;
/// IA32_SMBASE, and what it is after a reset.
const SMBASE: u32 = 0x9e;
const INITIAL_SMBASE: u32 = 0x3_0000;
/// IA32_ARCH_CAPABILITIES: there is IA32_TSX_CTRL.
const ARCH_CAPABILITIES: u32 = 0x10a;
const HAS_TSX_CONTROL: u64 = 1 << 7;
/// IA32_MCG_CAP: how many banks there are, and whether there is IA32_MCG_CTL.
const MCG_CAP: u32 = 0x179;
const BANKS: u64 = 0xff;
const HAS_CONTROL: u64 = 1 << 8;
/// Physical addresses have at most this many bits; masks of MTRRs are saved as if they had.
const WIDEST_ADDRESS: u32 = 52;

/// Registers that a state has a place for because of the model, whatever their values are, and the width of addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Model {
    xfd: bool,
    fred: bool,
    lbr: bool,
    tsc_scaling: bool,
    tsx_control: bool,
    sgx: bool,
    /// Bits of a physical address.
    address_bits: u32,
    counters: Counters,
}

/// The performance counters of a model (Intel SDM volume 3, 20.2).
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Counters that can count anything, and those that count one thing each.
    general: usize,
    fixed: usize,
    /// All of them can be switched on and off together.
    has_global: bool,
}

impl Counters {
    /// From leaf 0xa of CPUID.
    fn new(eax: u32, edx: u32) -> Self {
        let has_global = eax & 0xff > 1;
        if eax & 0xff == 0 {
            return Self::default();
        }
        Self {
            // At most eight bits each.
            general: (eax >> 8 & 0xff) as usize,
            fixed: if has_global { (edx & 0x1f) as usize } else { 0 },
            has_global,
        }
    }
}

impl Model {
    /// Of a vCPU with this CPUID.
    pub(super) fn new(fd: &VcpuFd, cpuid: &CpuId) -> Self {
        let leaf = |function, index| {
            let mut leaves = cpuid.as_slice().iter();
            let leaf = leaves.find(|leaf| (leaf.function, leaf.index) == (function, index));
            leaf.copied().unwrap_or_default()
        };
        let has = |register: u32, bit: u32| register >> bit & 1 != 0;
        let features = leaf(7, 0);
        let capabilities = if has(features.edx, 29) {
            value_of(fd, ARCH_CAPABILITIES)
        } else {
            0
        };
        Self {
            xfd: has(leaf(0xd, 1).eax, 4),
            fred: has(leaf(7, 1).eax, 17),
            lbr: has(features.edx, 19),
            tsc_scaling: has(leaf(0x8000_000a, 0).edx, 4),
            tsx_control: capabilities & HAS_TSX_CONTROL != 0,
            sgx: has(features.ecx, 30),
            address_bits: match leaf(0x8000_0008, 0).eax & 0xff {
                0 => 36,
                bits => bits,
            },
            counters: Counters::new(leaf(0xa, 0).eax, leaf(0xa, 0).edx),
        }
    }

    /// The bits of an MTRR's mask that addresses of the model do not have.
    fn beyond_addresses(self) -> u64 {
        let below = |bits: u32| 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
        below(WIDEST_ADDRESS) & !below(self.address_bits)
    }
}

pub(super) fn save(fd: &VcpuFd, model: &Model, cpu: &mut CpuState) -> Result<(), KvmError> {
    make_room(model, cpu);
    // A KVM without system management mode has no register for it.
    cpu.smbase = INITIAL_SMBASE;
    cpu.mcg_cap = value_of(fd, MCG_CAP);
    let mut indices = Vec::new();
    visit(model, cpu, &mut |index, _| indices.push(index));
    let found = read_msrs(fd, &indices).map_err(failed("KVM_GET_MSRS"))?;
    // Both are in the same order; KVM leaves out what it does not know.
    let mut found = found.into_iter().peekable();
    visit(model, cpu, &mut |index, value| {
        if let Some(entry) = found.next_if(|entry| entry.index == index) {
            *value = entry.data;
        }
    });
    let beyond = model.beyond_addresses();
    cpu.mtrr_var.iter_mut().for_each(|range| range.mask |= beyond);
    Ok(())
}

/// KVM may lack registers that hold nothing but zeroes, or what they hold already.
pub(super) fn load(fd: &VcpuFd, model: &Model, cpu: &CpuState) -> Result<(), KvmError> {
    let mut cpu = cpu.clone();
    make_room(model, &mut cpu);
    // The banks are those of this machine.
    cpu.mcg_cap = value_of(fd, MCG_CAP);
    let beyond = model.beyond_addresses();
    cpu.mtrr_var.iter_mut().for_each(|range| range.mask &= !beyond);
    let mut entries = Vec::new();
    visit(model, &mut cpu, &mut |index, value| entries.push(entry(index, *value)));
    entries.retain(|entry| ![FEATURE_CONTROL, TSC_DEADLINE].contains(&entry.index));
    set(fd, &entries)
}

/// Before control registers.
pub(super) fn load_feature_control(fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    set(fd, &[entry(FEATURE_CONTROL, cpu.extensions.feature_control)])
}

/// After the local APIC.
pub(super) fn load_deadline(fd: &VcpuFd, cpu: &CpuState) -> Result<(), KvmError> {
    set(fd, &[entry(TSC_DEADLINE, cpu.extensions.tsc_deadline)])
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    }
}

/// The value of a register, 0 if there is none.
fn value_of(fd: &VcpuFd, index: u32) -> u64 {
    let found = read_msrs(fd, &[index]).unwrap_or_default();
    found.first().map_or(0, |entry| entry.data)
}

fn set(fd: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), KvmError> {
    let refused = set_msrs(fd, entries).map_err(failed("KVM_SET_MSRS"))?;
    let matters = |entry: &kvm_msr_entry| {
        let is_initial = entry.data == 0 || (entry.index, entry.data) == (SMBASE, INITIAL_SMBASE.into());
        !is_initial && value_of(fd, entry.index) != entry.data
    };
    match refused.into_iter().find(matters) {
        Some(kvm_msr_entry { index, data, .. }) => Err(KvmError::Msr { index, value: data }),
        None => Ok(()),
    }
}

/// Gives the state a place for what the model has, and for nothing else.
fn make_room(model: &Model, cpu: &mut CpuState) {
    fn room<T: Default>(has: bool, place: &mut Option<T>) {
        if has {
            place.get_or_insert_default();
        } else {
            *place = None;
        }
    }
    let extensions = &mut cpu.extensions;
    room::<Xfd>(model.xfd, &mut extensions.xfd);
    room::<Fred>(model.fred, &mut extensions.fred);
    room::<Box<LbrState>>(model.lbr, &mut extensions.lbr);
    room(model.tsc_scaling, &mut extensions.tsc_ratio);
    room(model.tsx_control, &mut extensions.tsx_ctrl);
    room(model.sgx, &mut extensions.sgx_hash);
}

/// Visits each register with the field that it is, in the order in which KVM takes them.
fn visit(model: &Model, cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    visit_system(cpu, visit);
    visit_memory_types(cpu, visit);
    visit_extensions(cpu, visit);
    visit_counters(model.counters, cpu, visit);
    visit_paravirtual(cpu, visit);
    visit_machine_check(cpu, visit);
    // It runs on, so it comes last.
    visit(0x10, &mut cpu.tsc);
}

/// A register whose upper half is always zero.
fn visit_half(index: u32, value: &mut u32, visit: &mut dyn FnMut(u32, &mut u64)) {
    let mut wide = u64::from(*value);
    visit(index, &mut wide);
    *value = (wide & 0xffff_ffff) as u32;
}

fn visit_system(cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    visit_half(0x174, &mut cpu.sysenter_cs, visit);
    visit(0x175, &mut cpu.sysenter_esp);
    visit(0x176, &mut cpu.sysenter_eip);
    visit(0x277, &mut cpu.pat);
    visit(0xc000_0081, &mut cpu.star);
    visit(0xc000_0082, &mut cpu.lstar);
    visit(0xc000_0083, &mut cpu.cstar);
    visit(0xc000_0084, &mut cpu.fmask);
    visit(0xc000_0102, &mut cpu.kernel_gs_base);
    visit(0xc000_0103, &mut cpu.tsc_aux);
    visit(0xc001_0117, &mut cpu.vm_hsave);
    visit_half(SMBASE, &mut cpu.smbase, visit);
}

fn visit_memory_types(cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    const FIXED: [u32; 11] = [
        0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
    ];
    visit(0x2ff, &mut cpu.mtrr_deftype);
    for (index, value) in FIXED.into_iter().zip(&mut cpu.mtrr_fixed) {
        visit(index, value);
    }
    for (index, range) in (0x200..).step_by(2).zip(&mut cpu.mtrr_var) {
        visit(index, &mut range.base);
        visit(index + 1, &mut range.mask);
    }
}

fn visit_extensions(cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    let extensions = &mut cpu.extensions;
    visit(FEATURE_CONTROL, &mut extensions.feature_control);
    visit(0x3b, &mut extensions.tsc_adjust);
    visit(TSC_DEADLINE, &mut extensions.tsc_deadline);
    visit(0x1a0, &mut extensions.misc_enable);
    visit(0xd90, &mut extensions.mpx.cfgs);
    visit(0xda0, &mut extensions.xss);
    visit_half(0xe1, &mut extensions.umwait, visit);
    visit(0x34, &mut extensions.smi_count);
    visit_half(0x6e1, &mut extensions.pkrs, visit);
    visit(0x48, &mut extensions.spec_ctrl);
    visit(0xc001_011f, &mut extensions.virt_ssbd);
    visit(0xc001_0015, &mut extensions.hwcr);
    if let Some(ratio) = &mut extensions.tsc_ratio {
        visit(0xc000_0104, ratio);
    }
    if let Some(control) = &mut extensions.tsx_ctrl {
        visit_half(0x122, control, visit);
    }
    for (index, value) in (0x8c..).zip(extensions.sgx_hash.iter_mut().flatten()) {
        visit(index, value);
    }
    if let Some(xfd) = &mut extensions.xfd {
        visit(0x1c4, &mut xfd.xfd);
        visit(0x1c5, &mut xfd.error);
    }
    if let Some(fred) = &mut extensions.fred {
        let values = fred.rsp.iter_mut().chain([&mut fred.stklvls]).chain(&mut fred.ssp);
        for (index, value) in (0x1cc..).zip(values.chain([&mut fred.config])) {
            visit(index, value);
        }
    }
    if let Some(lbr) = &mut extensions.lbr {
        visit(0x14ce, &mut lbr.ctl);
        visit(0x14cf, &mut lbr.depth);
        for (index, record) in (0..).zip(&mut lbr.records) {
            visit(0x1500 + index, &mut record.from);
            visit(0x1600 + index, &mut record.to);
            visit(0x1200 + index, &mut record.info);
        }
    }
    let trace = &mut extensions.trace;
    visit(0x560, &mut trace.output_base);
    visit(0x561, &mut trace.output_mask);
    visit(0x571, &mut trace.status);
    visit(0x572, &mut trace.cr3_match);
    for (index, value) in (0x580..).zip(&mut trace.addresses) {
        visit(index, value);
    }
    visit(0x570, &mut trace.ctrl);
}

/// Counters before what makes them count.
fn visit_counters(counters: Counters, cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    let pmu = &mut cpu.extensions.pmu;
    for (index, value) in (0x309..).zip(pmu.fixed_counters.iter_mut().take(counters.fixed)) {
        visit(index, value);
    }
    for (index, value) in (0xc1..).zip(pmu.gp_counters.iter_mut().take(counters.general)) {
        visit(index, value);
    }
    for (index, value) in (0x186..).zip(pmu.gp_evtsel.iter_mut().take(counters.general)) {
        visit(index, value);
    }
    if counters.has_global {
        visit(0x38e, &mut pmu.global_status);
        visit(0x390, &mut pmu.global_ovf_ctrl);
        visit(0x38d, &mut pmu.fixed_ctr_ctrl);
        visit(0x38f, &mut pmu.global_ctrl);
    }
}

fn visit_paravirtual(cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    visit(0x4b56_4d01, &mut cpu.system_time_msr);
    visit(0x4b56_4d00, &mut cpu.wall_clock_msr);
    let kvm = &mut cpu.kvm;
    visit(0x4b56_4d06, &mut kvm.async_pf_int);
    visit(0x4b56_4d02, &mut kvm.async_pf);
    visit(0x4b56_4d04, &mut kvm.pv_eoi);
    visit(0x4b56_4d03, &mut kvm.steal_time);
    visit(0x4b56_4d05, &mut kvm.poll_control);
    // Who the guest is comes before all that only somebody may use.
    let hyperv = &mut cpu.hyperv;
    visit(0x4000_0000, &mut hyperv.guest_os_id);
    visit(0x4000_0001, &mut hyperv.hypercall);
    visit(0x4000_0073, &mut hyperv.vapic);
    visit(0x4000_0021, &mut hyperv.reference_tsc);
    for (index, value) in (0x4000_0100..).zip(&mut hyperv.crash_params) {
        visit(index, value);
    }
    visit(0x4000_0010, &mut hyperv.runtime);
    visit(0x4000_0080, &mut hyperv.synic.control);
    visit(0x4000_0082, &mut hyperv.synic.event_page);
    visit(0x4000_0083, &mut hyperv.synic.message_page);
    for (index, value) in (0x4000_0090..).zip(&mut hyperv.synic.sints) {
        visit(index, value);
    }
    let timers = hyperv.stimer_config.iter_mut().zip(&mut hyperv.stimer_count);
    for (index, (config, count)) in (0x4000_00b0..).step_by(2).zip(timers) {
        visit(index, config);
        visit(index + 1, count);
    }
    for (index, value) in (0x4000_0106..).zip(&mut hyperv.reenlightenment) {
        visit(index, value);
    }
}

fn visit_machine_check(cpu: &mut CpuState, visit: &mut dyn FnMut(u32, &mut u64)) {
    if cpu.mcg_cap == 0 {
        return;
    }
    visit(0x17a, &mut cpu.mcg_status);
    if cpu.mcg_cap & HAS_CONTROL != 0 {
        visit(0x17b, &mut cpu.mcg_ctl);
    }
    visit(0x4d0, &mut cpu.extensions.mcg_ext_ctl);
    let banks = usize::try_from(cpu.mcg_cap & BANKS).unwrap_or_default();
    for (index, value) in (0x400..).zip(cpu.mce_banks.iter_mut().take(4 * banks)) {
        visit(index, value);
    }
}
