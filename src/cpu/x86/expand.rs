//! Expansion: from what was asked for to the features and levels of a CPU, the host's limits not yet applied.

use super::cpu::{Context, Cpu};
use super::error::{Error, Warning};
use super::features::{Features, is_amd, is_intel, is_zhaoxin};
use super::supported::{automatic, migratable};
use super::tables::{DEPENDENCIES, Feature, Location, ScalarId, WORD_COUNT, Word, XSAVE_AREAS, feature, scalar, word};
use super::topology::Topology;

/// A level that nobody chose.
const UNSET: i64 = u32::MAX as i64;

/// Words that raise the level of their range when they are not empty. Leaf 7, EBX, does so always.
const RAISING: [Word; 16] = [
    word::CPUID_1_EDX,
    word::CPUID_1_ECX,
    word::CPUID_6_EAX,
    word::CPUID_7_0_ECX,
    word::CPUID_7_1_EAX,
    word::CPUID_7_1_ECX,
    word::CPUID_7_1_EDX,
    word::CPUID_7_2_EDX,
    word::CPUID_8000_0001_EDX,
    word::CPUID_8000_0001_ECX,
    word::CPUID_8000_0007_EDX,
    word::CPUID_8000_0008_EBX,
    word::CPUID_C000_0001_EDX,
    word::CPUID_8000_000A_EDX,
    word::CPUID_D_1_EAX,
    word::CPUID_8000_0021_EAX,
];

impl Cpu {
    /// Expands the CPU for a guest of this topology.
    pub(super) fn expand(&mut self, context: &Context<'_>, topology: &Topology) -> Result<(), Error> {
        for (list, on) in [(&context.arguments.plus, true), (&context.arguments.minus, false)] {
            for name in list {
                self.set_json(name, &on.into(), "")?;
            }
        }
        if self.model.is_max() {
            self.take_supported(context);
        }
        self.fit_topology(topology);
        if !self.flag(scalar::PMU) && !self.flag(scalar::X_PDCM_ON_EVEN_WITHOUT_PMU) {
            self.features.clear(feature::PDCM);
        }
        self.drop_dependent_features();
        if context.accel.is_none() || !self.flag(scalar::KVM) {
            self.features.0[word::KVM_FEATURES.0] = 0;
        }
        self.enable_xsave_components(context);
        self.raise_levels(topology);
        self.expand_hyperv(context)
    }

    fn take_supported(&mut self, context: &Context<'_>) {
        let arch_capabilities = self.flag(scalar::X_ARCH_CAP_ALWAYS_ON);
        let offered = automatic(context.supported, self.vendor, arch_capabilities);
        for place in 0..WORD_COUNT {
            let mut offered = offered.0[place] & !self.user.0[place];
            if self.flag(scalar::MIGRATABLE) {
                offered &= migratable(Word(place), self.tsc_hz != 0);
            }
            self.features.0[place] |= offered;
        }
        if let (true, Some(accel)) = (self.has(feature::AVX10), &context.accel) {
            self.set_scalar(
                scalar::AVX10_VERSION,
                i64::from(accel.host.supported(0x24, 0).ebx & 0xff),
            );
        }
    }

    fn fit_topology(&mut self, topology: &Topology) {
        if topology.threads_per_package() <= 1 {
            return;
        }
        self.features.set(feature::HT);
        if !is_intel(self.vendor) && !is_zhaoxin(self.vendor) {
            self.features.set(feature::CMP_LEGACY);
        }
    }

    fn drop_dependent_features(&mut self) {
        for dependency in &DEPENDENCIES {
            if self.features.has_any(dependency.needs) {
                continue;
            }
            let word = dependency.of.word;
            let lost = self.features.word(word) & dependency.of.mask;
            self.mark_unavailable(word, lost & self.user.word(word), Some(Warning::Unmet));
            self.features.0[word.0] &= !lost;
        }
    }

    /// Removes bits, and remembers that they were asked for.
    pub(super) fn mark_unavailable(&mut self, word: Word, mask: u64, warning: Option<fn(Word, u32) -> Warning>) {
        if mask == 0 {
            return;
        }
        if !self.flag(scalar::X_FORCE_FEATURES) {
            self.features.0[word.0] &= !mask;
        }
        self.filtered.0[word.0] |= mask;
        if let Some(warning) = warning {
            self.warnings
                .extend((0..64).filter(|bit| mask >> bit & 1 != 0).map(|bit| warning(word, bit)));
        }
    }

    fn enable_xsave_components(&mut self, context: &Context<'_>) {
        let (mut user, mut supervisor) = (0_u64, 0_u64);
        if self.has(feature::XSAVE) {
            for area in &XSAVE_AREAS {
                let in_avx10 = area.feature == feature::AVX512F && self.has(feature::AVX10);
                if !self.features.has_any(area.feature) && !in_avx10 {
                    continue;
                }
                *if area.supervisor { &mut supervisor } else { &mut user } |= 1 << area.component;
            }
        }
        if context.accel.is_some() {
            user &= pair(context.supported, word::XCR0_LO, word::XCR0_HI);
            supervisor &= pair(context.supported, word::XSS_LO, word::XSS_HI);
        }
        let words = [
            (word::XCR0_LO, word::XCR0_HI, user),
            (word::XSS_LO, word::XSS_HI, supervisor),
        ];
        for (low, high, components) in words {
            self.features.0[low.0] = components & 0xffff_ffff;
            self.features.0[high.0] = components >> 32;
        }
    }

    fn raise_levels(&mut self, topology: &Topology) {
        self.raise_for_word(word::CPUID_7_0_EBX);
        if self.flag(scalar::FULL_CPUID_AUTO_LEVEL) {
            for word in RAISING {
                self.raise_for_word(word);
            }
            let leaf_1f =
                self.has_leaf_1f(topology) && (is_intel(self.vendor) || !self.flag(scalar::X_VENDOR_CPUID_ONLY));
            let intel_pt = self.has(feature::INTEL_PT) && self.flag(scalar::X_INTEL_PT_AUTO_LEVEL);
            for (there, level, leaf) in [
                (intel_pt, scalar::MIN_LEVEL, 0x14),
                (leaf_1f, scalar::MIN_LEVEL, 0x1f),
                (self.has(feature::AVX10), scalar::MIN_LEVEL, 0x24),
                (self.has(feature::SVM), scalar::MIN_XLEVEL, 0x8000_000a),
                (self.has(feature::SGX), scalar::MIN_LEVEL, 0x12),
            ] {
                if there {
                    self.raise(level, leaf);
                }
            }
        }
        for (level, least) in [
            (scalar::LEVEL_FUNC7, self.min_level_func7()),
            (scalar::LEVEL, self.scalar(scalar::MIN_LEVEL)),
            (scalar::XLEVEL, self.scalar(scalar::MIN_XLEVEL)),
            (scalar::XLEVEL2, self.scalar(scalar::MIN_XLEVEL2)),
        ] {
            if self.scalar(level) == UNSET {
                self.set_scalar(level, least);
            }
        }
    }

    /// The highest subleaf of leaf 7 with features.
    fn min_level_func7(&self) -> i64 {
        if !self.flag(scalar::FULL_CPUID_AUTO_LEVEL) {
            return 0;
        }
        let subleaf = |place: &Word| match place.location() {
            Location::Cpuid {
                leaf: 7,
                subleaf: Some(subleaf),
                ..
            } if self.features.word(*place) != 0 => subleaf,
            _ => 0,
        };
        RAISING.iter().map(subleaf).max().unwrap_or_default().into()
    }

    fn raise_for_word(&mut self, place: Word) {
        if self.features.word(place) == 0 {
            return;
        }
        if let Location::Cpuid { leaf, .. } = place.location() {
            let level = match leaf >> 28 {
                0 => scalar::MIN_LEVEL,
                0x8 => scalar::MIN_XLEVEL,
                _ => scalar::MIN_XLEVEL2,
            };
            self.raise(level, leaf);
        }
    }

    fn raise(&mut self, level: ScalarId, leaf: u32) {
        let raised = self.scalar(level).max(leaf.into());
        self.set_scalar(level, raised);
    }

    /// Whether the guest sees the extended topology of leaf 0x1f.
    pub(super) fn has_leaf_1f(&self, topology: &Topology) -> bool {
        self.flag(scalar::X_FORCE_CPUID_0X1F) || topology.dies > 1 || topology.modules > 1
    }

    /// What XCR0 may hold.
    pub(super) fn xcr0(&self) -> u64 {
        pair(&self.features, word::XCR0_LO, word::XCR0_HI)
    }

    /// What IA32_XSS may hold.
    pub(super) fn xss(&self) -> u64 {
        pair(&self.features, word::XSS_LO, word::XSS_HI)
    }

    /// Filters out what the host lacks, with warnings if they are wanted. Tells whether something was missing.
    pub(super) fn filter(&mut self, context: &Context<'_>, warn: bool) -> bool {
        let Some(accel) = &context.accel else { return false };
        let warning = warn.then_some(Warning::Unsupported as fn(Word, u32) -> Warning);
        for place in 0..WORD_COUNT {
            let missing = self.features.0[place] & !context.supported.0[place];
            self.mark_unavailable(Word(place), missing, warning);
        }
        if self.has(feature::INTEL_PT) && !offers_trace(accel, self.has(feature::INTEL_PT_LIP)) {
            let Feature { word, mask } = feature::INTEL_PT;
            self.mark_unavailable(word, mask, warning);
        }
        let lowered = self.lower_avx10(accel.host.supported(0x24, 0).ebx & 0xff, warn);
        lowered || self.filtered != Features::default()
    }

    fn lower_avx10(&mut self, host: u32, warn: bool) -> bool {
        let (asked, host) = (self.scalar(scalar::AVX10_VERSION), i64::from(host));
        let warning = if self.has(feature::AVX10) {
            if asked <= host {
                return false;
            }
            self.set_scalar(scalar::AVX10_VERSION, host);
            Warning::Avx10 {
                asked: asked.unsigned_abs(),
                host: host.unsigned_abs(),
            }
        } else {
            if asked == 0 {
                return false;
            }
            Warning::NoAvx10(asked.unsigned_abs())
        };
        if warn {
            self.warnings.push(warning);
        }
        true
    }

    /// The features that were asked for and cannot be had, by name; empty texts for those without.
    #[must_use]
    pub fn unavailable_features(&self) -> Vec<&'static str> {
        self.filtered
            .bits()
            .map(|(word, bit)| property_of_bit(word, bit))
            .collect()
    }

    /// On AMD processors, 0x80000001.EDX repeats leaf 1's EDX.
    pub(super) fn share_edx(&mut self) {
        if is_amd(self.vendor) {
            let shared = super::supported::SHARED_EDX;
            let from = self.features.word(word::CPUID_1_EDX) & shared;
            let to = &mut self.features.0[word::CPUID_8000_0001_EDX.0];
            *to = *to & !shared | from;
        }
    }
}

fn pair(features: &Features, low: Word, high: Word) -> u64 {
    features.word(low) & 0xffff_ffff | features.word(high) << 32
}

/// The property that owns a bit; for state components the feature whose state it is.
fn property_of_bit(word: Word, bit: u32) -> &'static str {
    let component = match word {
        word::XCR0_LO => bit,
        word::XCR0_HI => bit + 32,
        _ => return word.bit_name(bit),
    };
    let area = XSAVE_AREAS
        .iter()
        .find(|area| !area.supervisor && area.component == component);
    area.map_or("", |area| {
        area.feature.word.bit_name(area.feature.mask.trailing_zeros())
    })
}

/// Whether the host's processor trace has what guests are told it has.
fn offers_trace(accel: &super::supported::Accel<'_>, linear_ip: bool) -> bool {
    let [capabilities, ranges] = [0, 1].map(|index| accel.host.supported(0x14, index));
    capabilities.eax >= 1
        && capabilities.ebx & 0xf == 0xf
        && capabilities.ecx & 7 == 7
        && ranges.eax & 7 >= 2
        && ranges.eax >> 16 & 0x249 == 0x249
        && ranges.ebx & 0x003f_1fff == 0x003f_1fff
        && (capabilities.ecx >> 31 != 0) == linear_ip
}
