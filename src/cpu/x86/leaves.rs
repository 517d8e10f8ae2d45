//! What CPUID tells a vCPU, leaf by leaf.

use super::caches::{self, CacheTables};
use super::cpu::Cpu;
use super::features::{halves, is_amd, is_intel, is_zhaoxin};
use super::host::Host;
use super::tables::{Level, XSAVE_AREAS, XsaveArea, feature, scalar, word};
use super::topology::Topology;

/// Size of the area that XSAVE always writes: legacy state and header.
const XSAVE_HEADER: u32 = 0x240;
/// State component of architectural last branch records.
const ARCH_LBR: u64 = 1 << 15;

/// Types of levels in leaves 0xb and 0x1f (Intel SDM, CPUID).
const LEVEL_TYPES: [(Level, u32); 5] = [
    (Level::Thread, 1),
    (Level::Core, 2),
    (Level::Module, 3),
    (Level::Die, 5),
    (Level::Socket, 0),
];

/// A vCPU that is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaves<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) host: &'a Host,
    pub(super) topology: &'a Topology,
    pub(super) caches: &'a CacheTables,
    pub(super) apic_id: u32,
}

impl Leaves<'_> {
    /// EAX, EBX, ECX and EDX. Beyond the last leaf of a range, it is the last basic leaf that answers.
    pub(super) fn get(&self, function: u32, index: u32) -> [u32; 4] {
        let cpu = self.cpu;
        let limit = match function {
            0xc000_0000.. => cpu.number(scalar::XLEVEL2),
            0x8000_0000.. => cpu.number(scalar::XLEVEL),
            _ => cpu.number(scalar::LEVEL),
        };
        let function = if function > limit {
            cpu.number(scalar::LEVEL)
        } else {
            function
        };
        match function {
            0xc000_0000.. => self.centaur(function),
            0x8000_0000.. => self.extended(function, index),
            _ => self.basic(function, index),
        }
    }

    fn basic(&self, function: u32, index: u32) -> [u32; 4] {
        let cpu = self.cpu;
        match (function, index) {
            (0, _) => {
                let [ebx, edx, ecx] = vendor_registers(cpu.vendor);
                [cpu.number(scalar::LEVEL), ebx, ecx, edx]
            }
            (1, _) => self.signature_and_features(),
            (2, _) => self.descriptors(),
            (4, _) => self.deterministic_caches(index),
            (5, _) => cpu.mwait,
            (6, _) => [cpu.register(word::CPUID_6_EAX), 0, 0, 0],
            (7, 0) => [
                cpu.number(scalar::LEVEL_FUNC7),
                cpu.register(word::CPUID_7_0_EBX),
                cpu.register(word::CPUID_7_0_ECX),
                cpu.register(word::CPUID_7_0_EDX),
            ],
            (7, 1) => [
                cpu.register(word::CPUID_7_1_EAX),
                0,
                cpu.register(word::CPUID_7_1_ECX),
                cpu.register(word::CPUID_7_1_EDX),
            ],
            (7, 2) => [0, 0, 0, cpu.register(word::CPUID_7_2_EDX)],
            (0xa, _) if cpu.flag(scalar::PMU) => self.host.supported(0xa, index).registers(),
            (0xb, _) if cpu.flag(scalar::CPUID_0XB) => self.topology_in_two_levels(index),
            (0xd, _) if cpu.has(feature::XSAVE) => self.xsave(index),
            (0x12, _) if cpu.has(feature::SGX) => self.enclaves(index),
            (0x14, 0) if cpu.has(feature::INTEL_PT) => [1, 0xf, 7 | cpu.register(word::CPUID_14_0_ECX), 0],
            (0x14, 1) if cpu.has(feature::INTEL_PT) => [0x0249_0002, 0x003f_1fff, 0, 0],
            (0x1c, _) if cpu.flag(scalar::PMU) && cpu.has(feature::ARCH_LBR) => {
                let [eax, ebx, ecx, _] = self.host.supported(0x1c, 0).registers();
                [eax, ebx, ecx, 0]
            }
            // Intel SDM: one palette of eight tiles, 16 rows of 64 bytes.
            (0x1d, 0) if cpu.has(feature::AMX_TILE) => [1, 0, 0, 0],
            (0x1d, 1) if cpu.has(feature::AMX_TILE) => [0x0400_2000, 0x0008_0040, 0x10, 0],
            (0x1e, 0) if cpu.has(feature::AMX_TILE) => [0, 0x4010, 0, 0],
            (0x1f, _) if cpu.has_leaf_1f(self.topology) => self.topology_in_levels(index),
            (0x24, 0) if cpu.has(feature::AVX10) => [
                0,
                cpu.register(word::CPUID_24_0_EBX) | cpu.number(scalar::AVX10_VERSION),
                0,
                0,
            ],
            _ => [0; 4],
        }
    }

    fn extended(&self, function: u32, index: u32) -> [u32; 4] {
        let cpu = self.cpu;
        match function {
            0x8000_0000 if self.intel_form() => [cpu.number(scalar::XLEVEL), 0, 0, 0],
            0x8000_0000 => {
                let [ebx, edx, ecx] = vendor_registers(cpu.vendor);
                [cpu.number(scalar::XLEVEL), ebx, ecx, edx]
            }
            0x8000_0001 => [
                cpu.signature(),
                0,
                cpu.register(word::CPUID_8000_0001_ECX),
                cpu.register(word::CPUID_8000_0001_EDX),
            ],
            0x8000_0002..=0x8000_0004 => self.brand_string(function - 0x8000_0002),
            0x8000_0005 => self.amd_first_level_caches(),
            0x8000_0006 => self.amd_other_caches(),
            0x8000_0007 => {
                let ebx = if self.intel_form() {
                    0
                } else {
                    cpu.register(word::CPUID_8000_0007_EBX)
                };
                [0, ebx, 0, cpu.register(word::CPUID_8000_0007_EDX)]
            }
            0x8000_0008 => self.address_sizes(),
            0x8000_000a if cpu.has(feature::SVM) => [1, 16, 0, cpu.register(word::CPUID_8000_000A_EDX)],
            0x8000_001d => self.amd_deterministic_caches(index),
            0x8000_001e => self.amd_topology(),
            0x8000_0021 => [
                cpu.register(word::CPUID_8000_0021_EAX),
                cpu.register(word::CPUID_8000_0021_EBX),
                cpu.register(word::CPUID_8000_0021_ECX),
                0,
            ],
            0x8000_0022 if cpu.flag(scalar::PMU) && cpu.has(feature::PERFMON_V2) => [
                cpu.register(word::CPUID_8000_0022_EAX),
                self.host.supported(function, 0).ebx & 0xf,
                0,
                0,
            ],
            _ => [0; 4],
        }
    }

    fn centaur(&self, function: u32) -> [u32; 4] {
        match function {
            0xc000_0000 => [self.cpu.number(scalar::XLEVEL2), 0, 0, 0],
            0xc000_0001 => [self.cpu.signature(), 0, 0, self.cpu.register(word::CPUID_C000_0001_EDX)],
            _ => [0; 4],
        }
    }

    /// Whether leaves that are AMD's own are empty, as on processors of Intel and Zhaoxin.
    fn intel_form(&self) -> bool {
        self.cpu.flag(scalar::X_VENDOR_CPUID_ONLY_V2) && self.is_intel_like()
    }

    fn is_intel_like(&self) -> bool {
        is_intel(self.cpu.vendor) || is_zhaoxin(self.cpu.vendor)
    }

    /// Whether leaves that are Intel's own are empty, as on processors of AMD.
    fn amd_form(&self) -> bool {
        self.cpu.flag(scalar::X_VENDOR_CPUID_ONLY) && is_amd(self.cpu.vendor)
    }

    fn passes_caches_through(&self) -> bool {
        self.cpu.flag(scalar::HOST_CACHE_INFO)
    }

    fn signature_and_features(&self) -> [u32; 4] {
        let cpu = self.cpu;
        let threads = self.topology.threads_per_package();
        let ids = if self.is_intel_like() {
            1 << self.topology.offset(Level::Socket)
        } else {
            threads
        };
        let ids = if threads > 1 { ids.min(255) } else { 0 };
        let mut ecx = cpu.register(word::CPUID_1_ECX);
        if cpu.flag(scalar::X_PDCM_ON_EVEN_WITHOUT_PMU) && !cpu.flag(scalar::PMU) {
            let [pdcm, _] = halves(feature::PDCM.mask);
            ecx &= !pdcm;
        }
        let cache_line_in_quadwords = 8;
        let ebx = (self.apic_id & 0xff) << 24 | ids << 16 | cache_line_in_quadwords << 8;
        [cpu.signature(), ebx, ecx, cpu.register(word::CPUID_1_EDX)]
    }

    fn descriptors(&self) -> [u32; 4] {
        if self.passes_caches_through() {
            return self.host.native(2, 0).registers();
        }
        if self.amd_form() {
            return [0; 4];
        }
        self.caches.leaf_2(self.cpu)
    }

    fn deterministic_caches(&self, index: u32) -> [u32; 4] {
        if self.passes_caches_through() {
            return self.host_caches(index);
        }
        if self.amd_form() {
            return [0; 4];
        }
        let Some(cache) = caches::by_index(&self.caches.leaf_4, index, self.cpu.flag(scalar::L3_CACHE)) else {
            return [0; 4];
        };
        let [mut eax, ebx, ecx, edx] = caches::deterministic(cache, self.topology);
        if cache.level == 1 && !self.cpu.flag(scalar::X_L1_CACHE_PER_THREAD) {
            eax &= !(0xfff << 14);
        }
        [eax | caches::core_ids(self.topology) << 26, ebx, ecx, edx]
    }

    /// The host's caches, shared by no more than the guest's package has.
    fn host_caches(&self, index: u32) -> [u32; 4] {
        let [mut eax, ebx, ecx, edx] = self.host.native(4, index).registers();
        if eax & 31 != 0 {
            let sharing = (eax >> 14 & 0xfff) + 1;
            eax = eax & 0x03ff_ffff | caches::core_ids(self.topology) << 26;
            if sharing > self.topology.threads_per_package() {
                eax = eax & !(0xfff << 14) | caches::sharing(Level::Socket, self.topology) << 14;
            }
        }
        [eax, ebx, ecx, edx]
    }

    fn topology_in_two_levels(&self, index: u32) -> [u32; 4] {
        let topology = self.topology;
        let (eax, ebx, kind) = match index {
            0 => (topology.offset(Level::Core), topology.threads_in(Level::Core), 1),
            1 => (topology.offset(Level::Socket), topology.threads_per_package(), 2),
            _ => (0, 0, 0),
        };
        [eax, ebx, index & 0xff | kind << 8, self.apic_id]
    }

    fn topology_in_levels(&self, index: u32) -> [u32; 4] {
        let topology = self.topology;
        let there = |level: &Level| match level {
            Level::Module => topology.modules > 1,
            Level::Die => topology.dies > 1,
            Level::Thread | Level::Core | Level::Socket => true,
        };
        let mut levels = LEVEL_TYPES.iter().filter(|(level, _)| there(level));
        let this = usize::try_from(index).ok().and_then(|index| levels.nth(index));
        let (eax, ebx, kind) = match (this, levels.next()) {
            (Some((_, kind)), Some((next, _))) => (topology.offset(*next), topology.threads_in(*next), *kind),
            _ => (0, 0, 0),
        };
        [eax, ebx, index & 0xff | kind << 8, self.apic_id]
    }

    fn xsave(&self, index: u32) -> [u32; 4] {
        let cpu = self.cpu;
        let [xcr0, xss] = [cpu.xcr0(), cpu.xss()];
        match index {
            0 => {
                let size = self.standard_size(xcr0);
                let [low, high] = halves(xcr0);
                [low, size, size, high]
            }
            1 => {
                let word = cpu.register(word::CPUID_D_1_EAX);
                let records = cpu.flag(scalar::PMU) && cpu.has(feature::ARCH_LBR) && cpu.has(feature::XSAVES);
                let shown = if records { xss | ARCH_LBR } else { xss & !ARCH_LBR };
                let [low, high] = halves(shown);
                [word, compacted_size(xcr0 | xss), low, high]
            }
            _ => {
                let Some(area) = XSAVE_AREAS.iter().find(|area| area.component == index) else {
                    return [0; 4];
                };
                if xcr0 >> index & 1 != 0 {
                    let host = self.host.native(0xd, index);
                    let (offset, flags) = if host.eax == 0 { (0, 0) } else { (host.ebx, host.ecx) };
                    [area.size, offset, flags & 6, 0]
                } else if xss >> index & 1 != 0 {
                    [area.size, 0, 1, 0]
                } else {
                    [0; 4]
                }
            }
        }
    }

    /// Where the last component ends; the host says where each starts.
    fn standard_size(&self, components: u64) -> u32 {
        let ends = present(components).filter(|area| area.component > 1).map(|area| {
            let host = self.host.native(0xd, area.component);
            let offset = if host.eax == 0 { 0 } else { host.ebx };
            offset.saturating_add(area.size)
        });
        ends.max().unwrap_or_default().max(XSAVE_HEADER)
    }

    fn enclaves(&self, index: u32) -> [u32; 4] {
        let cpu = self.cpu;
        let [eax, ebx, ecx, edx] = self.host.supported(0x12, index).registers();
        let [low, high] = halves(cpu.xcr0());
        match index {
            0 => [
                eax & cpu.register(word::CPUID_12_0_EAX),
                ebx & cpu.register(word::CPUID_12_0_EBX),
                ecx,
                edx,
            ],
            1 => [eax & cpu.register(word::CPUID_12_1_EAX), 0, ecx & low | 3, edx & high],
            _ => [0; 4],
        }
    }

    fn brand_string(&self, part: u32) -> [u32; 4] {
        let bytes = self.cpu.model_id.as_bytes();
        let start = usize::try_from(part).unwrap_or_default() * 16;
        let byte = |at: usize| bytes.get(start + at).copied().unwrap_or_default();
        [0, 4, 8, 12].map(|at| u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]))
    }

    fn amd_first_level_caches(&self) -> [u32; 4] {
        if self.passes_caches_through() {
            return self.host.native(0x8000_0005, 0).registers();
        }
        if self.intel_form() {
            return [0; 4];
        }
        // Translation buffers: 255 entries, one way, of each kind.
        let caches = &self.caches.amd;
        [
            0x01ff_01ff,
            0x01ff_01ff,
            caches::amd_l1(&caches.l1d),
            caches::amd_l1(&caches.l1i),
        ]
    }

    fn amd_other_caches(&self) -> [u32; 4] {
        if self.passes_caches_through() {
            return self.host.native(0x8000_0006, 0).registers();
        }
        let caches = &self.caches.amd;
        if self.intel_form() {
            return [0, 0, caches::amd_l2(&caches.l2), 0];
        }
        let l3 = if self.cpu.flag(scalar::L3_CACHE) {
            caches::amd_l3(&caches.l3)
        } else {
            0
        };
        // Translation buffers: 512 entries, four ways, for small pages; none for large ones.
        [0, 0x4200_4200, caches::amd_l2(&caches.l2), l3]
    }

    fn address_sizes(&self) -> [u32; 4] {
        let cpu = self.cpu;
        let mut eax = cpu.number(scalar::PHYS_BITS);
        if cpu.has(feature::LM) {
            let linear = if cpu.has(feature::LA57) { 57 } else { 48 };
            eax |= linear << 8 | cpu.number(scalar::GUEST_PHYS_BITS) << 16;
        }
        let threads = self.topology.threads_per_package();
        let ecx = if threads > 1 && !self.intel_form() {
            self.topology.offset(Level::Socket) << 12 | (threads - 1)
        } else {
            0
        };
        [eax, cpu.register(word::CPUID_8000_0008_EBX), ecx, 0]
    }

    fn amd_deterministic_caches(&self, index: u32) -> [u32; 4] {
        if self.passes_caches_through() {
            return self.host.native(0x8000_001d, index).registers();
        }
        let Some(cache) = caches::by_index(&self.caches.amd, index, self.cpu.flag(scalar::L3_CACHE)) else {
            return [0; 4];
        };
        let [eax, ebx, ecx, edx] = caches::deterministic(cache, self.topology);
        let defined = if self.cpu.flag(scalar::X_AMD_TOPOEXT_FEATURES_ONLY) {
            3
        } else {
            u32::MAX
        };
        [eax, ebx, ecx, edx & defined]
    }

    fn amd_topology(&self) -> [u32; 4] {
        let topology = self.topology;
        let cores = 1_u32 << (topology.offset(Level::Module) - topology.offset(Level::Core));
        let core = self.apic_id >> topology.offset(Level::Core) & (cores - 1);
        if core > 255 {
            return [0; 4];
        }
        let node = if self.cpu.flag(scalar::LEGACY_MULTI_NODE) {
            (topology.dies - 1) << 8 | self.apic_id >> topology.offset(Level::Die) & 0xff
        } else {
            self.apic_id >> topology.offset(Level::Socket) & 0xff
        };
        [self.apic_id, (topology.threads - 1) << 8 | core, node, 0]
    }
}

fn vendor_registers(vendor: [u8; 12]) -> [u32; 3] {
    [0, 4, 8].map(|at| u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]]))
}

fn present(components: u64) -> impl Iterator<Item = &'static XsaveArea> {
    XSAVE_AREAS
        .iter()
        .filter(move |area| components >> area.component & 1 != 0)
}

/// Components one after the other.
fn compacted_size(components: u64) -> u32 {
    let sizes = present(components)
        .filter(|area| area.component > 1)
        .map(|area| area.size);
    XSAVE_HEADER + sizes.sum::<u32>()
}
