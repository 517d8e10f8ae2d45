//! Feature registers: what they hold when a vCPU starts.

use super::cpu::{Cpu, MCG_LMCE_P};
use super::error::{Error, Warning};
use super::features::halves;
use super::host::Host;
use super::tables::{Word, feature, scalar, word};

/// Machine check registers a guest gets.
const MCE_BANKS: u64 = 10;
const MCG_CTL_P: u64 = 1 << 8;
const MCG_SER_P: u64 = 1 << 24;
const MCG_BANKS: u64 = 0xff;

/// Microcode revision.
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
/// Entry controls and the like for 64-bit hosts: KVM wants it to be possible with long mode.
const HOST_ADDRESS_SPACE_SIZE: u32 = 1 << 9;
/// Page walks of four levels and write-back paging structures, which KVM always has with EPT.
const EPT_ALWAYS: u64 = 0x4100;
/// What a guest has of IA32_VMX_BASIC and IA32_VMX_MISC without asking: sizes, types and counts.
const VMX_BASIC_FIXED: u64 = 0x003c_1fff_7fff_ffff;
const VMX_MISC_FIXED: u64 = 0x0e00_001f;
/// Bits that CR0 and CR4 must have in VMX operation: PG, NE, PE; VMXE.
const CR0_FIXED0: u64 = 0x8000_0021;
const CR4_FIXED0: u64 = 0x2000;
/// The highest VMCS field, with the controls it came with.
const VMCS_ENUM: u64 = 0x2e;
const VMCS_ENUM_TSC_SCALING: u64 = 0x32;
const VMCS_ENUM_FRED: u64 = 0x52;
const VMCS_ENUM_SECONDARY_EXIT: u64 = 0x44;

/// A control of VMX: its register, its word, and the bits that are on unless a guest knows better.
const CONTROLS: [(u32, Word, u32); 5] = [
    (0x48e, word::MSR_VMX_PROCBASED_CTLS, 0x0401_e172),
    (0x48d, word::MSR_VMX_PINBASED_CTLS, 0x16),
    (0x48f, word::MSR_VMX_EXIT_CTLS, 0x0003_6dff),
    (0x490, word::MSR_VMX_ENTRY_CTLS, 0x11ff),
    (0x48b, word::MSR_VMX_SECONDARY_CTLS, 0),
];

/// The feature registers and their values, in the order in which they are set.
pub(super) fn feature_msrs(cpu: &Cpu, host: &Host) -> Vec<(u32, u64)> {
    let features = cpu.features();
    let mut msrs = vec![
        (0x10a, features.word(word::MSR_ARCH_CAPABILITIES)),
        (0xcf, features.word(word::MSR_CORE_CAPABILITY)),
    ];
    let offered = host.feature_msrs.get(&0x345).copied().unwrap_or_default();
    if cpu.flag(scalar::PMU) && offered != 0 {
        msrs.push((0x345, offered & features.word(word::MSR_PERF_CAPABILITIES)));
    }
    if cpu.has(feature::VMX) && host.cap("KVM_CAP_NESTED_STATE") > 0 {
        push_vmx(cpu, host, &mut msrs);
    }
    msrs.push((
        IA32_BIOS_SIGN_ID,
        u64::from_ne_bytes(cpu.scalar(scalar::UCODE_REV).to_ne_bytes()),
    ));
    msrs.retain(|(index, _)| host.msr_indices.contains(index));
    msrs
}

fn push_vmx(cpu: &Cpu, host: &Host, msrs: &mut Vec<(u32, u64)>) {
    let features = cpu.features();
    let offered = |index| host.feature_msrs.get(&index).copied().unwrap_or_default();
    for (index, place, on_by_default) in CONTROLS {
        let [optional, _] = halves(features.word(place));
        let must_be_on = on_by_default & !optional;
        let mut may_be_on = on_by_default | optional;
        if place == word::MSR_VMX_EXIT_CTLS && cpu.has(feature::LM) {
            may_be_on |= HOST_ADDRESS_SPACE_SIZE;
        }
        msrs.push((index, u64::from(may_be_on) << 32 | u64::from(must_be_on)));
    }
    let ept = if cpu.has(feature::VMX_EPT) {
        offered(0x48c) & EPT_ALWAYS
    } else {
        0
    };
    let vmcs_enum = if cpu.has(feature::VMX_ENTRY_LOAD_FRED) {
        VMCS_ENUM_FRED
    } else if cpu.has(feature::VMX_EXIT_SECONDARY_CTLS) {
        VMCS_ENUM_SECONDARY_EXIT
    } else if cpu.has(feature::VMX_TSC_SCALING) {
        VMCS_ENUM_TSC_SCALING
    } else {
        VMCS_ENUM
    };
    msrs.extend([
        (0x48c, features.word(word::MSR_VMX_EPT_VPID_CAPS) | ept),
        (
            0x480,
            features.word(word::MSR_VMX_BASIC) | offered(0x480) & VMX_BASIC_FIXED,
        ),
        (
            0x485,
            features.word(word::MSR_VMX_MISC) | offered(0x485) & VMX_MISC_FIXED,
        ),
        (0x491, features.word(word::MSR_VMX_VMFUNC)),
        (0x486, CR0_FIXED0),
        (0x488, CR4_FIXED0),
        (0x48a, vmcs_enum),
    ]);
}

/// MCG_CAP, for processors that have machine checks.
pub(super) fn mcg_cap(cpu: &Cpu, host: &Host, warnings: &mut Vec<Warning>) -> Result<Option<u64>, Error> {
    let has_machine_checks = cpu.family >= 6 && cpu.has(feature::MCE) && cpu.has(feature::MCA);
    if !has_machine_checks || host.cap("KVM_CAP_MCE") <= 0 {
        return Ok(None);
    }
    let offered = u64::try_from(host.cap("KVM_CAP_MCE")).unwrap_or_default();
    if offered < MCE_BANKS {
        return Err(Error::MceBanks {
            wanted: MCE_BANKS,
            offered,
        });
    }
    let lmce = if cpu.flag(scalar::LMCE) { MCG_LMCE_P } else { 0 };
    let wanted = MCG_CTL_P | MCG_SER_P | lmce | MCE_BANKS;
    let missing = wanted & !(host.mce_cap | MCG_BANKS);
    if missing & MCG_LMCE_P != 0 {
        return Err(Error::Lmce);
    }
    if missing != 0 {
        warnings.push(Warning::Mcg(missing));
    }
    Ok(Some(wanted & (host.mce_cap | MCG_BANKS)))
}
