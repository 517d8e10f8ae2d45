//! All that CPUID tells a vCPU, as the list KVM takes.

use super::cpu::Cpu;
use super::host::CpuidEntry;
use super::leaves::Leaves;
use super::tables::{Feature, feature, scalar, word};

/// `KVMKVMKVM`, padded with zeroes.
const KVM_SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
/// Where KVM's leaves are, and where they are when Hyper-V's take their place.
const KVM_BASE: u32 = 0x4000_0000;
const KVM_BASE_WITH_HYPERV: u32 = 0x4000_0100;
/// The leaf of VMware that tells frequencies, and the rate of the APIC's timer in kHz.
const FREQUENCIES: u32 = 0x4000_0010;
const APIC_KHZ: u32 = 1_000_000;

/// A time stamp counter that never changes its rate.
const INVTSC: Feature = feature::INVTSC;

impl Leaves<'_> {
    /// The entries for KVM_SET_CPUID2. `tsc_khz` is the rate of the guest's time stamp counter.
    pub(super) fn entries(&self, tsc_khz: u32) -> Vec<CpuidEntry> {
        let mut list = Vec::with_capacity(64);
        let hyperv = self.cpu.hyperv_enabled(self.host);
        if hyperv {
            list.extend(self.cpu.hyperv_leaves(self.host));
        }
        let signature = list.len();
        if self.cpu.flag(scalar::KVM) {
            self.push_kvm(if hyperv { KVM_BASE_WITH_HYPERV } else { KVM_BASE }, &mut list);
        }
        for function in 0..=last(self.get(0, 0)) {
            self.push_basic(function, &mut list);
        }
        for function in 0x8000_0000..=last(self.get(0x8000_0000, 0)) {
            match function {
                0x8000_001d => self.push_until(function, |_, [eax, ..]| eax == 0, &mut list),
                _ => self.push_single(function, &mut list),
            }
        }
        if self.cpu.number(scalar::XLEVEL2) > 0 {
            for function in 0xc000_0000..=last(self.get(0xc000_0000, 0)) {
                self.push_single(function, &mut list);
            }
        }
        if !hyperv && tells_frequencies(self.cpu) && tsc_khz != 0 {
            if let Some(entry) = list.get_mut(signature) {
                entry.eax = entry.eax.max(FREQUENCIES);
            }
            list.push(CpuidEntry {
                function: FREQUENCIES,
                eax: tsc_khz,
                ebx: APIC_KHZ,
                ..CpuidEntry::default()
            });
        }
        list
    }

    fn push_kvm(&self, base: u32, list: &mut Vec<CpuidEntry>) {
        let [ebx, ecx, edx] = KVM_SIGNATURE;
        list.push(CpuidEntry {
            function: base,
            eax: base | 1,
            ebx,
            ecx,
            edx,
            ..CpuidEntry::default()
        });
        list.push(CpuidEntry {
            function: base | 1,
            eax: self.cpu.register(word::KVM_FEATURES),
            edx: self.cpu.register(word::KVM_HINTS),
            ..CpuidEntry::default()
        });
    }

    fn push_basic(&self, function: u32, list: &mut Vec<CpuidEntry>) {
        match function {
            0x1f if !self.cpu.has_leaf_1f(self.topology) => {}
            2 => list.push(CpuidEntry {
                flags: 0,
                ..indexed(function, 0, self.get(function, 0))
            }),
            4 => self.push_until(function, |_, [eax, ..]| eax == 0, list),
            0xb | 0x1f => self.push_until(function, |_, [_, _, ecx, _]| ecx & 0xff00 == 0, list),
            0x12 => self.push_until(function, |index, [eax, ..]| index > 1 && eax & 0xf != 1, list),
            0xd => {
                for index in 0..64 {
                    let registers = self.get(function, index);
                    if registers[0] != 0 {
                        list.push(indexed(function, index, registers));
                    }
                }
            }
            7 | 0x14 | 0x1d | 0x1e | 0x24 => {
                let registers = self.get(function, 0);
                list.push(indexed(function, 0, registers));
                let subleaves = registers[0].min(0xff);
                list.extend((1..=subleaves).map(|index| indexed(function, index, self.get(function, index))));
            }
            _ => self.push_single(function, list),
        }
    }

    /// Subleaf after subleaf, the last one being the one for which `is_last` holds.
    fn push_until(&self, function: u32, is_last: impl Fn(u32, [u32; 4]) -> bool, list: &mut Vec<CpuidEntry>) {
        for index in 0..=0xff {
            let registers = self.get(function, index);
            list.push(indexed(function, index, registers));
            if is_last(index, registers) {
                return;
            }
        }
    }

    /// A leaf without subleaves. Empty ones need no entry: KVM answers with zeroes.
    fn push_single(&self, function: u32, list: &mut Vec<CpuidEntry>) {
        let registers = self.get(function, 0);
        if registers != [0; 4] {
            list.push(CpuidEntry {
                flags: 0,
                ..indexed(function, 0, registers)
            });
        }
    }
}

fn indexed(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry {
        function,
        index,
        flags: CpuidEntry::INDEX_MATTERS,
        eax,
        ebx,
        ecx,
        edx,
    }
}

/// The last leaf of a range: EAX of its first. No range is longer than this.
fn last([eax, ..]: [u32; 4]) -> u32 {
    eax & 0xf000_0000 | (eax & 0x0fff_ffff).min(0xff)
}

/// Whether the guest learns the rate of its time stamp counter, which must be known and constant for that.
fn tells_frequencies(cpu: &Cpu) -> bool {
    cpu.flag(scalar::VMWARE_CPUID_FREQ) && cpu.flag(scalar::KVM) && (cpu.has(INVTSC) || cpu.user_tsc_hz != 0)
}
