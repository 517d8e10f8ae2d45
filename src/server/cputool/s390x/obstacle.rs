//! What keeps a host from running an S390 model.

use std::fmt;

use serde_json::{Value, json};

use crate::cpu::s390x::feature::{Capability, Indicator, Origin, blocks};
use crate::cpu::s390x::{Definition, FeatureId, HostModel, Model};

/// One thing in the way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Obstacle {
    /// The model is newer than the host.
    Generation {
        wanted: &'static Definition,
        host: &'static Definition,
    },
    /// The host's instruction blocking control does not reach the model's.
    Ibc {
        wanted: &'static Definition,
        lowest: u16,
        highest: u16,
    },
    /// The host does not offer a feature.
    Feature(FeatureId),
}

/// What stands in the way of `model` on a host.
pub(super) fn obstacles(model: &Model, host: &HostModel) -> Vec<Obstacle> {
    let wanted = model.definition;
    let mut list = Vec::new();
    if wanted.is_newer_than(host.definition) {
        let host = host.definition;
        list.push(Obstacle::Generation { wanted, host });
    }
    if !host.ibc_in_range(wanted) {
        list.push(Obstacle::Ibc {
            wanted,
            lowest: host.identity.lowest_ibc,
            highest: host.identity.unblocked_ibc,
        });
    }
    list.extend(model.features.minus(&host.features).iter().map(Obstacle::Feature));
    list
}

impl Obstacle {
    /// In a reply: its kind and what it is about, and the text for people.
    pub(super) fn to_json(self) -> Value {
        let mut value = match self {
            Self::Generation { wanted, host } => json!({"kind": "generation", "model": wanted.name, "host": host.name}),
            Self::Ibc {
                wanted,
                lowest,
                highest,
            } => json!({"kind": "ibc", "needed": wanted.ibc, "lowest": lowest, "highest": highest}),
            Self::Feature(id) => match id.entry().kind {
                Indicator::Facility(number) => json!({"kind": "feature", "name": id.name(), "facility": number}),
                _ => json!({"kind": "feature", "name": id.name()}),
            },
        };
        value["text"] = json!(self.to_string());
        value
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation { wanted, host } => write!(
                f,
                "type: {} is of generation {} GA {}, the host is a {} of generation {} GA {}",
                wanted.name, wanted.generation, wanted.ga, host.name, host.generation, host.ga
            ),
            Self::Ibc {
                wanted,
                lowest,
                highest,
            } => write!(
                f,
                "IBC: {} needs instruction blocking control {:#05x}, the host can be held to {lowest:#05x} to {highest:#05x}",
                wanted.name, wanted.ibc
            ),
            Self::Feature(id) => {
                let entry = id.entry();
                let place = indicator(entry.kind);
                write!(
                    f,
                    "{}: {}, {place}; {}",
                    entry.name,
                    entry.description,
                    needs(entry.origin)
                )
            }
        }
    }
}

/// Where a guest finds a feature.
fn indicator(kind: Indicator) -> String {
    match kind {
        Indicator::Facility(number) => format!("facility {number}"),
        Indicator::Function { block, code } => format!("function {code} of {}", blocks()[block].name.to_uppercase()),
        Indicator::Sclp { byte, bit } => format!("SCLP byte {byte} bit {bit}"),
        Indicator::SclpCpu { byte, bit } => format!("SCLP CPU entry byte {byte} bit {bit}"),
        Indicator::Ultravisor(bit) => format!("ultravisor feature {bit}"),
        Indicator::None => "no indicator".to_owned(),
    }
}

/// What a host must have to offer a feature.
fn needs(origin: Origin) -> String {
    let text = match origin {
        Origin::KernelList | Origin::PassThrough | Origin::ModelOnly | Origin::Subfunction => {
            "the machine must have it"
        }
        Origin::KernelAlways => "every kernel with CPU models offers it",
        Origin::GuestTlb => "the machine must have the guest TLB facility",
        Origin::AdapterInterrupts => "the channel subsystem must have adapter interrupts",
        Origin::Ultravisor => "the ultravisor must offer it",
        Origin::Cmma => "the kernel must be able to enable CMMA",
        Origin::Apie => "the kernel must be able to enable AP interpretation",
        Origin::Userspace => "emulated on every host",
        Origin::Derived => "follows from another feature",
        Origin::None => "no kernel offers it",
        Origin::Feat(bit) => return format!("the kernel must offer bit {bit} of MACHINE_FEAT"),
        Origin::Capability(capability) => {
            let known = Capability::ALL.into_iter().find(|(known, _)| *known == capability);
            let name = known.map_or("a capability", |(_, name)| name);
            return format!("the kernel must have {name} and the machine what it needs");
        }
    };
    text.to_owned()
}
