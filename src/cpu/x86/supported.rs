//! Which features a host's KVM can give to guests.

use super::features::{Features, is_amd};
use super::host::Host;
use super::tables::{Location, Register, WORD_COUNT, WORDS, Word, feature, word};

/// Who emulates the interrupt controllers of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IrqChip {
    /// The kernel.
    #[default]
    Kernel,
    /// The kernel has the local APICs only.
    Split,
}

/// An accelerator in use: a host's KVM, and how the guest uses it.
#[derive(Clone, Copy, Debug)]
pub struct Accel<'h> {
    /// The host.
    pub host: &'h Host,
    /// Who emulates the interrupt controllers.
    pub irqchip: IrqChip,
    /// Whether the guest may put the processor to sleep (`-overcommit cpu-pm=on`).
    pub cpu_pm: bool,
}

/// Bits of 0x80000001.EDX that are those of leaf 1 on AMD processors.
pub(super) const SHARED_EDX: u64 = 0x0183_f3ff;

/// The controls of VMX whose registers tell in one half what may be off and in the other what may be on.
const VMX_CONTROLS: [u32; 5] = [0x48b, 0x48d, 0x48e, 0x48f, 0x490];

/// The features that KVM can give to a guest.
pub(super) fn supported(accel: &Accel<'_>) -> Features {
    let mut words = [0; WORD_COUNT];
    for (place, value) in words.iter_mut().enumerate() {
        *value = match WORDS[place].location {
            Location::Cpuid {
                leaf,
                subleaf,
                register,
            } => u64::from(accel.host.supported(leaf, subleaf.unwrap_or(0)).register(register)),
            Location::Msr(index) => msr(accel.host, index),
        };
    }
    let mut features = Features(words);
    adjust(&mut features, accel);
    features
}

/// What `host` and `max` take: without what they leave off, and with what only this vendor's processors have.
pub(super) fn automatic(supported: &Features, vendor: [u8; 12], arch_capabilities: bool) -> Features {
    let mut features = *supported;
    for (value, info) in features.0.iter_mut().zip(&WORDS) {
        *value &= !info.not_automatic;
    }
    features.clear(feature::SGX);
    features.clear(feature::SGXLC);
    if is_amd(vendor) {
        if !arch_capabilities {
            features.clear(feature::ARCH_CAPABILITIES);
        }
    } else {
        features.0[word::CPUID_8000_0007_EBX.0] = 0;
    }
    features
}

/// The bits of a word that do not keep a guest from moving.
pub(super) fn migratable(place: Word, fixed_tsc: bool) -> u64 {
    let info = &WORDS[place.0];
    let names = info.names.iter().enumerate();
    let named = names
        .filter(|(_, name)| !name.is_empty())
        .fold(0, |mask, (bit, _)| mask | 1 << bit);
    let unmigratable = if fixed_tsc { 0 } else { info.unmigratable };
    named & !unmigratable | info.migratable
}

/// What KVM offers but does not list, and what it lists but cannot give.
fn adjust(features: &mut Features, accel: &Accel<'_>) {
    let host = accel.host;
    for always in [
        feature::MTRR,
        feature::PAT,
        feature::MCE,
        feature::MCA,
        feature::HT,
        feature::HYPERVISOR,
        feature::ARAT,
        feature::OVERFLOW_RECOV,
        feature::SUCCOR,
        feature::TOPOEXT,
        feature::KVM_HINT_DEDICATED,
    ] {
        features.set(always);
    }
    if host.cap("KVM_CAP_TSC_DEADLINE_TIMER") > 0 {
        features.set(feature::TSC_DEADLINE);
    }
    if accel.cpu_pm && host.cap("KVM_CAP_X86_DISABLE_EXITS") & 1 != 0 {
        features.set(feature::MONITOR);
    }
    if accel.irqchip == IrqChip::Split {
        features.set(feature::KVM_MSI_EXT_DEST_ID);
    }
    if has_broken_transactions(host) {
        features.clear(feature::HLE);
        features.clear(feature::RTM);
    }
    if !host.msr_indices.contains(&0x10a) {
        features.clear(feature::ARCH_CAPABILITIES);
    }
    for of_the_host in [
        feature::ERMS,
        feature::FSRM,
        feature::FZRM,
        feature::FSRS,
        feature::FSRC,
        feature::MCDT_NO,
    ] {
        if let Location::Cpuid {
            leaf,
            subleaf,
            register,
        } = of_the_host.word.location()
        {
            let native = u64::from(host.native(leaf, subleaf.unwrap_or(0)).register(register));
            features.0[of_the_host.word.0] |= native & of_the_host.mask;
        }
    }
    features.0[word::CPUID_8000_0001_EDX.0] |= features.0[word::CPUID_1_EDX.0] & SHARED_EDX;
    if let Some(components) = host.xcomp_guest_supp {
        features.0[word::XCR0_LO.0] = components & 0xffff_ffff;
        features.0[word::XCR0_HI.0] = components >> 32;
    }
    let unaffected = [
        feature::MDS_NO,
        feature::TAA_NO,
        feature::SBDR_SSDP_NO,
        feature::FBSDP_NO,
        feature::PSDP_NO,
    ];
    if unaffected.into_iter().all(|feature| features.has(feature)) {
        features.set(feature::FB_CLEAR);
    }
}

/// Whether the processor is a Haswell whose transactional memory does not work.
fn has_broken_transactions(host: &Host) -> bool {
    if &host.vendor() != b"GenuineIntel" {
        return false;
    }
    match host.signature() {
        (6, 0x3f, stepping) => stepping < 4,
        (6, 0x3c | 0x45 | 0x46, _) => true,
        _ => false,
    }
}

/// A feature register: which of its bits a guest may have.
fn msr(host: &Host, index: u32) -> u64 {
    let Some(value) = host.feature_msrs.get(&index).copied() else {
        return 0;
    };
    if !VMX_CONTROLS.contains(&index) {
        return value;
    }
    let (must_be_on, mut may_be_on) = (value & 0xffff_ffff, value >> 32);
    if index == 0x48b && !host.msr_indices.contains(&index) {
        may_be_on |= forgotten_controls(host);
    }
    may_be_on & !must_be_on
}

/// Secondary controls that old kernels do not list but have.
fn forgotten_controls(host: &Host) -> u64 {
    let has =
        |leaf, subleaf, register: Register, bit: u32| host.supported(leaf, subleaf).register(register) & 1 << bit != 0;
    [
        (has(0xd, 1, Register::Eax, 3), feature::VMX_XSAVES),
        (has(1, 0, Register::Ecx, 30), feature::VMX_RDRAND_EXIT),
        (has(7, 0, Register::Ebx, 10), feature::VMX_INVPCID_EXIT),
        (has(7, 0, Register::Ebx, 18), feature::VMX_RDSEED_EXIT),
        (has(0x8000_0001, 0, Register::Edx, 27), feature::VMX_RDTSCP_EXIT),
    ]
    .into_iter()
    .filter(|(has, _)| *has)
    .fold(0, |mask, (_, control)| mask | control.mask)
}
