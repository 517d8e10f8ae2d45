//! `remuda cpu` for S390 models.

mod obstacle;

use std::io::Write;
use std::path::Path;

use obstacle::{Obstacle, list_json, obstacles};
use serde_json::{Map, Value, json};

use super::request::{Operand, Request, Verb, read};
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
    let mut tool = Tool { compat, request, out };
    match request.verb {
        Verb::List => tool.list(),
        Verb::Show => tool.show(),
        Verb::Compare => tool.compare(),
        Verb::Baseline => tool.baseline(),
        Verb::Explain => tool.explain(),
        Verb::Migratable => tool.migratable(),
    }
}

struct Tool<'a> {
    compat: Compat,
    request: &'a Request,
    out: &'a mut Vec<u8>,
}

impl Tool<'_> {
    fn list(&mut self) -> Result<Verdict, ToolError> {
        let host = self.host_or_here()?;
        let list = Cpus::new(self.compat, Some(&host)).definitions(std::slice::from_ref(&host));
        if self.request.json {
            let list: Vec<Value> = list.iter().map(definition_json).collect();
            return self.json(&json!(list));
        }
        for info in list {
            let name = info.name;
            let what = match (&info.alias_of, &info.unavailable_features) {
                (Some(target), _) => format!("is {target}"),
                (None, None) => "unknown".to_owned(),
                (None, Some(missing)) if missing.is_empty() => "runs".to_owned(),
                (None, Some(missing)) => format!("lacks {}", missing.join(" ")),
            };
            self.line(&format!("{name:<14} {what}"));
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
            return self.json(&json!({"deprecated-props": info.deprecated_props, "model": model_json(&info.model)}));
        }
        let definition = model.definition;
        self.line(&cpu_text(&info.model));
        self.line(&format!(
            "machine type {:04x} GA {}, generation {} GA {}, known as {}",
            definition.machine_type, definition.own_ga, definition.generation, definition.ga, definition.seed_name
        ));
        self.line(&match definition.ibc {
            0 => "no instruction blocking control".to_owned(),
            ibc => format!("instruction blocking control {ibc:#05x}"),
        });
        let numbers: Vec<String> = FacilityList::of_features(&model.features)
            .iter()
            .map(|number| number.to_string())
            .collect();
        self.line(&format!("facilities {}", numbers.join(" ")));
        let deprecated = expand(&model, Expansion::Static).deprecated_props;
        if !deprecated.is_empty() {
            self.line(&format!("deprecated {}", deprecated.join(" ")));
        }
        for odd in inconsistencies(&model) {
            self.line(&format!("warning: {odd}"));
        }
        Ok(Verdict::Yes)
    }

    fn compare(&mut self) -> Result<Verdict, ToolError> {
        let [a, b] = [0, 1].map(|place| self.operand(&self.request.operands[place], None));
        let info = compare(&a?, &b?);
        if self.request.json {
            return self.json(&json!({
                "result": info.result.as_str(),
                "responsible-properties": info.responsible_properties,
            }));
        }
        self.line(info.result.as_str());
        if !info.responsible_properties.is_empty() {
            self.line(&format!("differs in {}", info.responsible_properties.join(" ")));
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
            return self.json(&json!({"model": model_json(&info)}));
        }
        self.line(&cpu_text(&info));
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
        if self.request.json {
            let model = model_json(&static_info(&model));
            self.json(&json!({"runnable": obstacles.is_empty(), "model": model, "obstacles": list_json(&obstacles)}))?;
            return Ok(verdict);
        }
        for obstacle in &obstacles {
            self.line(&obstacle.to_string());
        }
        if obstacles.is_empty() {
            self.line("nothing keeps the host from running the model");
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
            self.line(match place {
                "from" => "no: the guest cannot run where it is to come from",
                _ => "no",
            });
            obstacles
                .iter()
                .for_each(|obstacle| self.line(&format!("  {obstacle}")));
            return Ok(Verdict::No);
        }
        self.line("yes");
        if matches!(model.variant, Variant::Host | Variant::Max) {
            let text = cpu_text(&static_info(&model));
            self.line(&format!(
                "  '{}' means something else on the other host: start the guest with -cpu {text}",
                model.name()
            ));
        }
        Ok(Verdict::Yes)
    }

    fn migratable_json(&mut self, model: &Model, place: &str, obstacles: &[Obstacle]) -> Result<Verdict, ToolError> {
        let model = model_json(&static_info(model));
        if obstacles.is_empty() {
            return self.json(&json!({"migratable": true, "model": model}));
        }
        let obstacles = list_json(obstacles);
        self.json(&json!({"migratable": false, "model": model, "blocked-at": place, "obstacles": obstacles}))?;
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

    fn json(&mut self, value: &Value) -> Result<Verdict, ToolError> {
        self.line(&value.to_string());
        Ok(Verdict::Yes)
    }

    fn line(&mut self, text: &str) {
        // Writing to a Vec does not fail.
        let _ = writeln!(self.out, "{text}");
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

fn definition_json(info: &DefinitionInfo) -> Value {
    let mut entry = json!({
        "name": info.name,
        "typename": info.typename,
        "static": info.is_static,
        "migration-safe": info.migration_safe,
        "deprecated": false,
    });
    if let Some(missing) = &info.unavailable_features {
        entry["unavailable-features"] = json!(missing);
    }
    if let Some(target) = info.alias_of {
        entry["alias-of"] = json!(target);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::super::run;
    use super::*;

    /// Exit status and output of `remuda cpu TEXT`; HOSTS stands for the folder of recorded hosts.
    fn remuda(text: &str) -> (Result<Verdict, ToolError>, String) {
        let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/s390x/hosts");
        let args: Vec<String> = text.split_whitespace().map(|arg| arg.replace("HOSTS", hosts)).collect();
        let mut out = Vec::new();
        let verdict = run(&args, &mut out);
        (verdict, String::from_utf8(out).unwrap())
    }

    const Z15: &str = "HOSTS/6.0.0/sim_host.json";
    const Z15_RESTRICTED: &str = "HOSTS/8.1.0/sim_host.json";
    const Z16: &str = "HOSTS/9.2.0/sim_host.json";

    #[test]
    fn a_guest_moves_up_but_not_down() {
        let (verdict, text) = remuda(&format!("migratable --from {Z15} --to {Z16} --cpu z14"));
        assert_eq!((verdict, text.as_str()), (Ok(Verdict::Yes), "yes\n"));
        let (verdict, text) = remuda(&format!("migratable --from {Z16} --to {Z15} --cpu gen16a"));
        assert_eq!(verdict, Ok(Verdict::No));
        assert!(
            text.starts_with(
                "no\n  type: gen16a is of generation 16 GA 1, the host is a gen15a of generation 15 GA 1\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("\n  nnpa: neural network processing assist, facility 165; the machine must have it\n"),
            "{text}"
        );
    }

    #[test]
    fn the_hosts_own_model_moves_by_its_features() {
        let (verdict, text) = remuda(&format!("migratable --from {Z15} --to {Z15_RESTRICTED}"));
        assert_eq!(verdict, Ok(Verdict::No));
        assert!(
            text.contains("\n  ri: runtime instrumentation, facility 64; the kernel must have KVM_CAP_S390_RI"),
            "{text}"
        );
        let (verdict, text) = remuda(&format!("migratable --from {Z15_RESTRICTED} --to {Z16}"));
        assert_eq!(verdict, Ok(Verdict::Yes), "{text}");
        assert!(text.contains("start the guest with -cpu gen15a-base,"), "{text}");
    }

    #[test]
    fn a_baseline_of_hosts_runs_on_each() {
        let (verdict, text) = remuda(&format!("baseline {Z15} {Z15_RESTRICTED} {Z16}"));
        assert_eq!(verdict, Ok(Verdict::Yes));
        let model = text.trim();
        assert!(
            model.starts_with("gen15a-base,") && !model.contains(",ri=") && model.contains(",vx=on"),
            "{model}"
        );
        for host in [Z15, Z15_RESTRICTED, Z16] {
            let (verdict, text) = remuda(&format!("explain {model} --host {host}"));
            assert_eq!(
                (verdict, text.as_str()),
                (Ok(Verdict::Yes), "nothing keeps the host from running the model\n")
            );
        }
    }

    #[test]
    fn models_are_shown_listed_and_compared() {
        let (_, text) = remuda("show 2066-ga1 --target s390x");
        assert_eq!(text.lines().next(), Some("z800-base"));
        assert!(
            text.contains("machine type 2066 GA 1, generation 7 GA 3, known as 2066-ga1"),
            "{text}"
        );
        let (_, text) = remuda("compare z13.2 2965-ga1 --target s390x");
        assert_eq!(text, "identical\n");
        let (_, text) = remuda(&format!("list --host {Z16}"));
        assert!(text.contains("\nz14            runs\n"), "{text}");
        assert!(text.contains("\n2964-ga1       is z13\n"), "{text}");
        let (_, text) = remuda(&format!("list --host {Z15} --json"));
        let list: Value = serde_json::from_str(&text).unwrap();
        assert!(
            list.as_array()
                .unwrap()
                .iter()
                .any(|entry| entry["alias-of"] == json!("gen16a"))
        );
    }

    #[test]
    fn a_question_about_nothing_is_refused() {
        let (verdict, _) = remuda("show z99 --target s390x");
        assert_eq!(
            verdict,
            Err(ToolError::Failed("unable to find CPU model 'z99'".to_owned()))
        );
        let (verdict, _) = remuda("list --host /no/such/file");
        let Err(ToolError::Failed(text)) = verdict else {
            panic!()
        };
        assert!(
            text.starts_with("/no/such/file: cannot read the host description: No such file"),
            "{text}"
        );
        let (verdict, _) = remuda("show z13 --target s390x --machine pc");
        assert_eq!(
            verdict,
            Err(ToolError::Failed("'pc' is not a machine type of s390x".to_owned()))
        );
    }
}
