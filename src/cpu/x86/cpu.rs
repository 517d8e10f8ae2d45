//! A CPU as an object with properties: made, then set, expanded, and either shown or realised.

use super::arguments::Arguments;
use super::compat::MachineCompat;
use super::error::{Error, Warning};
use super::features::Features;
use super::model::Model;
use super::supported::{Accel, IrqChip};
use super::tables::{Feature, KVM_DEFAULTS, Property, SCALAR_COUNT, SCALARS, ScalarId, Word, feature, scalar, word};

/// Longest brand string, in bytes: what three leaves hold.
const MODEL_ID_LEN: usize = 48;
/// MCG_CAP: local machine check exceptions.
pub(super) const MCG_LMCE_P: u64 = 1 << 27;

/// What CPUs are made from: the same for all of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) compat: MachineCompat,
    pub(super) accel: Option<Accel<'a>>,
    pub(super) supported: &'a Features,
    pub(super) arguments: &'a Arguments,
}

/// A CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub(super) model: Model,
    pub(super) features: Features,
    /// Features that were set one by one.
    pub(super) user: Features,
    /// Features that were asked for and cannot be had.
    pub(super) filtered: Features,
    pub(super) scalars: [i64; SCALAR_COUNT],
    pub(super) vendor: [u8; 12],
    pub(super) family: u32,
    pub(super) model_number: u32,
    pub(super) stepping: u32,
    pub(super) model_id: String,
    pub(super) tsc_hz: u64,
    /// The rate that was asked for, once it is known what the guest gets.
    pub(super) user_tsc_hz: u64,
    pub(super) hv_vendor_id: String,
    pub(super) start_powered_off: bool,
    /// Leaf 5.
    pub(super) mwait: [u32; 4],
    pub(super) warnings: Vec<Warning>,
}

impl Cpu {
    /// A CPU with the model's properties, and what accelerator, machine and command line change.
    pub(super) fn new(model: Model, context: &Context<'_>) -> Result<Self, Error> {
        let mut cpu = Self {
            model,
            features: Features::default(),
            user: Features::default(),
            filtered: Features::default(),
            scalars: SCALARS.map(|info| info.initial),
            vendor: [0; 12],
            family: 0,
            model_number: 0,
            stepping: 0,
            model_id: String::new(),
            tsc_hz: 0,
            user_tsc_hz: 0,
            hv_vendor_id: String::new(),
            start_powered_off: false,
            mwait: [0; 4],
            warnings: Vec::new(),
        };
        cpu.load_model();
        match &context.accel {
            Some(accel) if model.is_max() => cpu.take_host(accel),
            Some(accel) => cpu.adapt_to_kvm(accel),
            None if model.is_max() => return Err(Error::NeedsHost(model.name().to_owned())),
            None => {}
        }
        for setting in context.compat.settings().filter(|setting| model.is_a(setting.driver)) {
            cpu.set_number(setting.property, setting.value)?;
        }
        for global in context
            .arguments
            .globals
            .iter()
            .filter(|global| model.is_a(&global.driver))
        {
            cpu.set_text(&global.property, &global.value)
                .map_err(|reason| Error::Global {
                    typename: global.driver.clone(),
                    property: global.property.clone(),
                    value: global.value.clone(),
                    reason: Box::new(reason),
                })?;
        }
        Ok(cpu)
    }

    fn load_model(&mut self) {
        let Model::Named { version, .. } = self.model else {
            return;
        };
        let Some(definition) = self.model.definition() else {
            return;
        };
        self.features = Features(version.words);
        self.features.set(feature::HYPERVISOR);
        self.set_scalar(scalar::MIN_LEVEL, definition.level.into());
        self.set_scalar(scalar::MIN_XLEVEL, definition.xlevel.into());
        self.set_scalar(scalar::LEGACY_CACHE, version.caches.is_none().into());
        self.set_scalar(scalar::AVX10_VERSION, version.avx10_version.into());
        self.set_scalar(scalar::X_FORCE_CPUID_0X1F, version.force_leaf_1f.into());
        self.family = definition.family;
        self.model_number = version.model;
        self.stepping = version.stepping;
        self.set_model_id(version.model_id);
        // Vendors in the tables have twelve characters; a test sees to it.
        let _ = self.set_vendor(definition.vendor);
    }

    fn take_host(&mut self, accel: &Accel<'_>) {
        let host = accel.host;
        self.vendor = host.vendor();
        (self.family, self.model_number, self.stepping) = host.signature();
        self.set_model_id(&host.model_id());
        self.set_scalar(scalar::HOST_PHYS_BITS, 1);
        self.set_scalar(scalar::PMU, 1);
        self.set_scalar(scalar::LMCE, (host.mce_cap & MCG_LMCE_P != 0).into());
        self.set_scalar(scalar::MIN_LEVEL, host.supported(0, 0).eax.into());
        self.set_scalar(scalar::MIN_XLEVEL, host.supported(0x8000_0000, 0).eax.into());
        self.set_scalar(scalar::MIN_XLEVEL2, host.supported(0xc000_0000, 0).eax.into());
    }

    fn adapt_to_kvm(&mut self, accel: &Accel<'_>) {
        self.vendor = accel.host.vendor();
        if !matches!(self.model, Model::Named { .. }) {
            return;
        }
        for (feature, on) in KVM_DEFAULTS {
            self.set_feature(feature, on);
        }
        if accel.irqchip == IrqChip::Split {
            self.set_feature(feature::KVM_MSI_EXT_DEST_ID, true);
        }
    }

    /// The model it was made from.
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// Its features.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The features that were asked for and cannot be had.
    #[must_use]
    pub fn filtered_features(&self) -> &Features {
        &self.filtered
    }

    /// What leaf 1 says in EAX and, in the upper half, EDX: the "processor ID" of inventories.
    #[must_use]
    pub fn processor_id(&self) -> u64 {
        u64::from(self.signature()) | u64::from(self.features.register(word::CPUID_1_EDX)) << 32
    }

    /// Whether the guest counts on a time stamp counter of one rate, and nobody said which: another host may have another one.
    #[must_use]
    pub fn counts_on_host_clock(&self) -> bool {
        self.has(feature::INVTSC) && self.user_tsc_hz == 0
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    pub(super) fn register(&self, word: Word) -> u32 {
        self.features.register(word)
    }

    pub(super) fn set_feature(&mut self, feature: Feature, on: bool) {
        if on {
            self.features.set(feature);
        } else {
            self.features.clear(feature);
        }
        self.user.set(feature);
    }

    pub(super) fn scalar(&self, id: ScalarId) -> i64 {
        self.scalars[id.0]
    }

    pub(super) fn flag(&self, id: ScalarId) -> bool {
        self.scalars[id.0] != 0
    }

    /// A value that is kept within 32 bits.
    pub(super) fn number(&self, id: ScalarId) -> u32 {
        u32::try_from(self.scalars[id.0]).unwrap_or_default()
    }

    pub(super) fn set_scalar(&mut self, id: ScalarId, value: i64) {
        self.scalars[id.0] = value;
    }

    /// Sets a property from one of the tables.
    fn set_number(&mut self, property: Property, value: u64) -> Result<(), Error> {
        match property {
            Property::Feature(feature) => self.set_feature(feature, value != 0),
            Property::Scalar(id) => self.set_scalar(id, i64::try_from(value).unwrap_or_default()),
            Property::Family => self.family = limited("family", value, 270)?,
            Property::Model => self.model_number = limited("model", value, 255)?,
            Property::Stepping => self.stepping = limited("stepping", value, 15)?,
            Property::TscFrequency => self.tsc_hz = value,
            Property::StartPoweredOff => self.start_powered_off = value != 0,
            Property::Vendor | Property::ModelId => {}
        }
        Ok(())
    }

    pub(super) fn set_limited(&mut self, property: Property, value: u64) -> Result<(), Error> {
        if property == Property::TscFrequency && i64::try_from(value).is_err() {
            return Err(Error::TooLarge {
                parameter: "tsc-frequency",
                limit: i64::MAX.unsigned_abs(),
            });
        }
        self.set_number(property, value)
    }

    pub(super) fn set_vendor(&mut self, vendor: &str) -> Result<(), Error> {
        self.vendor = vendor.as_bytes().try_into().map_err(|_| Error::Vendor)?;
        Ok(())
    }

    pub(super) fn set_model_id(&mut self, text: &str) {
        let end = (0..=text.len().min(MODEL_ID_LEN))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text[..end.unwrap_or_default()].clone_into(&mut self.model_id);
    }

    /// The signature of leaf 1, EAX.
    #[must_use]
    pub fn signature(&self) -> u32 {
        let family = match self.family {
            base @ 0..=15 => base << 8,
            extended => 15 << 8 | (extended - 15) << 20,
        };
        family | (self.model_number & 15) << 4 | self.model_number >> 4 << 16 | self.stepping
    }
}

fn limited(parameter: &'static str, value: u64, limit: u32) -> Result<u32, Error> {
    let number = u32::try_from(value).ok().filter(|number| *number <= limit);
    number.ok_or(Error::TooLarge {
        parameter,
        limit: limit.into(),
    })
}
