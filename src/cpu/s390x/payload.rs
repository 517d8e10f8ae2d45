//! From what KVM says of the machine to a host model, and from a model to what KVM is told of the guest's CPUs.
//!
//! The values are those of the attributes in group `KVM_S390_VM_CPU_MODEL`; how they lie in memory is the accelerator's business.

use super::facility::FacilityList;
use super::feature::{Capability, FeatureId, Indicator, Origin, blocks};
use super::host::{HostModel, Identity};
use super::lookup::{self, Wanted};
use super::model::{Definition, Model};
use super::set::FeatureSet;

/// Bytes in the block of function codes.
pub const SUBFUNCTION_BYTES: usize = 2048;
/// Words in the block of feature bits.
pub const FEAT_WORDS: usize = 16;

/// What KVM says of the machine: the MACHINE attributes, and what it offers beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineProps {
    /// CPU id: version, serial number, machine type and format.
    pub cpuid: u64,
    /// Instruction blocking control: lowest and unblocked value, 12 bits each, in the halves.
    pub ibc: u32,
    /// Facilities a guest may get.
    pub fac_mask: FacilityList,
    /// Facilities the machine has.
    pub fac_list: FacilityList,
    /// Feature bits, the first the most significant.
    pub feat: [u64; FEAT_WORDS],
    /// Function codes of all instructions.
    pub subfunctions: Subfunctions,
    /// Features for guests under the ultravisor, the first bit the most significant.
    pub uv_feat: u64,
    /// Whether page state interpretation can be enabled.
    pub cmma: bool,
    /// Whether AP instructions can be interpreted.
    pub apie: bool,
    /// Capabilities the kernel has.
    pub capabilities: Vec<Capability>,
}

/// What KVM is told of the guest's CPUs: the PROCESSOR attributes, and what is to be enabled beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorProps {
    /// CPU id.
    pub cpuid: u64,
    /// Instruction blocking control; 0 leaves the machine's own.
    pub ibc: u16,
    /// Facilities the guest sees.
    pub fac_list: FacilityList,
    /// Feature bits.
    pub feat: [u64; FEAT_WORDS],
    /// Function codes.
    pub subfunctions: Subfunctions,
    /// Features for guests under the ultravisor.
    pub uv_feat: u64,
    /// Whether page state interpretation is to be enabled.
    pub cmma: bool,
    /// Whether AP instructions are to be interpreted.
    pub apie: bool,
}

/// The function codes of all instructions that have a query function.
#[derive(Clone, PartialEq, Eq)]
pub struct Subfunctions(pub Box<[u8; SUBFUNCTION_BYTES]>);

impl std::fmt::Debug for Subfunctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for block in blocks() {
            map.entry(&block.name, &&self.0[block.offset..block.offset + block.bytes]);
        }
        map.finish()
    }
}

impl Default for Subfunctions {
    fn default() -> Self {
        Self(Box::new([0; SUBFUNCTION_BYTES]))
    }
}

impl Subfunctions {
    /// Whether `code` is set in the block that begins at `offset`.
    #[must_use]
    pub fn contains(&self, offset: usize, code: u16) -> bool {
        let byte = self.0.get(offset + usize::from(code / 8));
        byte.is_some_and(|byte| byte << (code % 8) & 0x80 != 0)
    }

    /// Sets `code` in the block that begins at `offset`.
    pub fn insert(&mut self, offset: usize, code: u16) {
        if let Some(byte) = self.0.get_mut(offset + usize::from(code / 8)) {
            *byte |= 0x80 >> (code % 8);
        }
    }
}

impl MachineProps {
    /// The host model: what a guest can have at most. None if no definition fits, not even an old one.
    #[must_use]
    pub fn host_model(&self) -> Option<HostModel> {
        let features = self.offered();
        let definition = self.definition(&features)?;
        Some(HostModel {
            definition,
            features: self.with_crypto(features).intersection(&definition.full),
            identity: Identity::of_machine(self.cpuid, self.ibc),
        })
    }

    /// The machine type, as the CPU id has it.
    #[must_use]
    pub const fn machine_type(&self) -> u16 {
        (self.cpuid >> 16) as u16
    }

    /// Whether the kernel has `capability`.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    fn definition(&self, features: &FeatureSet) -> Option<&'static Definition> {
        // A machine without a lowest value has no instruction blocking control, whatever the other half says.
        let unblocked = if self.ibc >> 16 & 0xfff == 0 {
            0
        } else {
            self.ibc as u16 & 0xfff
        };
        let (generation, ga) = match unblocked {
            0 => (0, 0),
            ibc => (((ibc >> 4) as u8).saturating_add(10), (ibc & 0xf) as u8),
        };
        let machine_type = self.machine_type();
        let of_type = Wanted {
            machine_type,
            generation,
            ga,
        };
        let known = super::model::definitions()
            .iter()
            .find(|definition| definition.machine_type == machine_type);
        match known {
            Some(known) if generation == 0 => lookup::find(
                Wanted {
                    generation: known.generation,
                    ..of_type
                },
                None,
            ),
            Some(_) => lookup::find(of_type, None),
            None => lookup::find(
                Wanted {
                    machine_type: 0,
                    ..of_type
                },
                Some(features),
            ),
        }
    }

    /// What the attributes offer, before it is cut to what the definition may have.
    fn offered(&self) -> FeatureSet {
        let mut set = self.fac_mask.union(&FacilityList::userspace_mask()).features();
        if set.has("stfle") {
            switch(&mut set, "dateh2", true);
        }
        for id in FeatureSet::all().iter() {
            let offered = match (id.entry().origin, id.entry().kind) {
                (Origin::Feat(bit), _) => bit_is_set(&self.feat, bit),
                (Origin::Subfunction, Indicator::Function { block, code }) => {
                    let block = &blocks()[block];
                    let unlocked = block.unlocked_by.is_none_or(|feature| set.contains(feature));
                    unlocked && self.subfunctions.contains(block.offset, code)
                }
                (Origin::Capability(capability), kind) => {
                    !matches!(kind, Indicator::Facility(_)) && self.has(capability)
                }
                (Origin::Cmma, _) => self.cmma,
                _ => false,
            };
            if offered {
                set.insert(id);
            }
        }
        if !set.has("mepoch") {
            for name in ["ptff-qsie", "ptff-qtoue", "ptff-stoe", "ptff-stoue"] {
                switch(&mut set, name, false);
            }
        }
        if !self.cmma {
            switch(&mut set, "cmmnt", false);
        }
        if !self.has(Capability::Bpb) {
            switch(&mut set, "bpb", false);
        }
        let protected = self.has(Capability::Protected);
        switch(&mut set, "unpack", protected);
        if self.has(Capability::CpuTopology) {
            switch(&mut set, "ctop", true);
        }
        set
    }

    fn with_crypto(&self, mut set: FeatureSet) -> FeatureSet {
        if self.apie {
            switch(&mut set, "ap", true);
        }
        for id in FeatureSet::all().iter() {
            if matches!(id.entry().kind, Indicator::Ultravisor(bit) if bit_is_set(&[self.uv_feat], u16::from(bit))) {
                set.insert(id);
            }
        }
        set
    }
}

impl Model {
    /// The CPU id of CPUs of this model on a host.
    #[must_use]
    pub fn cpuid(&self, host: &Identity) -> u64 {
        // The oldest generation knew no other format.
        let format = host.format && self.definition.generation > 7;
        u64::from(host.version) << 56
            | u64::from(host.serial & 0x00ff_ffff) << 32
            | u64::from(self.definition.machine_type) << 16
            | u64::from(format) << 15
    }

    /// The instruction blocking control as the guest is shown it: lowest value in the upper half, the model's in the lower; 0 if the
    /// host has none, or none as low as the model's.
    #[must_use]
    pub const fn ibc(&self, host: &Identity) -> u32 {
        if host.lowest_ibc == 0 || host.lowest_ibc > self.definition.ibc {
            return 0;
        }
        (host.lowest_ibc as u32) << 16 | self.definition.ibc as u32
    }

    /// What KVM is told of CPUs of this model on a host.
    #[must_use]
    pub fn processor_props(&self, host: &Identity) -> ProcessorProps {
        let features = &self.features;
        let apie = features.has("ap");
        let mut props = ProcessorProps {
            cpuid: self.cpuid(host),
            ibc: self.ibc(host) as u16,
            fac_list: FacilityList::of_features(features),
            feat: [0; FEAT_WORDS],
            subfunctions: Subfunctions::default(),
            uv_feat: 0,
            cmma: features.has("cmm"),
            apie,
        };
        for block in blocks().iter().filter(|block| block.unlocked_by.is_some()) {
            // Code 0 asks for the others and is there in every block that can be asked.
            props.subfunctions.insert(block.offset, 0);
        }
        for id in features.iter() {
            match (id.entry().origin, id.entry().kind) {
                (Origin::Feat(bit), _) => set_bit(&mut props.feat, bit),
                (_, Indicator::Function { block, code }) => props.subfunctions.insert(blocks()[block].offset, code),
                (_, Indicator::Ultravisor(bit)) if apie => {
                    set_bit(std::slice::from_mut(&mut props.uv_feat), u16::from(bit));
                }
                _ => {}
            }
        }
        props
    }
}

/// Whether bit `bit`, counted from the most significant of the first word, is set.
fn bit_is_set(words: &[u64], bit: u16) -> bool {
    words
        .get(usize::from(bit / 64))
        .is_some_and(|word| word >> (63 - bit % 64) & 1 == 1)
}

fn set_bit(words: &mut [u64], bit: u16) {
    if let Some(word) = words.get_mut(usize::from(bit / 64)) {
        *word |= 1 << (63 - bit % 64);
    }
}

fn switch(set: &mut FeatureSet, name: &str, on: bool) {
    match FeatureId::named(name) {
        Some(id) if on => set.insert(id),
        Some(id) => set.remove(id),
        None => {}
    }
}
