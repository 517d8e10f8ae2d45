//! Properties of a CPU by name: set from the command line or from JSON, and read.

use std::borrow::Cow;

use serde_json::Value;

use super::cpu::Cpu;
use super::error::Error;
use super::features::Features;
use super::tables::{
    ALIASES, FEATURES, Location, PROPERTIES, Property, Register, SCALARS, ScalarId, ScalarKind, WORD_COUNT, Word,
};

/// Values of `OnOffAuto`, in the order of QAPI's enumeration.
const ON_OFF_AUTO: [&str; 3] = ["auto", "on", "off"];

/// Properties that are there to be read only.
const READ_ONLY: [&str; 9] = [
    "unavailable-features",
    "feature-words",
    "filtered-features",
    "crash-information",
    "type",
    "parent_bus",
    "hotpluggable",
    "hotplugged",
    "realized",
];

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropValue {
    /// A boolean.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// A number.
    Uint(u64),
    /// A text.
    Text(Cow<'static, str>),
}

impl PropValue {
    /// The value as QMP tells it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Bool(on) => Value::from(*on),
            Self::Int(number) => Value::from(*number),
            Self::Uint(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_ref()),
        }
    }
}

/// A value as it was given.
enum Given<'a> {
    Text(&'a str),
    /// With what error messages put before the name.
    Json(&'a Value, &'a str),
}

impl Given<'_> {
    fn bool(&self, name: &str) -> Result<bool, Error> {
        match self {
            Self::Text("on" | "yes" | "true" | "y") | Self::Json(Value::Bool(true), _) => Ok(true),
            Self::Text("off" | "no" | "false" | "n") | Self::Json(Value::Bool(false), _) => Ok(false),
            Self::Text(_) => Err(Error::BadValue {
                parameter: name.to_owned(),
                expected: "'on' or 'off'",
            }),
            Self::Json(_, prefix) => Err(Error::WrongType {
                parameter: format!("{prefix}{name}"),
                expected: "boolean",
            }),
        }
    }

    fn uint(&self, name: &str) -> Result<u64, Error> {
        match self {
            Self::Text(text) => {
                let number = parse_uint(text);
                number.ok_or_else(|| Error::BadValue {
                    parameter: name.to_owned(),
                    expected: "an uint64 value",
                })
            }
            Self::Json(value, prefix) => {
                let negative = || value.as_i64().map(|number| u64::from_ne_bytes(number.to_ne_bytes()));
                let number = value.as_u64().or_else(negative);
                number.ok_or_else(|| Error::BadValue {
                    parameter: format!("{prefix}{name}"),
                    expected: "uint64",
                })
            }
        }
    }

    fn int(&self, name: &str) -> Result<i64, Error> {
        match self {
            Self::Text(text) => {
                let (negative, digits) = text.strip_prefix('-').map_or((false, *text), |digits| (true, digits));
                let number = parse_uint(digits).and_then(|number| i64::try_from(number).ok());
                let number = number.map(|number| if negative { -number } else { number });
                number.ok_or_else(|| Error::BadValue {
                    parameter: name.to_owned(),
                    expected: "an int64 value",
                })
            }
            Self::Json(value, prefix) => {
                let number = value.as_i64();
                number.ok_or_else(|| Error::WrongType {
                    parameter: format!("{prefix}{name}"),
                    expected: "integer",
                })
            }
        }
    }

    fn text(&self, name: &str) -> Result<&str, Error> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Json(Value::String(text), _) => Ok(text),
            Self::Json(_, prefix) => Err(Error::WrongType {
                parameter: format!("{prefix}{name}"),
                expected: "string",
            }),
        }
    }

    fn scalar(&self, id: ScalarId) -> Result<i64, Error> {
        let info = &SCALARS[id.0];
        let unsigned = |limit: u64, expected| {
            let number = self.uint(info.name)?;
            let too_large = || Error::BadValue {
                parameter: info.name.to_owned(),
                expected,
            };
            if number > limit {
                Err(too_large())
            } else {
                Ok(i64::from_ne_bytes(number.to_ne_bytes()))
            }
        };
        match info.kind {
            ScalarKind::Bool => self.bool(info.name).map(i64::from),
            ScalarKind::Uint8 => unsigned(u8::MAX.into(), "uint8"),
            ScalarKind::Uint16 => unsigned(u16::MAX.into(), "uint16"),
            ScalarKind::Uint32 => unsigned(u32::MAX.into(), "uint32"),
            ScalarKind::Uint64 => {
                let number = unsigned(u64::MAX, "uint64")?;
                if info.mask != 0 && u64::from_ne_bytes(number.to_ne_bytes()) & !info.mask != 0 {
                    return Err(Error::OutsideMask {
                        parameter: info.name,
                        mask: info.mask,
                    });
                }
                Ok(number)
            }
            ScalarKind::Int32 => {
                let number = self.int(info.name)?;
                let fits = i32::try_from(number).is_ok();
                let error = || Error::BadValue {
                    parameter: info.name.to_owned(),
                    expected: "int32",
                };
                if fits { Ok(number) } else { Err(error()) }
            }
            ScalarKind::OnOffAuto => {
                let text = self.text(info.name)?;
                let place = ON_OFF_AUTO.iter().zip(0..).find(|(known, _)| **known == text);
                place.map(|(_, place)| place).ok_or_else(|| Error::NotInEnum {
                    parameter: info.name.to_owned(),
                    value: text.to_owned(),
                })
            }
            ScalarKind::Str => Ok(0),
        }
    }
}

/// A number in the decimal or hexadecimal form.
fn parse_uint(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The property called `name`, aliases included.
pub(super) fn find(name: &str) -> Option<Property> {
    let place = PROPERTIES.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(PROPERTIES[place].1)
}

impl Cpu {
    /// Sets a property as the command line does.
    pub(super) fn set_text(&mut self, name: &str, text: &str) -> Result<(), Error> {
        self.set(name, &Given::Text(text))
    }

    /// Sets a property as QMP does; errors name it with `prefix` before it.
    pub(super) fn set_json(&mut self, name: &str, value: &Value, prefix: &str) -> Result<(), Error> {
        self.set(name, &Given::Json(value, prefix))
    }

    fn set(&mut self, name: &str, given: &Given<'_>) -> Result<(), Error> {
        let property = self.property(name)?;
        match property {
            Property::Feature(feature) => {
                let on = given.bool(name)?;
                self.set_feature(feature, on);
            }
            Property::Scalar(id) if SCALARS[id.0].kind == ScalarKind::Str => {
                given.text(name)?.clone_into(&mut self.hv_vendor_id);
            }
            Property::Scalar(id) => {
                let value = given.scalar(id)?;
                self.set_scalar(id, value);
            }
            Property::Vendor => self.set_vendor(given.text(name)?)?,
            Property::ModelId => self.set_model_id(given.text(name)?),
            Property::Family | Property::Model | Property::Stepping => self.set_limited(property, given.uint(name)?)?,
            Property::StartPoweredOff => self.start_powered_off = given.bool(name)?,
            Property::TscFrequency => {
                let hertz = given.int(name)?;
                self.set_limited(property, u64::try_from(hertz).unwrap_or(u64::MAX))?;
            }
        }
        Ok(())
    }

    fn property(&self, name: &str) -> Result<Property, Error> {
        let (typename, property) = (self.model.typename().to_owned(), name.to_owned());
        if READ_ONLY.contains(&name) {
            return Err(Error::NotWritable { typename, property });
        }
        match find(name) {
            Some(Property::Scalar(id)) if SCALARS[id.0].only_max && !self.model.is_max() => {
                Err(Error::NoSuchProperty { typename, property })
            }
            Some(found) => Ok(found),
            None => Err(Error::NoSuchProperty { typename, property }),
        }
    }

    /// The value of a property; none if there is no such property, or it is not the CPU model's.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<PropValue> {
        self.property(name).ok().map(|property| self.value(property))
    }

    pub(super) fn value(&self, property: Property) -> PropValue {
        match property {
            Property::Feature(feature) => PropValue::Bool(self.features.has(feature)),
            Property::Scalar(id) => {
                let value = self.scalar(id);
                match SCALARS[id.0].kind {
                    ScalarKind::Bool => PropValue::Bool(value != 0),
                    ScalarKind::Int32 => PropValue::Int(value),
                    ScalarKind::OnOffAuto => {
                        let text = usize::try_from(value).ok().and_then(|place| ON_OFF_AUTO.get(place));
                        PropValue::Text(Cow::Borrowed(text.copied().unwrap_or_default()))
                    }
                    ScalarKind::Str => PropValue::Text(Cow::Owned(self.hv_vendor_id.clone())),
                    ScalarKind::Uint8 | ScalarKind::Uint16 | ScalarKind::Uint32 | ScalarKind::Uint64 => {
                        PropValue::Uint(u64::from_ne_bytes(value.to_ne_bytes()))
                    }
                }
            }
            Property::Family => PropValue::Uint(self.family.into()),
            Property::Model => PropValue::Uint(self.model_number.into()),
            Property::Stepping => PropValue::Uint(self.stepping.into()),
            Property::Vendor => PropValue::Text(Cow::Owned(String::from_utf8_lossy(&self.vendor).into_owned())),
            Property::ModelId => PropValue::Text(Cow::Owned(self.model_id.clone())),
            Property::TscFrequency => PropValue::Uint(self.tsc_hz),
            Property::StartPoweredOff => PropValue::Bool(self.start_powered_off),
        }
    }

    /// Every property of the CPU model that can be set, aliases included, with its value.
    pub fn properties(&self) -> impl Iterator<Item = (&'static str, PropValue)> {
        let shown = |property: &Property| match property {
            Property::Scalar(id) => !SCALARS[id.0].only_max || self.model.is_max(),
            _ => true,
        };
        PROPERTIES
            .iter()
            .filter(move |(_, property)| shown(property))
            .map(|(name, property)| (*name, self.value(*property)))
    }

    /// The named features, without aliases, and whether they are on.
    pub(super) fn named_features(&self) -> impl Iterator<Item = (&'static str, bool)> {
        FEATURES
            .iter()
            .map(|(name, feature)| (*name, self.features.has(*feature)))
    }
}

/// The proper name of a property.
#[must_use]
pub fn canonical_name(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, proper)| proper)
}

/// A feature word in CPUID, as `feature-words` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordValue {
    /// EAX before the instruction.
    pub leaf: u32,
    /// ECX before the instruction, where it matters.
    pub subleaf: Option<u32>,
    /// The register.
    pub register: Register,
    /// Its value.
    pub features: u32,
}

impl Cpu {
    /// `feature-words`: the feature words in CPUID, last one first.
    #[must_use]
    pub fn feature_words(&self) -> Vec<WordValue> {
        word_values(&self.features)
    }

    /// `filtered-features`: the same of those that were asked for and cannot be had.
    #[must_use]
    pub fn filtered_words(&self) -> Vec<WordValue> {
        word_values(&self.filtered)
    }
}

fn word_values(features: &Features) -> Vec<WordValue> {
    let words = (0..WORD_COUNT).rev().map(Word);
    let value = |word: Word| match word.location() {
        Location::Cpuid {
            leaf,
            subleaf,
            register,
        } => Some(WordValue {
            leaf,
            subleaf,
            register,
            features: features.register(word),
        }),
        Location::Msr(_) => None,
    };
    words.filter_map(value).collect()
}
