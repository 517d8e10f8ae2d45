//! Caches in the forms CPUID has for them.

use super::cpu::Cpu;
use super::error::Error;
use super::features::is_amd;
use super::model::Model;
use super::tables::{CACHES, Cache, CacheKind, Caches, DESCRIPTORS, Level, scalar};
use super::topology::Topology;

/// Leaf 2: the caches are told about in leaf 4.
const SEE_LEAF_4: u8 = 0xff;

/// The caches a guest sees, in each place it may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheTables {
    leaf_2: Caches,
    pub(super) leaf_4: Caches,
    pub(super) amd: Caches,
}

impl CacheTables {
    /// The model's own caches, or those that all models had once.
    pub(super) fn of(cpu: &Cpu, topology: &Topology) -> Result<Self, Error> {
        let mut tables = if cpu.flag(scalar::LEGACY_CACHE) {
            let vendors = legacy(if is_amd(cpu.vendor) {
                "legacy-amd"
            } else {
                "legacy-intel"
            });
            let by_vendor = cpu.flag(scalar::X_VENDOR_CPUID_ONLY_V2);
            let consistent = cpu.flag(scalar::X_CONSISTENT_CACHE);
            Self {
                leaf_2: if consistent {
                    vendors
                } else {
                    legacy("legacy-intel-leaf2")
                },
                leaf_4: if by_vendor { vendors } else { legacy("legacy-intel") },
                amd: if by_vendor { vendors } else { legacy("legacy-amd") },
            }
        } else {
            let Model::Named { version, .. } = cpu.model else {
                return Err(Error::NoCaches(cpu.model.name().to_owned()));
            };
            let caches = version
                .caches
                .ok_or_else(|| Error::NoCaches(cpu.model.name().to_owned()))?;
            Self {
                leaf_2: *caches,
                leaf_4: *caches,
                amd: *caches,
            }
        };
        for caches in [&mut tables.leaf_4, &mut tables.amd] {
            let levels = topology.caches;
            for (cache, level) in [
                (&mut caches.l1d, levels.l1d),
                (&mut caches.l1i, levels.l1i),
                (&mut caches.l2, levels.l2),
                (&mut caches.l3, levels.l3),
            ] {
                cache.share = level.unwrap_or(cache.share);
            }
        }
        Ok(tables)
    }

    /// Leaf 2: descriptors.
    pub(super) fn leaf_2(&self, cpu: &Cpu) -> [u32; 4] {
        let of = |cache: &Cache| {
            let found = DESCRIPTORS.iter().find(|known| {
                (known.level, known.kind, known.size, known.ways, known.line)
                    == (cache.level, cache.kind, cache.size(), cache.ways, cache.line)
            });
            found.map(|known| known.code)
        };
        let codes = [&self.leaf_2.l1d, &self.leaf_2.l1i, &self.leaf_2.l2, &self.leaf_2.l3].map(of);
        let all_known = codes.iter().all(Option::is_some);
        if cpu.flag(scalar::X_CONSISTENT_CACHE) && !(cpu.scalar(scalar::MIN_LEVEL) < 4 && all_known) {
            return [1, 0, 0, SEE_LEAF_4.into()];
        }
        let [l1d, l1i, l2, l3] = codes.map(|code| u32::from(code.unwrap_or(SEE_LEAF_4)));
        let l3 = if cpu.flag(scalar::L3_CACHE) { l3 } else { 0 };
        [1, 0, l3, l1d << 16 | l1i << 8 | l2]
    }
}

fn legacy(name: &str) -> Caches {
    let found = CACHES.iter().find(|(known, _)| *known == name);
    found.map_or(CACHES[0].1, |(_, caches)| *caches)
}

/// The cache that a subleaf of leaf 4 or 0x8000001d is about.
pub(super) fn by_index(caches: &Caches, index: u32, with_l3: bool) -> Option<&Cache> {
    match index {
        0 => Some(&caches.l1d),
        1 => Some(&caches.l1i),
        2 => Some(&caches.l2),
        3 if with_l3 => Some(&caches.l3),
        _ => None,
    }
}

/// Leaf 4, and with another upper part of EAX leaf 0x8000001d.
pub(super) fn deterministic(cache: &Cache, topology: &Topology) -> [u32; 4] {
    let kind = match cache.kind {
        CacheKind::Data => 1,
        CacheKind::Instruction => 2,
        CacheKind::Unified => 3,
    };
    let eax = kind | cache.level << 5 | u32::from(cache.self_init) << 8 | sharing(cache.share, topology) << 14;
    let ebx = (cache.line - 1) | (cache.partitions - 1) << 12 | (cache.ways - 1) << 22;
    let edx =
        u32::from(cache.no_invd_sharing) | u32::from(cache.inclusive) << 1 | u32::from(cache.complex_indexing) << 2;
    [eax, ebx, cache.sets - 1, edx]
}

/// Threads that may share a cache, less one, as leaf 4 counts them: by APIC ids.
pub(super) fn sharing(level: Level, topology: &Topology) -> u32 {
    ((1 << topology.offset(level)) - 1).min(0xfff)
}

/// Cores there may be in a package, less one, as leaf 4 counts them.
pub(super) fn core_ids(topology: &Topology) -> u32 {
    ((1 << (topology.offset(Level::Socket) - topology.offset(Level::Core))) - 1).min(0x3f)
}

/// Leaf 0x80000005: a first level cache.
pub(super) fn amd_l1(cache: &Cache) -> u32 {
    (cache.size() / 1024) << 24 | cache.ways << 16 | cache.lines_per_tag << 8 | cache.line
}

/// Leaf 0x80000006, ECX: the second level cache.
pub(super) fn amd_l2(cache: &Cache) -> u32 {
    (cache.size() / 1024) << 16 | amd_ways(cache.ways) << 12 | cache.lines_per_tag << 8 | cache.line
}

/// Leaf 0x80000006, EDX: the third level cache.
pub(super) fn amd_l3(cache: &Cache) -> u32 {
    (cache.size() / (512 * 1024)) << 18 | amd_ways(cache.ways) << 12 | cache.lines_per_tag << 8 | cache.line
}

/// Associativity as AMD writes it; 0 for what there is no code for.
fn amd_ways(ways: u32) -> u32 {
    match ways {
        0 | 1 => ways,
        2 => 2,
        4 => 4,
        8 => 6,
        16 => 8,
        32 => 0xa,
        48 => 0xb,
        64 => 0xc,
        96 => 0xd,
        128 => 0xe,
        _ => 0,
    }
}
