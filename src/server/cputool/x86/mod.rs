//! `remuda cpu` for x86_64 models.
//!
//! On this architecture QEMU neither compares models nor finds a baseline of them, so what these mean is ours. A CPU is the
//! set of its features: one is a superset of another if it has all of the other's features, whatever vendor, family and
//! levels they tell; a host has the features that it offers to its own model, and is a superset of every model that runs
//! there. A baseline is the largest model of the processors' vendor that runs on all, with the features on top that all
//! have.

mod features;
mod obstacle;

use features::{Choice, Wanted, minus, named, nearest, relation};
use obstacle::{Obstacle, obstacles};
use serde_json::{Map, Value, json};

use super::answer::{Architecture, Baseline, Entry, Explanation, Hindrance, Move, OnHost, Relation, Shown, answer};
use super::operand::{HostRef, Operand, read_host};
use super::request::Request;
use super::{ToolError, Verdict};
use crate::cpu::s390x;
use crate::cpu::x86::{
    Accel, Arguments, Cpu, Cpus, DEFAULT_MODEL, DefinitionInfo, Error, Expansion, ExpansionInfo, Host, IrqChip,
    MachineCompat, Model, PropValue,
};
use crate::target::Target;

/// Answers one question.
pub(super) fn run(request: &Request, out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let compat = match &request.machine {
        Some(name) => MachineCompat::of_machine(name)
            .ok_or_else(|| ToolError::Failed(format!("'{name}' is not a machine type of x86_64")))?,
        None => MachineCompat::newest(),
    };
    answer(&X86 { compat }, request, out)
}

/// The models of a machine type.
struct X86 {
    compat: MachineCompat,
}

impl Architecture for X86 {
    type Host = Host;
    const TARGET: Target = Target::X86_64;

    fn host(&self, host: &HostRef) -> Result<Host, ToolError> {
        let Some(path) = host.path() else {
            return this_host();
        };
        let other = || ToolError::Failed(format!("{}: not a host for x86_64 guests", path.display()));
        read_host(path)?.into_x86().ok_or_else(other)
    }

    fn list(&self, hosts: &[(String, Host)]) -> Vec<Entry> {
        let lists: Vec<(&String, Vec<DefinitionInfo>)> = hosts
            .iter()
            .map(|(name, host)| (name, self.cpus(Some(host)).definitions()))
            .collect();
        let Some((_, first)) = lists.first() else {
            return Vec::new();
        };
        let on_host = |(name, list): &(&String, Vec<DefinitionInfo>), place: usize| {
            let missing = list[place].unavailable_features.clone().unwrap_or_default();
            OnHost {
                name: (*name).clone(),
                runnable: missing.is_empty(),
                default: list[place].name == DEFAULT_MODEL,
                unavailable_features: missing,
            }
        };
        let entry = |(place, info): (usize, &DefinitionInfo)| Entry {
            name: info.name,
            typename: info.typename,
            is_static: info.is_static,
            migration_safe: info.migration_safe,
            deprecated: false,
            unavailable_features: info.unavailable_features.clone(),
            alias_of: info.alias_of,
            accelerators: lists.iter().map(|list| on_host(list, place)).collect(),
        };
        first.iter().enumerate().map(entry).collect()
    }

    fn show(&self, model: &Operand, host: Option<&Host>, full: bool) -> Result<Shown, ToolError> {
        let own_host = match (model, host) {
            (Operand::Host(of), None) => Some(self.host(of)?),
            (Operand::Model(text), None) if self.parse(text)?.0.is_max() => Some(this_host()?),
            _ => None,
        };
        let text = model_text(model);
        let (model, arguments) = self.parse(text)?;
        let cpus = self.cpus(host.or(own_host.as_ref())).with_arguments(arguments);
        let kind = if full { Expansion::Full } else { Expansion::Static };
        let info = cpus.expand(kind, model.name(), None).map_err(|error| failed(&error))?;
        let mut lines = vec![model.name().to_owned()];
        lines.extend(model.alias_of(self.compat).map(|target| format!("is {target}")));
        let mut on = Vec::new();
        info.for_each_prop(|name, value| match value {
            PropValue::Bool(true) => on.push(name.to_owned()),
            PropValue::Bool(false) => {}
            other => lines.push(format!("{name} {}", plain(&other))),
        });
        Ok(Shown {
            json: json!({"model": {"name": info.name, "props": props_json(&info)}}),
            lines,
            names: vec![("on", on)],
        })
    }

    fn relate(&self, a: &Operand, b: &Operand) -> Result<Relation, ToolError> {
        let (only_a, only_b) = match (a, b) {
            (Operand::Host(a), Operand::Host(b)) => {
                let (a, b) = (self.host(a)?, self.host(b)?);
                let (a, b) = (self.cpus(Some(&a)), self.cpus(Some(&b)));
                let lacks = |has: &Cpus<'_>, offers: &Cpus<'_>| -> Result<_, ToolError> {
                    let cpu = has.expanded(Model::Host).map_err(|error| failed(&error))?;
                    Ok(named(&minus(cpu.features(), offers.supported_features())))
                };
                (lacks(&a, &b)?, lacks(&b, &a)?)
            }
            (Operand::Host(host), model) => self.host_and_model(host, model_text(model))?,
            (model, Operand::Host(host)) => {
                let (of_host, of_model) = self.host_and_model(host, model_text(model))?;
                (of_model, of_host)
            }
            (a, b) => {
                let (a, b) = (self.lone_model(model_text(a))?, self.lone_model(model_text(b))?);
                (
                    named(&minus(a.features(), b.features())),
                    named(&minus(b.features(), a.features())),
                )
            }
        };
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Ok(Relation {
            result: relation(&only_a, &only_b),
            differing: owned(&[only_a.as_slice(), only_b.as_slice()].concat()),
            lists: vec![
                ("only the first has", owned(&only_a)),
                ("only the second has", owned(&only_b)),
            ],
        })
    }

    fn baseline(&self, all: &[Operand]) -> Result<Baseline, ToolError> {
        let refs: Vec<&HostRef> = all.iter().filter_map(host_ref).collect();
        let hosts = refs
            .iter()
            .map(|host| self.host(host))
            .collect::<Result<Vec<Host>, _>>()?;
        let models = all.iter().filter(|operand| host_ref(operand).is_none());
        let cpus = models.map(|model| match hosts.first() {
            Some(host) => self.model_on(model_text(model), host),
            None => self.lone_model(model_text(model)),
        });
        let cpus = cpus.collect::<Result<Vec<Cpu>, _>>()?;
        let wanted = Wanted {
            vendor: common_vendor(&refs, &hosts, &cpus)?,
            hosts: hosts.iter().map(|host| (self.cpus(Some(host)), host)).collect(),
            cpus,
        };
        let all_models = self.cpus(hosts.first());
        let Choice {
            model,
            features,
            lacking,
        } = wanted.best(&all_models).unwrap_or(Choice {
            model: Model::Base,
            features: crate::cpu::x86::Features::default(),
            lacking: Vec::new(),
        });
        let mut switches = Switches {
            on: named(&minus(&wanted.shared(), &features)),
            off: lacking,
        };
        for host in &hosts {
            self.fit(model, &mut switches, host)?;
        }
        let Switches { on, off } = switches;
        let on = on.into_iter().map(|name| (name, true));
        let off = off.into_iter().map(|name| (name, false));
        Ok(Baseline {
            model: model.name(),
            plain_model: self.plain_name(model),
            props: on.chain(off).collect(),
        })
    }

    fn explain(&self, model: &Operand, host: &Host) -> Result<Explanation, ToolError> {
        let text = model_text(model);
        let cpu = self.filtered(text, host)?;
        let missing = Obstacle::of_features(cpu.filtered_features());
        let wanted = self.model_on(text, host)?;
        let instead = (!missing.is_empty()).then(|| nearest(&self.cpus(Some(host)), &wanted, &vendor_of(host)));
        Ok(Explanation {
            model: text.to_owned(),
            model_json: None,
            hindrances: hindrances(&missing),
            nearest: instead.flatten().map(|model| model.name()),
        })
    }

    fn migrate(&self, model: Option<&Operand>, from: &Host, to: &Host) -> Result<Move, ToolError> {
        let text = model.map_or(DEFAULT_MODEL, model_text);
        let guest = self.filtered(text, from)?;
        let here = Obstacle::of_features(guest.filtered_features());
        let (blocked_at, found) = match here.is_empty() {
            true => (
                "to",
                obstacles(&guest, self.cpus(Some(to)).supported_features(), from, to),
            ),
            false => ("from", here),
        };
        Ok(Move {
            model: text.to_owned(),
            model_json: json!(guest.model().name()),
            blocked_at,
            hindrances: hindrances(&found),
            note: None,
        })
    }
}

impl X86 {
    /// All models, on a host or without one.
    fn cpus<'h>(&self, host: Option<&'h Host>) -> Cpus<'h> {
        let accel = host.map(|host| Accel {
            host,
            irqchip: IrqChip::Kernel,
            cpu_pm: false,
        });
        Cpus::new(self.compat, accel)
    }

    /// A model as for `-cpu`, and what the text says about it.
    fn parse(&self, text: &str) -> Result<(Model, Arguments), ToolError> {
        Arguments::parse(text, self.compat).map_err(|error| match error {
            Error::UnknownModel(name) if s390x::named(&name).is_some() => ToolError::Failed(format!(
                "unable to find CPU model '{name}' for x86_64: it is one of s390x (--target s390x)"
            )),
            error => failed(&error),
        })
    }

    /// The CPU that a guest of a host would get.
    fn filtered(&self, text: &str, host: &Host) -> Result<Cpu, ToolError> {
        let (model, arguments) = self.parse(text)?;
        let cpus = self.cpus(Some(host)).with_arguments(arguments);
        cpus.filtered(model).map_err(|error| failed(&error))
    }

    /// A model on a host, whatever the host lacks.
    fn model_on(&self, text: &str, host: &Host) -> Result<Cpu, ToolError> {
        let (model, arguments) = self.parse(text)?;
        let cpus = self.cpus(Some(host)).with_arguments(arguments);
        cpus.expanded(model).map_err(|error| failed(&error))
    }

    /// A model away from any host; those that take all of a host are of this one.
    fn lone_model(&self, text: &str) -> Result<Cpu, ToolError> {
        let (model, arguments) = self.parse(text)?;
        if model.is_max() {
            return self.model_on(text, &this_host()?);
        }
        let cpus = self.cpus(None).with_arguments(arguments);
        cpus.expanded(model).map_err(|error| failed(&error))
    }

    /// What only a host has, and what only a model has: that is what keeps it from running there.
    fn host_and_model(&self, host: &HostRef, text: &str) -> Result<(Vec<&'static str>, Vec<&'static str>), ToolError> {
        let host = self.host(host)?;
        let cpu = self.filtered(text, &host)?;
        let of_host = self
            .cpus(Some(&host))
            .expanded(Model::Host)
            .map_err(|error| failed(&error))?;
        let only_host = named(&minus(of_host.features(), cpu.features()));
        let lost = named(cpu.filtered_features());
        Ok((
            only_host.into_iter().filter(|name| !lost.contains(name)).collect(),
            lost,
        ))
    }

    /// Takes back what a host does not give to a model with these switches. What it offers to its own model may depend on
    /// more than the feature (performance counters, say), and one feature may bring others of the model's with it.
    fn fit(&self, model: Model, switches: &mut Switches, host: &Host) -> Result<(), ToolError> {
        loop {
            let cpu = self.filtered(&format!("{}{switches}", model.name()), host)?;
            let lost = named(cpu.filtered_features());
            let known = switches.on.len() + switches.off.len();
            let (taken_back, others): (Vec<&str>, Vec<&str>) =
                lost.into_iter().partition(|name| switches.on.contains(name));
            switches.on.retain(|name| !taken_back.contains(name));
            switches.off.extend(others);
            if taken_back.is_empty() && switches.on.len() + switches.off.len() == known {
                return Ok(());
            }
        }
    }

    /// The name of a version of a model that needs no version, if there is one.
    fn plain_name(&self, model: Model) -> &'static str {
        let all = self.cpus(None);
        let same = all
            .models()
            .filter(|other| other.alias_of(self.compat) == Some(model.name()));
        same.map(|other| other.name()).last().unwrap_or(model.name())
    }
}

/// Features that are switched on and off beside those of a model, as they stand behind its name.
struct Switches {
    on: Vec<&'static str>,
    off: Vec<&'static str>,
}

impl std::fmt::Display for Switches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.on.iter().try_for_each(|name| write!(f, ",{name}=on"))?;
        self.off.iter().try_for_each(|name| write!(f, ",{name}=off"))
    }
}

fn host_ref(operand: &Operand) -> Option<&HostRef> {
    match operand {
        Operand::Host(host) => Some(host),
        Operand::Model(_) | Operand::Document(_) => None,
    }
}

/// The text of a model; a host's own is `host`.
fn model_text(operand: &Operand) -> &str {
    match operand {
        Operand::Model(text) => text,
        Operand::Host(_) | Operand::Document(_) => "host",
    }
}

/// The vendor of all processors; none if only models are asked about, and they are of several.
///
/// # Errors
/// Hosts of several vendors have no baseline: a guest is told its processor's vendor once.
fn common_vendor(refs: &[&HostRef], hosts: &[Host], cpus: &[Cpu]) -> Result<Option<String>, ToolError> {
    if let Some(first) = hosts.first().map(vendor_of) {
        let different = hosts.iter().zip(refs).find(|(host, _)| vendor_of(host) != first);
        if let Some((other, which)) = different {
            let names = super::operand::labels(&[refs[0].clone(), (*which).clone()]);
            return Err(ToolError::Failed(format!(
                "no model is right on processors of different vendors: {} is {first}, {} is {}",
                names[0],
                names[1],
                vendor_of(other)
            )));
        }
        return Ok(Some(first));
    }
    let mut vendors = cpus.iter().map(|cpu| cpu.model().vendor());
    let first = vendors.next().flatten();
    let same = vendors.all(|vendor| vendor == first);
    Ok(first.filter(|_| same).map(str::to_owned))
}

fn vendor_of(host: &Host) -> String {
    String::from_utf8_lossy(&host.vendor()).into_owned()
}

#[cfg(target_arch = "x86_64")]
fn this_host() -> Result<Host, ToolError> {
    crate::accel::kvm::x86_64::probe().map_err(|error| ToolError::failed(&error))
}

#[cfg(not(target_arch = "x86_64"))]
fn this_host() -> Result<Host, ToolError> {
    Err(ToolError::Failed(
        "this machine runs no x86_64 guests: name a host with --host".to_owned(),
    ))
}

fn failed(error: &Error) -> ToolError {
    ToolError::Failed(error.to_string())
}

fn hindrances(obstacles: &[Obstacle]) -> Vec<Hindrance> {
    let hindrance = |obstacle: &Obstacle| Hindrance {
        text: obstacle.to_string(),
        json: obstacle.to_json(),
    };
    obstacles.iter().map(hindrance).collect()
}

fn plain(value: &PropValue) -> String {
    match value.to_json() {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn props_json(info: &ExpansionInfo) -> Value {
    let mut members = Map::new();
    info.for_each_prop(|name, value| {
        members.insert(name.to_owned(), value.to_json());
    });
    Value::Object(members)
}

#[cfg(test)]
mod tests;
