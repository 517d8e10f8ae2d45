//! `remuda cpu` for x86_64 models.
//!
//! On this architecture QEMU neither compares models nor finds a baseline of them, so what these mean is ours: a CPU is
//! the set of its features. One is a superset of another if it has all of the other's features, whatever vendor, family
//! and levels they tell; a baseline is the named model with the most features that all have, and the features that it
//! lacks on top.

mod features;
mod obstacle;

use std::path::Path;

use features::{Relation, baseline, named, nearest, relation};
use obstacle::{Obstacle, obstacles};
use serde_json::{Map, Value, json};

use super::answer::{Answers, Definition, Output};
use super::request::{Operand, Request, read};
use super::{ToolError, Verdict};
use crate::cpu::x86::{
    Accel, Arguments, Cpu, Cpus, DEFAULT_MODEL, DefinitionInfo, Expansion, ExpansionInfo, Host, IrqChip, MachineCompat,
    Model, PropValue,
};

/// Answers one question.
pub(super) fn run(request: &Request, out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let compat = match &request.machine {
        Some(name) => MachineCompat::of_machine(name)
            .ok_or_else(|| ToolError::Failed(format!("'{name}' is not a machine type of x86_64")))?,
        None => MachineCompat::newest(),
    };
    let out = Output(out);
    Tool { compat, request, out }.answer(request.verb)
}

struct Tool<'a> {
    compat: MachineCompat,
    request: &'a Request,
    out: Output<'a>,
}

impl Answers for Tool<'_> {
    fn list(&mut self) -> Result<Verdict, ToolError> {
        let host = self.host_or_here()?;
        let list = self.cpus(Some(&host)).definitions();
        if self.request.json {
            let list: Vec<Definition<'_>> = list.iter().map(definition).collect();
            self.out.json(&json!(list));
            return Ok(Verdict::Yes);
        }
        for info in list {
            let what = match (info.alias_of, &info.unavailable_features) {
                (Some(target), _) => format!("is {target}"),
                (None, Some(missing)) if !missing.is_empty() => format!("lacks {}", missing.join(" ")),
                (None, _) => "runs".to_owned(),
            };
            self.out.line(&format!("{:<28} {what}", info.name));
        }
        Ok(Verdict::Yes)
    }

    fn show(&mut self) -> Result<Verdict, ToolError> {
        let host = self.optional_host()?;
        let (model, cpus) = self.model(self.only_model()?, host.as_ref())?;
        let kind = match self.request.full {
            true => Expansion::Full,
            false => Expansion::Static,
        };
        let info = cpus.expand(kind, model.name(), None).map_err(|error| failed(&error))?;
        if self.request.json {
            self.out
                .json(&json!({"model": {"name": info.name, "props": props_json(&info)}}));
            return Ok(Verdict::Yes);
        }
        self.out.line(model.name());
        if let Some(target) = model.alias_of(self.compat) {
            self.out.line(&format!("is {target}"));
        }
        let mut on = Vec::new();
        info.for_each_prop(|name, value| match value {
            PropValue::Bool(true) => on.push(name),
            PropValue::Bool(false) => {}
            other => self.out.line(&format!("{name} {}", plain(&other))),
        });
        self.out.line(&format!("on {}", on.join(" ")));
        Ok(Verdict::Yes)
    }

    fn compare(&mut self) -> Result<Verdict, ToolError> {
        let [a, b] = [0, 1].map(|place| self.subject(&self.request.operands[place]));
        let (a, b) = (a?, b?);
        let Relation { result, only_a, only_b } = relation(a.features(), b.features());
        if self.request.json {
            let differing = [only_a, only_b].concat();
            self.out
                .json(&json!({"result": result, "responsible-properties": differing}));
            return Ok(Verdict::Yes);
        }
        self.out.line(result);
        for (which, names) in [("first", only_a), ("second", only_b)] {
            if !names.is_empty() {
                self.out.line(&format!("only the {which} has {}", names.join(" ")));
            }
        }
        Ok(Verdict::Yes)
    }

    fn baseline(&mut self) -> Result<Verdict, ToolError> {
        let subjects = self.request.operands.iter().map(|operand| self.subject(operand));
        let subjects = subjects.collect::<Result<Vec<Cpu>, _>>()?;
        let hosts = self.request.operands.iter().filter_map(|operand| match operand {
            Operand::Host(path) => Some(host_file(path)),
            Operand::Model(_) => None,
        });
        let hosts = hosts.collect::<Result<Vec<Host>, _>>()?;
        let (model, mut more) = baseline(&self.cpus(hosts.first()), &subjects);
        for host in &hosts {
            // What one host offers to its own model may depend on more than the feature: performance counters, say.
            let text: String = more.iter().map(|name| format!(",{name}=on")).collect();
            let (model, cpus) = self.model(&format!("{}{text}", model.name()), Some(host))?;
            let cpu = cpus.filtered(model).map_err(|error| failed(&error))?;
            let lost = named(cpu.filtered_features());
            more.retain(|name| !lost.contains(name));
        }
        if self.request.json {
            let props: Map<String, Value> = more.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
            self.out.json(&json!({"model": {"name": model.name(), "props": props}}));
            return Ok(Verdict::Yes);
        }
        let switches: String = more.iter().map(|name| format!(",{name}=on")).collect();
        self.out.line(&format!("{}{switches}", model.name()));
        Ok(Verdict::Yes)
    }

    fn explain(&mut self) -> Result<Verdict, ToolError> {
        let host = self.host_or_here()?;
        let (model, cpus) = self.model(self.only_model()?, Some(&host))?;
        let cpu = cpus.filtered(model).map_err(|error| failed(&error))?;
        let missing = Obstacle::of_features(cpu.filtered_features());
        let instead = nearest(
            &self.cpus(Some(&host)),
            &cpus.expanded(model).map_err(|error| failed(&error))?,
        );
        if self.request.json {
            let nearest = instead.filter(|_| !missing.is_empty()).map(|model| model.name());
            self.out.json(&json!({
                "runnable": missing.is_empty(),
                "obstacles": obstacle::list_json(&missing),
                "nearest": nearest,
            }));
            return Ok(verdict(&missing));
        }
        for obstacle in &missing {
            self.out.line(&obstacle.to_string());
        }
        match instead {
            _ if missing.is_empty() => self.out.line("nothing keeps the host from running the model"),
            Some(model) => self
                .out
                .line(&format!("the nearest model that runs is {}", model.name())),
            None => self.out.line("no named model runs"),
        }
        Ok(verdict(&missing))
    }

    fn migratable(&mut self) -> Result<Verdict, ToolError> {
        let (Some(from), Some(to)) = (&self.request.from, &self.request.to) else {
            return Err(ToolError::Usage("--from and --to are needed".to_owned()));
        };
        let (from, to) = (host_file(from)?, host_file(to)?);
        let text = self.request.cpu.as_deref().unwrap_or(DEFAULT_MODEL);
        let (model, cpus) = self.model(text, Some(&from))?;
        let guest = cpus.filtered(model).map_err(|error| failed(&error))?;
        let there = self.cpus(Some(&to));
        let found = obstacles(&guest, there.supported_features(), &from, &to);
        if self.request.json {
            let mut answer = json!({"migratable": found.is_empty(), "model": model.name()});
            if !found.is_empty() {
                answer["obstacles"] = obstacle::list_json(&found);
            }
            self.out.json(&answer);
            return Ok(verdict(&found));
        }
        self.out.line(if found.is_empty() { "yes" } else { "no" });
        for obstacle in &found {
            self.out.line(&format!("  {obstacle}"));
        }
        let lost = named(guest.filtered_features());
        if !lost.is_empty() {
            self.out
                .line(&format!("  where it comes from the guest lacks {}", lost.join(" ")));
        }
        Ok(verdict(&found))
    }
}

impl Tool<'_> {
    /// All models, on a host or without one.
    fn cpus<'h>(&self, host: Option<&'h Host>) -> Cpus<'h> {
        let accel = host.map(|host| Accel {
            host,
            irqchip: IrqChip::Kernel,
            cpu_pm: false,
        });
        Cpus::new(self.compat, accel)
    }

    /// A model as for `-cpu`, and all models with what the text says about them.
    fn model<'h>(&self, text: &str, host: Option<&'h Host>) -> Result<(Model, Cpus<'h>), ToolError> {
        let (model, arguments) = Arguments::parse(text, self.compat).map_err(|error| failed(&error))?;
        Ok((model, self.cpus(host).with_arguments(arguments)))
    }

    /// The CPU that an operand stands for; a host stands for all that it offers.
    fn subject(&self, operand: &Operand) -> Result<Cpu, ToolError> {
        match operand {
            Operand::Host(path) => self.cpus(Some(&host_file(path)?)).expanded(Model::Host),
            Operand::Model(text) => {
                let (model, cpus) = self.model(text, None)?;
                cpus.expanded(model)
            }
        }
        .map_err(|error| failed(&error))
    }

    fn only_model(&self) -> Result<&str, ToolError> {
        match &self.request.operands[0] {
            Operand::Model(text) => Ok(text),
            Operand::Host(path) => Err(ToolError::Usage(format!("{} is a host, not a model", path.display()))),
        }
    }

    fn optional_host(&self) -> Result<Option<Host>, ToolError> {
        self.request.host.as_deref().map(host_file).transpose()
    }

    /// The host that was named, or this one.
    fn host_or_here(&self) -> Result<Host, ToolError> {
        match self.optional_host()? {
            Some(host) => Ok(host),
            None => this_host(),
        }
    }
}

fn verdict(obstacles: &[Obstacle]) -> Verdict {
    match obstacles.is_empty() {
        true => Verdict::Yes,
        false => Verdict::No,
    }
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

fn host_file(path: &Path) -> Result<Host, ToolError> {
    let other = || ToolError::Failed(format!("{}: not a host for x86_64 guests", path.display()));
    read(path)?.into_x86().ok_or_else(other)
}

fn failed(error: &crate::cpu::x86::Error) -> ToolError {
    ToolError::Failed(error.to_string())
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

fn definition(info: &DefinitionInfo) -> Definition<'_> {
    Definition {
        name: info.name,
        typename: info.typename,
        is_static: info.is_static,
        migration_safe: info.migration_safe,
        deprecated: false,
        unavailable_features: info.unavailable_features.as_deref(),
        alias_of: info.alias_of,
    }
}

#[cfg(test)]
mod tests;
