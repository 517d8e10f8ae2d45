//! Hyper-V enlightenments (Hypervisor Top Level Functional Specification, chapter 2).

use super::cpu::{Context, Cpu};
use super::error::{Error, Warning};
use super::host::{CpuidEntry, Host};
use super::supported::Accel;
use super::tables::{HYPERV, HypervFeature, Register, ScalarId, scalar};

const FEATURES: u32 = 0x4000_0003;
const RECOMMENDATIONS: u32 = 0x4000_0004;
const LIMITS: u32 = 0x4000_0005;
const NESTED: u32 = 0x4000_000a;

/// `hv-spinlocks` when there is no recommendation.
const NEVER_NOTIFY: i64 = u32::MAX as i64;
/// The vendor a guest sees unless told otherwise.
const VENDOR: &str = "Microsoft Hv";
/// `Hv#1`: the interface conforms to Microsoft's specification.
const INTERFACE: u32 = 0x3123_7648;
/// Features, EAX: hypercalls. Always there.
const HYPERCALL: u32 = 1 << 5;
/// Features, EDX: dynamic partitioning of processors. Always there.
const DYNAMIC_PARTITIONING: u32 = 1 << 3;
/// Features, EBX: posting messages and signalling events, which come with the synthetic interrupt controller.
const MESSAGES_AND_EVENTS: u32 = 3 << 4;
/// Recommendations, EAX: the APIC by registers.
const APIC_REGISTERS: u32 = 1 << 3;
/// Recommendations, EAX: cores are shared by threads of one virtual core only.
const NO_NONARCH_CORESHARING: u32 = 1 << 18;
/// Versions 1 to 1 of the enlightened VMCS.
const EVMCS_VERSIONS: u32 = 0x101;
/// Virtual processors a guest may have.
const MAX_VIRTUAL_PROCESSORS: u32 = 64;

/// Values of `hv-no-nonarch-coresharing`.
const AUTO: i64 = 0;
const ON: i64 = 1;

/// What must be asked of KVM for the enlightenments, for each vCPU, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HypervCaps {
    /// KVM_CAP_HYPERV_SYNIC2, or KVM_CAP_HYPERV_SYNIC if only the kernel uses it.
    pub(super) synic: Option<bool>,
    /// KVM_CAP_HYPERV_ENLIGHTENED_VMCS.
    pub(super) evmcs: bool,
    /// KVM_CAP_HYPERV_ENFORCE_CPUID.
    pub(super) enforce: bool,
}

impl Cpu {
    /// Whether the guest sees Hyper-V.
    pub(super) fn hyperv_enabled(&self, host: &Host) -> bool {
        host.cap("KVM_CAP_HYPERV") > 0
            && (self.flag(scalar::HV_PASSTHROUGH)
                || self.scalar(scalar::HV_SPINLOCKS) != NEVER_NOTIFY
                || HYPERV.iter().any(|feature| self.flag(feature.property)))
    }

    /// Takes what the host has with `hv-passthrough`, and checks what was asked for.
    pub(super) fn expand_hyperv(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let Some(Accel { host, .. }) = context.accel else {
            return Ok(());
        };
        if !self.hyperv_enabled(host) || host.cap("KVM_CAP_SYS_HYPERV_CPUID") <= 0 {
            return Ok(());
        }
        if self.flag(scalar::HV_PASSTHROUGH) {
            self.pass_hyperv_through(host);
        }
        self.check_enlightenments(host)
    }

    /// Checks that KVM has what a guest is to start with. A question about a model is no guest: where KVM has nothing of
    /// Hyper-V, it is answered as if nobody had asked for any.
    ///
    /// # Errors
    /// Names the enlightenment that KVM lacks, or that lacks another one.
    pub(super) fn check_hyperv(&self, host: &Host) -> Result<(), Error> {
        if self.flag(scalar::HV_VPINDEX) && host.cap("KVM_CAP_HYPERV_VP_INDEX") <= 0 {
            return Err(Error::HypervVpIndex);
        }
        self.check_enlightenments(host)
    }

    fn check_enlightenments(&self, host: &Host) -> Result<(), Error> {
        for feature in HYPERV.iter().filter(|feature| self.flag(feature.property)) {
            if let Some(missing) = feature.requires.iter().find(|needed| !self.flag(**needed)) {
                return Err(Error::HypervNeeds {
                    feature: feature.description,
                    needs: description(*missing),
                });
            }
            if !offers(host, feature) {
                return Err(Error::HypervUnsupported(feature.description));
            }
        }
        let synic_alone =
            self.flag(scalar::HV_SYNIC) && !self.flag(scalar::X_HV_SYNIC_KVM_ONLY) && !self.flag(scalar::HV_VPINDEX);
        if synic_alone {
            return Err(Error::HypervNeeds {
                feature: description(scalar::HV_SYNIC),
                needs: description(scalar::HV_VPINDEX),
            });
        }
        Ok(())
    }

    fn pass_hyperv_through(&mut self, host: &Host) {
        let vendor = host.hyperv(0x4000_0000);
        let bytes: Vec<u8> = [vendor.ebx, vendor.ecx, vendor.edx]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        self.hv_vendor_id = String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
        let version = host.hyperv(0x4000_0002);
        for (id, value) in [
            (scalar::HV_VERSION_ID_BUILD, version.eax),
            (scalar::HV_VERSION_ID_MAJOR, version.ebx >> 16),
            (scalar::HV_VERSION_ID_MINOR, version.ebx & 0xffff),
            (scalar::HV_VERSION_ID_SPACK, version.ecx),
            (scalar::HV_VERSION_ID_SBRANCH, version.edx >> 24),
            (scalar::HV_VERSION_ID_SNUMBER, version.edx & 0xff_ffff),
            (scalar::HV_SPINLOCKS, host.hyperv(RECOMMENDATIONS).ebx),
        ] {
            self.set_scalar(id, value.into());
        }
        let most = i32::from_ne_bytes(host.hyperv(LIMITS).eax.to_ne_bytes());
        self.set_scalar(scalar::X_HV_MAX_VPS, most.into());
        for feature in HYPERV
            .iter()
            .filter(|feature| feature.property != scalar::HV_SYNDBG && offers(host, feature))
        {
            self.set_scalar(feature.property, 1);
        }
    }

    /// Settles the vendor that the guest sees.
    pub(super) fn realize_hyperv(&mut self) {
        if self.hv_vendor_id.is_empty() {
            VENDOR.clone_into(&mut self.hv_vendor_id);
        }
        if self.hv_vendor_id.len() > 12 {
            self.warnings.push(Warning::VendorTruncated);
        }
    }

    /// The leaves from 0x40000000 on.
    pub(super) fn hyperv_leaves(&self, host: &Host) -> Vec<CpuidEntry> {
        let nested = [scalar::HV_EVMCS, scalar::HV_EMSR_BITMAP, scalar::HV_TLBFLUSH_DIRECT];
        let nested = nested.into_iter().any(|feature| self.flag(feature));
        let mut vendor = [0; 12];
        for (to, from) in vendor.iter_mut().zip(self.hv_vendor_id.bytes()) {
            *to = from;
        }
        let [ebx, ecx, edx] =
            [0, 4, 8].map(|at| u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]]));
        let number = |id| u32::try_from(self.scalar(id)).unwrap_or(u32::MAX);
        let version = |high, shift, low| number(high) << shift | number(low);
        let mut leaves = vec![
            leaf(0x4000_0000, [if nested { NESTED } else { LIMITS }, ebx, ecx, edx]),
            leaf(0x4000_0001, [INTERFACE, 0, 0, 0]),
            leaf(
                0x4000_0002,
                [
                    number(scalar::HV_VERSION_ID_BUILD),
                    version(scalar::HV_VERSION_ID_MAJOR, 16, scalar::HV_VERSION_ID_MINOR),
                    number(scalar::HV_VERSION_ID_SPACK),
                    number(scalar::HV_VERSION_ID_SBRANCH) << 24 | number(scalar::HV_VERSION_ID_SNUMBER) & 0xff_ffff,
                ],
            ),
            self.features_leaf(),
            self.recommendations_leaf(host),
            self.limits_leaf(host),
        ];
        if nested {
            leaves.extend((0x4000_0006..NESTED).map(|function| leaf(function, [0; 4])));
            let evmcs = if self.flag(scalar::HV_EVMCS) { EVMCS_VERSIONS } else { 0 };
            leaves.push(leaf(NESTED, [evmcs | self.hyperv_bits(NESTED, Register::Eax), 0, 0, 0]));
        }
        leaves
    }

    fn features_leaf(&self) -> CpuidEntry {
        let messages = self.flag(scalar::HV_SYNIC) && !self.flag(scalar::X_HV_SYNIC_KVM_ONLY);
        let registers = [
            HYPERCALL | self.hyperv_bits(FEATURES, Register::Eax),
            if messages { MESSAGES_AND_EVENTS } else { 0 },
            0,
            DYNAMIC_PARTITIONING | self.hyperv_bits(FEATURES, Register::Edx),
        ];
        leaf(FEATURES, registers)
    }

    fn recommendations_leaf(&self, host: &Host) -> CpuidEntry {
        let mut eax = self.hyperv_bits(RECOMMENDATIONS, Register::Eax);
        if self.flag(scalar::HV_VAPIC) && !self.flag(scalar::HV_AVIC) {
            eax |= APIC_REGISTERS;
        }
        match self.scalar(scalar::HV_NO_NONARCH_CORESHARING) {
            ON => eax |= NO_NONARCH_CORESHARING,
            AUTO => eax |= host.hyperv(RECOMMENDATIONS).eax & NO_NONARCH_CORESHARING,
            _ => {}
        }
        leaf(
            RECOMMENDATIONS,
            [
                eax,
                u32::try_from(self.scalar(scalar::HV_SPINLOCKS)).unwrap_or(u32::MAX),
                0,
                0,
            ],
        )
    }

    fn limits_leaf(&self, host: &Host) -> CpuidEntry {
        let most = i32::try_from(self.scalar(scalar::X_HV_MAX_VPS)).unwrap_or(-1);
        let most = u32::from_ne_bytes(most.to_ne_bytes());
        if self.flag(scalar::HV_PASSTHROUGH) {
            let limits = host.hyperv(LIMITS);
            return leaf(LIMITS, [most, limits.ebx, limits.ecx, limits.edx]);
        }
        leaf(LIMITS, [most, MAX_VIRTUAL_PROCESSORS, 0, 0])
    }

    fn hyperv_bits(&self, function: u32, register: Register) -> u32 {
        let on = HYPERV.iter().filter(|feature| self.flag(feature.property));
        let bits = on
            .flat_map(|feature| feature.bits)
            .filter(|bits| (bits.0, bits.1) == (function, register));
        bits.fold(0, |mask, bits| mask | bits.2)
    }

    pub(super) fn hyperv_caps(&self) -> HypervCaps {
        HypervCaps {
            synic: self
                .flag(scalar::HV_SYNIC)
                .then(|| self.flag(scalar::X_HV_SYNIC_KVM_ONLY)),
            evmcs: self.flag(scalar::HV_EVMCS),
            enforce: self.flag(scalar::HV_ENFORCE_CPUID),
        }
    }
}

fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..CpuidEntry::default()
    }
}

fn offers(host: &Host, feature: &HypervFeature) -> bool {
    feature
        .bits
        .iter()
        .all(|(function, register, mask)| host.hyperv(*function).register(*register) & mask == *mask)
}

fn description(property: ScalarId) -> &'static str {
    HYPERV
        .iter()
        .find(|feature| feature.property == property)
        .map_or("", |feature| feature.description)
}
