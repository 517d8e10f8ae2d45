//! A host as CPU models see it: what its processor and its KVM offer.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::Register;

/// The answer of CPUID to one question, as KVM writes it down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidEntry {
    /// EAX before the instruction.
    pub function: u32,
    /// ECX before the instruction, if it matters.
    pub index: u32,
    /// KVM_CPUID_FLAG_*: bit 0 tells that the index matters.
    pub flags: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidEntry {
    /// The flag of an entry whose index matters (KVM_CPUID_FLAG_SIGNIFCANT_INDEX).
    pub const INDEX_MATTERS: u32 = 1;

    /// The value of one register.
    #[must_use]
    pub const fn register(&self, register: Register) -> u32 {
        match register {
            Register::Eax => self.eax,
            Register::Ebx => self.ebx,
            Register::Ecx => self.ecx,
            Register::Edx => self.edx,
        }
    }

    /// EAX, EBX, ECX and EDX.
    #[must_use]
    pub const fn registers(&self) -> [u32; 4] {
        [self.eax, self.ebx, self.ecx, self.edx]
    }
}

/// A host with KVM. Whatever it does not have is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// What the CPUID instruction says on the host.
    pub native: Vec<CpuidEntry>,
    /// KVM_GET_SUPPORTED_CPUID.
    pub supported: Vec<CpuidEntry>,
    /// KVM_GET_SUPPORTED_HV_CPUID.
    pub hyperv: Vec<CpuidEntry>,
    /// KVM_GET_MSR_FEATURE_INDEX_LIST with the values of KVM_GET_MSRS.
    pub feature_msrs: BTreeMap<u32, u64>,
    /// KVM_GET_MSR_INDEX_LIST.
    pub msr_indices: BTreeSet<u32>,
    /// KVM_X86_GET_MCE_CAP_SUPPORTED.
    pub mce_cap: u64,
    /// KVM_X86_XCOMP_GUEST_SUPP: state components of XSAVE a guest may get.
    pub xcomp_guest_supp: Option<u64>,
    /// Rate of the time stamp counter, in kHz; 0 if unknown.
    pub tsc_khz: u32,
    /// KVM_CHECK_EXTENSION, by the name of the capability in the kernel's header.
    pub caps: BTreeMap<String, i64>,
}

impl Host {
    /// What the CPUID instruction says; zeroes where nothing is known.
    #[must_use]
    pub fn native(&self, function: u32, index: u32) -> CpuidEntry {
        find(&self.native, function, index)
    }

    /// What KVM offers; zeroes where it offers nothing.
    #[must_use]
    pub fn supported(&self, function: u32, index: u32) -> CpuidEntry {
        find(&self.supported, function, index)
    }

    /// What KVM offers of Hyper-V; zeroes where it offers nothing.
    #[must_use]
    pub fn hyperv(&self, function: u32) -> CpuidEntry {
        find(&self.hyperv, function, 0)
    }

    /// The value of a capability; 0 if it is not there.
    #[must_use]
    pub fn cap(&self, name: &str) -> i64 {
        self.caps.get(name).copied().unwrap_or_default()
    }

    /// The vendor of the processor.
    #[must_use]
    pub fn vendor(&self) -> [u8; 12] {
        let entry = self.native(0, 0);
        let mut vendor = [0; 12];
        for (place, part) in [entry.ebx, entry.edx, entry.ecx].into_iter().enumerate() {
            vendor[place * 4..place * 4 + 4].copy_from_slice(&part.to_le_bytes());
        }
        vendor
    }

    /// Family, model and stepping of the processor.
    #[must_use]
    pub fn signature(&self) -> (u32, u32, u32) {
        let eax = self.native(1, 0).eax;
        let family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
        let model = (eax >> 4 & 0xf) | (eax >> 12 & 0xf0);
        (family, model, eax & 0xf)
    }

    /// The brand string of the processor.
    #[must_use]
    pub fn model_id(&self) -> String {
        let leaves = [0x8000_0002, 0x8000_0003, 0x8000_0004];
        let bytes = leaves
            .into_iter()
            .flat_map(|leaf| self.native(leaf, 0).registers())
            .flat_map(u32::to_le_bytes);
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Bits of a physical address of the processor.
    #[must_use]
    pub fn phys_bits(&self) -> u32 {
        match self.native(0x8000_0000, 0).eax {
            0x8000_0008.. => self.native(0x8000_0008, 0).eax & 0xff,
            _ => 36,
        }
    }
}

fn find(entries: &[CpuidEntry], function: u32, index: u32) -> CpuidEntry {
    let found = entries
        .iter()
        .find(|entry| entry.function == function && entry.index == index);
    found.copied().unwrap_or(CpuidEntry {
        function,
        index,
        ..CpuidEntry::default()
    })
}
