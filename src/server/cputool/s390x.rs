//! `remuda cpu` for S390 models.

mod obstacle;

use std::path::Path;

use obstacle::{Obstacle, list_json, obstacles};
use serde_json::{Map, Value, json};

use super::answer::{Answers, Definition, Output};
use super::request::{Operand, Request, read};
use super::{ToolError, Verdict};
use crate::accel::kvm;
use crate::cpu::s390x::{
    Compat, Cpus, DefinitionInfo, Expansion, FacilityList, Host, HostModel, Model, ModelInfo, Variant, baseline,
    compare, expand, inconsistencies, static_info,
};
use crate::target::Target;

/// Answers one question.
pub(super) fn run(request: &Request, out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let compat = match &request.machine {
        Some(name) => Compat::of_machine(name)
            .ok_or_else(|| ToolError::Failed(format!("'{name}' is not a machine type of s390x")))?,
        None => Compat::newest(),
    };
    let out = Output(out);
    Tool { compat, request, out }.answer(request.verb)
}

struct Tool<'a> {
    compat: Compat,
    request: &'a Request,
    out: Output<'a>,
}

impl Answers for Tool<'_> {
    fn list(&mut self) -> Result<Verdict, ToolError> {
        let host = self.host_or_here()?;
        let list = Cpus::new(self.compat, Some(&host)).definitions(std::slice::from_ref(&host));
        if self.request.json {
            let list: Vec<Definition<'_>> = list.iter().map(definition).collect();
            self.out.json(&json!(list));
            return Ok(Verdict::Yes);
        }
        for info in list {
            let name = info.name;
            let what = match (&info.alias_of, &info.unavailable_features) {
                (Some(target), _) => format!("is {target}"),
                (None, None) => "unknown".to_owned(),
                (None, Some(missing)) if missing.is_empty() => "runs".to_owned(),
                (None, Some(missing)) => format!("lacks {}", missing.join(" ")),
            };
            self.out.line(&format!("{name:<14} {what}"));
        }
        Ok(Verdict::Yes)
    }

    fn show(&mut self) -> Result<Verdict, ToolError> {
        let host = self.optional_host()?;
        let model = self.operand(&self.request.operands[0], host.as_ref())?;
        let kind = if self.request.full {
            Expansion::Full
        } else {
            Expansion::Static
        };
        let info = expand(&model, kind);
        if self.request.json {
            self.out
                .json(&json!({"deprecated-props": info.deprecated_props, "model": model_json(&info.model)}));
            return Ok(Verdict::Yes);
        }
        let definition = model.definition;
        self.out.line(&cpu_text(&info.model));
        self.out.line(&format!(
            "machine type {:04x} GA {}, generation {} GA {}, known as {}",
            definition.machine_type, definition.own_ga, definition.generation, definition.ga, definition.seed_name
        ));
        self.out.line(&match definition.ibc {
            0 => "no instruction blocking control".to_owned(),
            ibc => format!("instruction blocking control {ibc:#05x}"),
        });
        let numbers: Vec<String> = FacilityList::of_features(&model.features)
            .iter()
            .map(|number| number.to_string())
            .collect();
        self.out.line(&format!("facilities {}", numbers.join(" ")));
        let deprecated = expand(&model, Expansion::Static).deprecated_props;
        if !deprecated.is_empty() {
            self.out.line(&format!("deprecated {}", deprecated.join(" ")));
        }
        for odd in inconsistencies(&model) {
            self.out.line(&format!("warning: {odd}"));
        }
        Ok(Verdict::Yes)
    }

    fn compare(&mut self) -> Result<Verdict, ToolError> {
        let [a, b] = [0, 1].map(|place| self.operand(&self.request.operands[place], None));
        let info = compare(&a?, &b?);
        if self.request.json {
            self.out.json(&json!({
                "result": info.result.as_str(),
                "responsible-properties": info.responsible_properties,
            }));
            return Ok(Verdict::Yes);
        }
        self.out.line(info.result.as_str());
        if !info.responsible_properties.is_empty() {
            self.out
                .line(&format!("differs in {}", info.responsible_properties.join(" ")));
        }
        Ok(Verdict::Yes)
    }

    fn baseline(&mut self) -> Result<Verdict, ToolError> {
        let mut operands = self.request.operands.iter().map(|operand| self.operand(operand, None));
        let first = operands
            .next()
            .unwrap_or_else(|| Err(ToolError::Usage("nothing to find a baseline of".to_owned())))?;
        let model = operands.try_fold(first, |so_far, next| {
            baseline(&so_far, &next?).map_err(|error| ToolError::failed(&error))
        })?;
        let info = static_info(&model);
        if self.request.json {
            self.out.json(&json!({"model": model_json(&info)}));
            return Ok(Verdict::Yes);
        }
        self.out.line(&cpu_text(&info));
        Ok(Verdict::Yes)
    }

    fn explain(&mut self) -> Result<Verdict, ToolError> {
        let host = self.host_or_here()?;
        let model = self.operand(&self.request.operands[0], Some(&host))?;
        let obstacles = obstacles(&model, offered(&host)?);
        let verdict = match obstacles.is_empty() {
            true => Verdict::Yes,
            false => Verdict::No,
        };
        let instead = match verdict {
            Verdict::Yes => None,
            Verdict::No => self.nearest(&model, &host),
        };
        if self.request.json {
            self.out.json(&json!({
                "runnable": obstacles.is_empty(),
                "model": model_json(&static_info(&model)),
                "obstacles": list_json(&obstacles),
                "nearest": instead.as_ref().map(Model::name),
            }));
            return Ok(verdict);
        }
        for obstacle in &obstacles {
            self.out.line(&obstacle.to_string());
        }
        match (verdict, instead) {
            (Verdict::Yes, _) => self.out.line("nothing keeps the host from running the model"),
            (Verdict::No, Some(model)) => self
                .out
                .line(&format!("the nearest model that runs is {}", model.name())),
            (Verdict::No, None) => self.out.line("no named model runs"),
        }
        Ok(verdict)
    }

    fn migratable(&mut self) -> Result<Verdict, ToolError> {
        let (Some(from), Some(to)) = (&self.request.from, &self.request.to) else {
            return Err(ToolError::Usage("--from and --to are needed".to_owned()));
        };
        let (from, to) = (host_file(from)?, host_file(to)?);
        let cpus = Cpus::new(self.compat, Some(&from));
        let model = cpus
            .parse(self.request.cpu.as_deref())
            .map_err(|error| ToolError::failed(&error))?;
        let here = obstacles(&model, offered(&from)?);
        let (place, obstacles) = match here.is_empty() {
            true => ("to", obstacles(&model, offered(&to)?)),
            false => ("from", here),
        };
        if self.request.json {
            return self.migratable_json(&model, place, &obstacles);
        }
        if !obstacles.is_empty() {
            self.out.line(match place {
                "from" => "no: the guest cannot run where it is to come from",
                _ => "no",
            });
            obstacles
                .iter()
                .for_each(|obstacle| self.out.line(&format!("  {obstacle}")));
            return Ok(Verdict::No);
        }
        self.out.line("yes");
        if matches!(model.variant, Variant::Host | Variant::Max) {
            let text = cpu_text(&static_info(&model));
            self.out.line(&format!(
                "  '{}' means something else on the other host: start the guest with -cpu {text}",
                model.name()
            ));
        }
        Ok(Verdict::Yes)
    }
}

impl Tool<'_> {
    /// The newest named model that is not newer than the one wanted and runs on a host; with its default features, if
    /// these run.
    fn nearest(&self, wanted: &Model, host: &Host) -> Option<Model> {
        let cpus = Cpus::new(self.compat, Some(host));
        let list = cpus.definitions(std::slice::from_ref(host)).into_iter();
        let running =
            list.filter(|info| info.alias_of.is_none() && info.accelerators.iter().any(|there| there.runnable));
        let models = running.filter_map(|info| cpus.named(info.name).ok());
        let named = models.filter(|model| matches!(model.variant, Variant::Base | Variant::Default));
        named
            .filter(|model| !model.definition.is_newer_than(wanted.definition))
            .reduce(|best, next| {
                let is_same = std::ptr::eq(next.definition, best.definition);
                let is_better = is_same && next.variant == Variant::Default;
                match is_better || next.definition.is_newer_than(best.definition) {
                    true => next,
                    false => best,
                }
            })
    }

    fn migratable_json(&mut self, model: &Model, place: &str, obstacles: &[Obstacle]) -> Result<Verdict, ToolError> {
        let model = model_json(&static_info(model));
        if obstacles.is_empty() {
            self.out.json(&json!({"migratable": true, "model": model}));
            return Ok(Verdict::Yes);
        }
        let obstacles = list_json(obstacles);
        self.out
            .json(&json!({"migratable": false, "model": model, "blocked-at": place, "obstacles": obstacles}));
        Ok(Verdict::No)
    }

    /// The model that an operand stands for; a host stands for all that it offers.
    fn operand(&self, operand: &Operand, host: Option<&Host>) -> Result<Model, ToolError> {
        match operand {
            Operand::Host(path) => Ok(offered(&host_file(path)?)?.model(Variant::Host)),
            Operand::Model(text) => {
                let parsed = Cpus::new(self.compat, host).parse(Some(text));
                parsed.map_err(|error| ToolError::failed(&error))
            }
        }
    }

    fn optional_host(&self) -> Result<Option<Host>, ToolError> {
        self.request.host.as_deref().map(host_file).transpose()
    }

    /// The host that was named, or this one.
    fn host_or_here(&self) -> Result<Host, ToolError> {
        match self.optional_host()? {
            Some(host) => Ok(host),
            None if !Target::S390x.is_native() => Err(ToolError::Failed(
                "this machine runs no s390x guests: name a host with --host".to_owned(),
            )),
            None => kvm::s390x::probe().map_err(|error| ToolError::failed(&error)),
        }
    }
}

fn offered(host: &Host) -> Result<&HostModel, ToolError> {
    host.model
        .as_ref()
        .ok_or_else(|| ToolError::Failed("the host's kernel knows no CPU models".to_owned()))
}

fn host_file(path: &Path) -> Result<Host, ToolError> {
    let other = || ToolError::Failed(format!("{}: not a host for S390 guests", path.display()));
    read(path)?.into_s390x().ok_or_else(other)
}

/// A model as one would write it after `-cpu`.
fn cpu_text(info: &ModelInfo) -> String {
    let switches = info
        .props
        .iter()
        .map(|(name, on)| format!(",{name}={}", if *on { "on" } else { "off" }));
    std::iter::once(info.name.to_owned()).chain(switches).collect()
}

fn model_json(info: &ModelInfo) -> Value {
    let props: Map<String, Value> = info
        .props
        .iter()
        .map(|(name, on)| ((*name).to_owned(), json!(on)))
        .collect();
    match props.is_empty() {
        true => json!({"name": info.name}),
        false => json!({"name": info.name, "props": props}),
    }
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
