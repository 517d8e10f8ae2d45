//! `remuda cpu` for S390 models.

mod obstacle;

use obstacle::{Obstacle, obstacles};
use serde_json::{Map, Value, json};

use super::answer::{Architecture, Baseline, Entry, Explanation, Hindrance, Move, OnHost, Relation, Shown, answer};
use super::operand::{HostRef, Operand, read_host};
use super::request::Request;
use super::{ToolError, Verdict};
use crate::accel::kvm;
use crate::cpu::s390x::{
    Compat, Cpus, DefinitionInfo, Error, Expansion, FacilityList, Host, HostModel, Model, ModelInfo, Variant, baseline,
    compare, expand, inconsistencies, static_info,
};
use crate::cpu::x86;
use crate::target::Target;

/// Answers one question.
pub(super) fn run(request: &Request, out: &mut Vec<u8>) -> Result<Verdict, ToolError> {
    let compat = match &request.machine {
        Some(name) => Compat::of_machine(name)
            .ok_or_else(|| ToolError::Failed(format!("'{name}' is not a machine type of s390x")))?,
        None => Compat::newest(),
    };
    answer(&S390x { compat }, request, out)
}

/// The models of a machine type.
struct S390x {
    compat: Compat,
}

impl Architecture for S390x {
    type Host = Host;
    const TARGET: Target = Target::S390x;

    fn host(&self, host: &HostRef) -> Result<Host, ToolError> {
        match host.path() {
            Some(path) => {
                let other = || ToolError::Failed(format!("{}: not a host for S390 guests", path.display()));
                read_host(path)?.into_s390x().ok_or_else(other)
            }
            None if !Target::S390x.is_native() => Err(ToolError::Failed(
                "this machine runs no s390x guests: name a host with --host".to_owned(),
            )),
            None => kvm::s390x::probe().map_err(|error| ToolError::failed(&error)),
        }
    }

    fn list(&self, hosts: &[(String, Host)]) -> Vec<Entry> {
        let lists: Vec<(&String, Vec<DefinitionInfo>)> = hosts
            .iter()
            .map(|(name, host)| {
                let cpus = Cpus::new(self.compat, Some(host));
                (name, cpus.definitions(std::slice::from_ref(host)))
            })
            .collect();
        let Some((_, first)) = lists.first() else {
            return Vec::new();
        };
        let on_host = |(host, list): &(&String, Vec<DefinitionInfo>), model: &str| {
            // A host whose kernel knows no CPU models lists none.
            let info = list.iter().find(|info| info.name == model);
            let there = info.and_then(|info| info.accelerators.first());
            OnHost {
                name: (*host).clone(),
                runnable: there.is_some_and(|there| there.runnable),
                default: there.is_some_and(|there| there.default),
                unavailable_features: info
                    .and_then(|info| info.unavailable_features.clone())
                    .unwrap_or_default(),
            }
        };
        let entry = |info: &DefinitionInfo| Entry {
            name: info.name,
            typename: info.typename,
            is_static: info.is_static,
            migration_safe: info.migration_safe,
            deprecated: false,
            unavailable_features: info.unavailable_features.clone(),
            alias_of: info.alias_of,
            accelerators: lists.iter().map(|list| on_host(list, info.name)).collect(),
        };
        first.iter().map(entry).collect()
    }

    fn show(&self, model: &Operand, host: Option<&Host>, full: bool) -> Result<Shown, ToolError> {
        let here = match (model, host) {
            (Operand::Model(text), None) if text == "host" => Some(self.host(&HostRef::Here)?),
            _ => None,
        };
        let model = self.model(model, host.or(here.as_ref()))?;
        let info = expand(&model, if full { Expansion::Full } else { Expansion::Static });
        let definition = model.definition;
        let mut lines = vec![
            cpu_text(&static_info(&model)),
            format!(
                "machine type {:04x} GA {}, generation {} GA {}, known as {}",
                definition.machine_type, definition.own_ga, definition.generation, definition.ga, definition.seed_name
            ),
            match definition.ibc {
                0 => "no instruction blocking control".to_owned(),
                ibc => format!("instruction blocking control {ibc:#05x}"),
            },
        ];
        let warnings = inconsistencies(&model).into_iter().map(|odd| format!("warning: {odd}"));
        lines.extend(warnings);
        let numbers = FacilityList::of_features(&model.features)
            .iter()
            .map(|number| number.to_string())
            .collect();
        let mut names = vec![("facilities", numbers)];
        let deprecated = expand(&model, Expansion::Static).deprecated_props;
        if !deprecated.is_empty() {
            names.push(("deprecated", deprecated.iter().map(|name| (*name).to_owned()).collect()));
        }
        if full {
            let on = info.model.props.iter().filter(|(_, on)| *on);
            names.push(("on", on.map(|(name, _)| (*name).to_owned()).collect()));
        }
        Ok(Shown {
            json: json!({"deprecated-props": info.deprecated_props, "model": model_json(&info.model)}),
            lines,
            names,
        })
    }

    fn relate(&self, a: &Operand, b: &Operand) -> Result<Relation, ToolError> {
        let info = compare(&self.model(a, None)?, &self.model(b, None)?);
        let differing: Vec<String> = info
            .responsible_properties
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        Ok(Relation {
            result: info.result.as_str(),
            lists: vec![("differs in", differing.clone())],
            differing,
        })
    }

    fn baseline(&self, all: &[Operand]) -> Result<Baseline, ToolError> {
        let mut models = all.iter().map(|operand| self.model(operand, None));
        let first = models
            .next()
            .unwrap_or_else(|| Err(ToolError::Usage("nothing to find a baseline of".to_owned())))?;
        let model = models.try_fold(first, |so_far, next| {
            baseline(&so_far, &next?).map_err(|error| ToolError::failed(&error))
        })?;
        let info = static_info(&model);
        Ok(Baseline {
            model: info.name,
            plain_model: info.name,
            props: info.props,
        })
    }

    fn explain(&self, model: &Operand, host: &Host) -> Result<Explanation, ToolError> {
        let text = model_text(model);
        let model = self.model(model, Some(host))?;
        let found = obstacles(&model, offered(host)?);
        let nearest = if found.is_empty() {
            None
        } else {
            self.nearest(&model, host)
        };
        Ok(Explanation {
            model: text.to_owned(),
            model_json: Some(model_json(&static_info(&model))),
            hindrances: hindrances(&found),
            nearest: nearest.as_ref().map(Model::name),
        })
    }

    fn migrate(&self, model: Option<&Operand>, from: &Host, to: &Host) -> Result<Move, ToolError> {
        let text = model.map(model_text);
        let model = Cpus::new(self.compat, Some(from))
            .parse(text)
            .map_err(|error| named_error(&error, text))?;
        let here = obstacles(&model, offered(from)?);
        let (blocked_at, found) = match here.is_empty() {
            true => ("to", obstacles(&model, offered(to)?)),
            false => ("from", here),
        };
        let takes_all = matches!(model.variant, Variant::Host | Variant::Max);
        let note = (takes_all && found.is_empty()).then(|| {
            let spelt_out = cpu_text(&static_info(&model));
            format!(
                "'{}' means something else on the other host: start the guest with -cpu {spelt_out}",
                model.name()
            )
        });
        Ok(Move {
            model: text.unwrap_or_else(|| model.name()).to_owned(),
            model_json: model_json(&static_info(&model)),
            blocked_at,
            hindrances: hindrances(&found),
            note,
        })
    }
}

impl S390x {
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

    /// The model that an operand stands for; a host stands for all that it offers.
    fn model(&self, operand: &Operand, host: Option<&Host>) -> Result<Model, ToolError> {
        match operand {
            Operand::Host(host) => Ok(offered(&self.host(host)?)?.model(Variant::Host)),
            Operand::Model(_) | Operand::Document(_) => {
                let text = model_text(operand);
                let parsed = Cpus::new(self.compat, host).parse(Some(text));
                parsed.map_err(|error| named_error(&error, Some(text)))
            }
        }
    }
}

/// The text of a model; a host's own is `host`.
fn model_text(operand: &Operand) -> &str {
    match operand {
        Operand::Model(text) => text,
        Operand::Host(_) | Operand::Document(_) => "host",
    }
}

/// The error, with a hint where the model is one of the other architecture.
fn named_error(error: &Error, text: Option<&str>) -> ToolError {
    let name = text.unwrap_or_default().split(',').next().unwrap_or_default();
    if matches!(error, Error::UnableToFind(_)) && x86::Model::find(name, x86::MachineCompat::newest()).is_some() {
        return ToolError::Failed(format!(
            "unable to find CPU model '{name}' for s390x: it is one of x86_64 (--target x86_64)"
        ));
    }
    ToolError::failed(error)
}

fn offered(host: &Host) -> Result<&HostModel, ToolError> {
    host.model
        .as_ref()
        .ok_or_else(|| ToolError::Failed("the host's kernel knows no CPU models".to_owned()))
}

fn hindrances(obstacles: &[Obstacle]) -> Vec<Hindrance> {
    let hindrance = |obstacle: &Obstacle| Hindrance {
        text: obstacle.to_string(),
        json: obstacle.to_json(),
    };
    obstacles.iter().map(hindrance).collect()
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

#[cfg(test)]
mod tests;
