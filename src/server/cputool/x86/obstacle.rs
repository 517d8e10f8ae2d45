//! What keeps a CPU from a host.

use std::fmt;

use serde_json::{Value, json};

use crate::cpu::x86::tables::{Location, Word, feature};
use crate::cpu::x86::{BitName, Cpu, Features, Host, PropValue};

/// One thing in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A feature that the host cannot give.
    Feature(Word, u32),
    /// A guest that counts on its time stamp counter cannot go where it has another rate.
    FixedTsc,
    /// The guest is told of another vendor's processor.
    Vendor {
        /// What the guest is told.
        guest: String,
        /// What the other host is.
        host: String,
    },
    /// The guest may use longer physical addresses than the host has.
    PhysicalAddresses {
        /// Bits of the guest's.
        guest: u32,
        /// Bits of the host's.
        host: u32,
    },
}

impl Obstacle {
    /// Features, as obstacles.
    pub(super) fn of_features(features: &Features) -> Vec<Self> {
        features.bits().map(|(word, bit)| Self::Feature(word, bit)).collect()
    }

    /// In a reply: its kind and what it is about, and the text for people.
    pub(super) fn to_json(&self) -> Value {
        let mut value = match self {
            Self::Feature(word, bit) => feature_json(*word, *bit),
            Self::FixedTsc => json!({"kind": "feature", "name": "invtsc"}),
            Self::Vendor { guest, host } => json!({"kind": "vendor", "guest": guest, "host": host}),
            Self::PhysicalAddresses { guest, host } => json!({"kind": "phys-bits", "guest": guest, "host": host}),
        };
        value["text"] = json!(self.to_string());
        value
    }
}

/// A feature and where a guest finds it: a register of a CPUID leaf, or a model-specific register.
fn feature_json(word: Word, bit: u32) -> Value {
    let mut value = json!({"kind": "feature", "name": feature_name(word, bit), "bit": bit});
    match word.location() {
        Location::Cpuid {
            leaf,
            subleaf,
            register,
        } => {
            value["leaf"] = json!(leaf);
            value["register"] = json!(register.name());
            if let Some(subleaf) = subleaf {
                value["subleaf"] = json!(subleaf);
            }
        }
        Location::Msr(index) => value["msr"] = json!(index),
    }
    value
}

/// The name of a feature; where it is for one that has none.
fn feature_name(word: Word, bit: u32) -> String {
    match word.bit_name(bit) {
        "" => BitName(word, bit).to_string(),
        name => name.to_owned(),
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(word, bit) => write!(f, "{}: {}", feature_name(*word, *bit), BitName(*word, *bit)),
            Self::FixedTsc => write!(
                f,
                "invtsc: the time stamp counter would change its rate; set tsc-frequency"
            ),
            Self::Vendor { guest, host } => write!(f, "vendor: the guest knows {guest}, the host is {host}"),
            Self::PhysicalAddresses { guest, host } => {
                write!(f, "phys-bits: the guest has {guest} bits, the host {host}")
            }
        }
    }
}

/// What keeps a running guest from a host that supports these features.
pub(super) fn obstacles(guest: &Cpu, supported: &Features, from: &Host, to: &Host) -> Vec<Obstacle> {
    let missing = Features(std::array::from_fn(|word| {
        guest.features().0[word] & !supported.0[word]
    }));
    let mut found = Obstacle::of_features(&missing);
    let number = |name: &str| match guest.get(name) {
        Some(PropValue::Uint(number)) => number,
        _ => 0,
    };
    if guest.features().has(feature::INVTSC) && number("tsc-frequency") == 0 {
        found.push(Obstacle::FixedTsc);
    }
    let vendor = |host: &Host| String::from_utf8_lossy(&host.vendor()).into_owned();
    if let Some(PropValue::Text(told)) = guest.get("vendor") {
        if told == vendor(from) && vendor(from) != vendor(to) {
            found.push(Obstacle::Vendor {
                guest: told.into_owned(),
                host: vendor(to),
            });
        }
    }
    let bits = match guest.get("host-phys-bits") {
        Some(PropValue::Bool(true)) => from.phys_bits(),
        _ => u32::try_from(number("phys-bits")).unwrap_or(u32::MAX),
    };
    if bits > to.phys_bits() {
        found.push(Obstacle::PhysicalAddresses {
            guest: bits,
            host: to.phys_bits(),
        });
    }
    found
}
