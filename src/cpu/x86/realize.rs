//! Realised CPUs: what KVM is told about a guest's processors.

use super::caches::CacheTables;
use super::cpu::{Context, Cpu};
use super::error::{Error, Warning};
use super::features::is_amd;
use super::host::{CpuidEntry, Host};
use super::hyperv::HypervCaps;
use super::leaves::Leaves;
use super::msrs::{feature_msrs, mcg_cap};
use super::supported::Accel;
use super::tables::{Level, feature, scalar, word};
use super::topology::Topology;

/// Physical address bits of processors that have long mode, unless told otherwise.
const DEFAULT_PHYS_BITS: i64 = 40;
/// `guest-phys-bits` when nobody chose.
const UNSET: i64 = u32::MAX as i64;
/// A property that tells a place when nobody chose.
const UNPLACED: i64 = -1;
/// `lbr-fmt` when nobody chose, and the bits of the format in IA32_PERF_CAPABILITIES.
const LBR_FORMAT: u64 = 0x3f;
const LBR_UNSET: i64 = !0x3f;
/// Microcode revisions that guests accept.
const UCODE_AMD: i64 = 0x0100_0065;
const UCODE_OTHERS: i64 = 0x1_0000_0000;
/// Leaf 5, ECX: the enumeration is there, and interrupts end MWAIT even when they are masked.
const MWAIT_EXTENSIONS: u32 = 3;
/// The state component that a process must ask the kernel for: AMX tile data.
const TILE_DATA: u32 = 18;

/// The processors of a guest: all alike but for their place.
#[derive(Clone, Debug)]
pub struct Processor {
    cpu: Cpu,
    host: Host,
    topology: Topology,
    caches: CacheTables,
    msrs: Vec<(u32, u64)>,
    mcg_cap: Option<u64>,
    warnings: Vec<Warning>,
}

/// What KVM is told about one vCPU. To be applied in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealizedVcpu {
    /// Its APIC id, which is its id for KVM too.
    pub apic_id: u32,
    /// KVM_SET_TSC_KHZ, if a rate was asked for.
    pub tsc_khz: Option<u32>,
    /// KVM_CAP_HYPERV_SYNIC2 is to be enabled; KVM_CAP_HYPERV_SYNIC if the value is true.
    pub hyperv_synic: Option<bool>,
    /// KVM_CAP_HYPERV_ENLIGHTENED_VMCS is to be enabled.
    pub hyperv_evmcs: bool,
    /// KVM_CAP_HYPERV_ENFORCE_CPUID is to be enabled.
    pub hyperv_enforce_cpuid: bool,
    /// KVM_SET_CPUID2.
    pub cpuid: Vec<CpuidEntry>,
    /// KVM_CAP_ENFORCE_PV_FEATURE_CPUID is to be enabled.
    pub enforce_pv_cpuid: bool,
    /// KVM_X86_SETUP_MCE.
    pub mcg_cap: Option<u64>,
    /// KVM_SET_MSRS, in this order.
    pub msrs: Vec<(u32, u64)>,
}

/// What KVM is told about the whole guest, before its first vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealizedVm {
    /// ARCH_REQ_XCOMP_GUEST_PERM: the state component to ask for.
    pub xcomp_permission: Option<u32>,
    /// What MSR_CORE_THREAD_COUNT (0x35) reads as; KVM leaves it to the VMM.
    pub core_thread_count: u64,
}

impl Processor {
    /// Expands, filters and settles a CPU. Warnings that come before an error are in `warnings`.
    pub(super) fn new(
        mut cpu: Cpu,
        context: &Context<'_>,
        accel: &Accel<'_>,
        topology: Topology,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let result = Self::settle(&mut cpu, context, accel, &topology);
        warnings.append(&mut cpu.warnings);
        let caches = result?;
        let mcg_cap = mcg_cap(&cpu, accel.host, warnings)?;
        let msrs = feature_msrs(&cpu, accel.host);
        let warnings = warnings.clone();
        let mut processor = Self {
            cpu,
            host: accel.host.clone(),
            topology,
            caches,
            msrs,
            mcg_cap,
            warnings,
        };
        processor.learn_tsc_rate(accel.host.tsc_khz);
        Ok(processor)
    }

    /// The rate of the host's time stamp counter in kHz, which the first vCPU tells. Guests have it unless another one was
    /// asked for.
    pub fn learn_tsc_rate(&mut self, khz: u32) {
        self.host.tsc_khz = khz;
        if self.cpu.user_tsc_hz == 0 {
            self.cpu.tsc_hz = u64::from(khz) * 1000;
        }
    }

    fn settle(
        cpu: &mut Cpu,
        context: &Context<'_>,
        accel: &Accel<'_>,
        topology: &Topology,
    ) -> Result<CacheTables, Error> {
        cpu.realize_hyperv();
        cpu.expand(context, topology)?;
        cpu.check_hyperv(accel.host)?;
        cpu.check_branch_records(accel)?;
        let enforce = cpu.flag(scalar::ENFORCE);
        let check = cpu.flag(scalar::CHECK) || enforce;
        let missing = cpu.filter(context, check);
        if enforce && missing {
            return Err(Error::Enforced);
        }
        cpu.share_edx();
        cpu.settle_power(accel);
        cpu.settle_addresses(accel.host)?;
        cpu.settle_microcode(accel.host);
        let caches = CacheTables::of(cpu, topology)?;
        if is_amd(cpu.vendor) && topology.threads > 1 && !cpu.has(feature::TOPOEXT) {
            cpu.warnings.push(Warning::Threads(topology.threads));
        }
        cpu.user_tsc_hz = cpu.tsc_hz;
        Ok(caches)
    }

    /// The CPU with its properties; those that tell its place are those of no vCPU.
    #[must_use]
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The CPU with the properties of vCPU number `index`.
    #[must_use]
    pub fn cpu_at(&self, index: u32) -> Cpu {
        let mut cpu = self.cpu.clone();
        let place = self.topology.place(index);
        for (id, value) in [
            (scalar::APIC_ID, self.topology.apic_id(index)),
            (scalar::SOCKET_ID, place.socket),
            (scalar::DIE_ID, place.die),
            (scalar::MODULE_ID, place.module),
            (scalar::CORE_ID, place.core),
            (scalar::THREAD_ID, place.thread),
        ] {
            cpu.set_scalar(id, value.into());
        }
        cpu
    }

    /// Checks that properties which tell a place tell that of vCPU number `index`, which is in NUMA node `node`.
    ///
    /// # Errors
    /// Names the property that tells another one.
    pub fn check_place(&self, index: u32, node: u16) -> Result<(), Error> {
        let place = self.topology.place(index);
        let apic_id = self.topology.apic_id(index);
        for (property, id, place) in [
            ("socket-id", scalar::SOCKET_ID, place.socket),
            ("die-id", scalar::DIE_ID, place.die),
            ("module-id", scalar::MODULE_ID, place.module),
            ("core-id", scalar::CORE_ID, place.core),
            ("thread-id", scalar::THREAD_ID, place.thread),
        ] {
            let given = self.cpu.scalar(id);
            if given != UNPLACED && given != i64::from(place) {
                return Err(Error::Place {
                    property,
                    given: u32::from_ne_bytes(i32::try_from(given).unwrap_or(i32::MAX).to_ne_bytes()),
                    apic_id,
                    place,
                });
            }
        }
        let given = self.cpu.scalar(scalar::NODE_ID);
        if given != UNPLACED && given != i64::from(node) {
            return Err(Error::Node(node));
        }
        Ok(())
    }

    /// The host it was realised for.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The topology it was realised for.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What the first vCPU warns about; later ones repeat those that [`Warning::repeats`].
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What KVM is told about the whole guest.
    #[must_use]
    pub fn vm(&self) -> RealizedVm {
        let tiles = self.cpu.xcr0() >> TILE_DATA & 1 != 0;
        let topology = &self.topology;
        RealizedVm {
            xcomp_permission: tiles.then_some(TILE_DATA),
            core_thread_count: u64::from(topology.threads_in(Level::Socket))
                | u64::from(topology.cores_per_package()) << 16,
        }
    }

    /// What KVM is told about vCPU number `index`.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> RealizedVcpu {
        let apic_id = self.topology.apic_id(index);
        let leaves = Leaves {
            cpu: &self.cpu,
            host: &self.host,
            topology: &self.topology,
            caches: &self.caches,
            apic_id,
        };
        let khz = |hertz: u64| u32::try_from(hertz / 1000).unwrap_or(u32::MAX);
        let hyperv = self.cpu.hyperv_enabled(&self.host);
        let HypervCaps { synic, evmcs, enforce } = self.cpu.hyperv_caps();
        RealizedVcpu {
            apic_id,
            tsc_khz: (self.cpu.user_tsc_hz != 0).then(|| khz(self.cpu.user_tsc_hz)),
            hyperv_synic: synic.filter(|_| hyperv),
            hyperv_evmcs: hyperv && evmcs,
            hyperv_enforce_cpuid: hyperv && enforce,
            cpuid: leaves.entries(khz(self.cpu.tsc_hz)),
            enforce_pv_cpuid: self.cpu.flag(scalar::KVM_PV_ENFORCE_CPUID),
            mcg_cap: self.mcg_cap,
            msrs: self.msrs.clone(),
        }
    }
}

impl Cpu {
    fn check_branch_records(&mut self, accel: &Accel<'_>) -> Result<(), Error> {
        let given = self.scalar(scalar::LBR_FMT);
        if given == LBR_UNSET {
            return Ok(());
        }
        let given = given.unsigned_abs() & LBR_FORMAT;
        let capabilities = &mut self.features.0[word::MSR_PERF_CAPABILITIES.0];
        *capabilities = *capabilities & !LBR_FORMAT | given;
        if given == 0 {
            return Ok(());
        }
        if !self.flag(scalar::PMU) {
            return Err(Error::LbrNeedsPmu);
        }
        let host = accel.host.feature_msrs.get(&0x345).copied().unwrap_or_default() & LBR_FORMAT;
        if given != host {
            return Err(Error::LbrFormat { given, host });
        }
        Ok(())
    }

    fn settle_power(&mut self, accel: &Accel<'_>) {
        if self.model.is_max() && accel.cpu_pm {
            self.mwait = accel.host.native(5, 0).registers();
            let waits = accel.host.supported(7, 0).ecx & 1 << 5 != 0;
            if waits {
                self.features.set(feature::WAITPKG);
            }
        }
        self.mwait[2] |= MWAIT_EXTENSIONS;
    }

    fn settle_addresses(&mut self, host: &Host) -> Result<(), Error> {
        let given = self.scalar(scalar::PHYS_BITS);
        if !self.has(feature::LM) {
            if given != 0 {
                return Err(Error::PhysBitsFixed);
            }
            let extended = self.has(feature::PSE36) || self.has(feature::PAE);
            self.set_scalar(scalar::PHYS_BITS, if extended { 36 } else { 32 });
            let guest = self.scalar(scalar::GUEST_PHYS_BITS);
            self.set_scalar(scalar::GUEST_PHYS_BITS, if guest == UNSET { 0 } else { guest });
            return Ok(());
        }
        let of_the_host = host.phys_bits();
        if given != 0 && given != i64::from(of_the_host) {
            let given = u32::try_from(given).unwrap_or(u32::MAX);
            self.warnings.push(Warning::PhysBits {
                host: of_the_host,
                given,
            });
        }
        let mut bits = given;
        if self.flag(scalar::HOST_PHYS_BITS) {
            let limit = self.scalar(scalar::HOST_PHYS_BITS_LIMIT);
            bits = of_the_host.into();
            bits = if limit == 0 { bits } else { bits.min(limit) };
        }
        if bits != 0 && !(32..=52).contains(&bits) {
            return Err(Error::PhysBits(bits));
        }
        let bits = if bits == 0 { DEFAULT_PHYS_BITS } else { bits };
        self.set_scalar(scalar::PHYS_BITS, bits);
        let mut guest = self.scalar(scalar::GUEST_PHYS_BITS);
        if guest == UNSET {
            guest = (host.supported(0x8000_0008, 0).eax >> 16 & 0xff).into();
        }
        self.set_scalar(scalar::GUEST_PHYS_BITS, guest.min(bits));
        Ok(())
    }

    fn settle_microcode(&mut self, host: &Host) {
        if self.scalar(scalar::UCODE_REV) != 0 {
            return;
        }
        let mut revision = 0;
        if self.model.is_max() {
            let offered = host.feature_msrs.get(&0x8b).copied().unwrap_or_default();
            revision = i64::from_ne_bytes(offered.to_ne_bytes());
        }
        if revision == 0 {
            let for_amd = is_amd(self.vendor);
            revision = if for_amd { UCODE_AMD } else { UCODE_OTHERS };
        }
        self.set_scalar(scalar::UCODE_REV, revision);
    }
}
