//! Questions and answers, alike for all architectures. What a model is and what a host offers, each architecture knows.

use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::operand::{HERE, HostRef, Operand, labels};
use super::request::{Request, Verb};
use super::table::{Matrix, some_of, width, wrapped};
use super::{ToolError, Verdict, libvirt};
use crate::target::Target;

/// What an architecture knows of its models and hosts.
pub(super) trait Architecture {
    /// A host.
    type Host;
    /// Which one it is.
    const TARGET: Target;

    /// Learns what a host offers.
    fn host(&self, host: &HostRef) -> Result<Self::Host, ToolError>;
    /// Every model, and what keeps it from running on each of these hosts.
    fn list(&self, hosts: &[(String, Self::Host)]) -> Vec<Entry>;
    /// A model spelt out, on a host or without one.
    fn show(&self, model: &Operand, host: Option<&Self::Host>, full: bool) -> Result<Shown, ToolError>;
    /// How one relates to the other.
    fn relate(&self, a: &Operand, b: &Operand) -> Result<Relation, ToolError>;
    /// The largest model that all can run.
    fn baseline(&self, all: &[Operand]) -> Result<Baseline, ToolError>;
    /// What keeps a host from running a model.
    fn explain(&self, model: &Operand, host: &Self::Host) -> Result<Explanation, ToolError>;
    /// Whether a guest moves from one host to another; without a model, one with the machine's default.
    fn migrate(&self, model: Option<&Operand>, from: &Self::Host, to: &Self::Host) -> Result<Move, ToolError>;
}

/// A model in a list, as `query-cpu-definitions` has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) typename: &'static str,
    #[serde(rename = "static")]
    pub(super) is_static: bool,
    pub(super) migration_safe: bool,
    pub(super) deprecated: bool,
    /// On the first host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unavailable_features: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alias_of: Option<&'static str>,
    /// One for each host.
    pub(super) accelerators: Vec<OnHost>,
}

/// How a model fares on one host.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OnHost {
    pub(super) name: String,
    pub(super) runnable: bool,
    pub(super) default: bool,
    pub(super) unavailable_features: Vec<&'static str>,
}

/// A model spelt out.
pub(super) struct Shown {
    pub(super) json: Value,
    pub(super) lines: Vec<String>,
    /// Lists of names, each with what they are.
    pub(super) names: Vec<(&'static str, Vec<String>)>,
}

/// How one model or host relates to another.
pub(super) struct Relation {
    /// In QMP's words.
    pub(super) result: &'static str,
    /// What makes the difference.
    pub(super) differing: Vec<String>,
    /// The same, with who has it.
    pub(super) lists: Vec<(&'static str, Vec<String>)>,
}

/// A model that all can run.
pub(super) struct Baseline {
    pub(super) model: &'static str,
    /// Its name for libvirt, which knew no versions for long.
    pub(super) plain_model: &'static str,
    pub(super) props: Vec<(&'static str, bool)>,
}

/// Something in the way: for people, and as an object.
pub(super) struct Hindrance {
    pub(super) text: String,
    pub(super) json: Value,
}

/// What keeps a host from running a model.
pub(super) struct Explanation {
    pub(super) model: String,
    pub(super) model_json: Option<Value>,
    pub(super) hindrances: Vec<Hindrance>,
    /// The nearest model that runs.
    pub(super) nearest: Option<&'static str>,
}

/// Whether a guest moves.
pub(super) struct Move {
    pub(super) model: String,
    pub(super) model_json: Value,
    /// `from` if it does not even run where it is to come from, else `to`.
    pub(super) blocked_at: &'static str,
    pub(super) hindrances: Vec<Hindrance>,
    /// What else should be known.
    pub(super) note: Option<String>,
}

/// What is printed.
pub(super) struct Output<'a>(&'a mut Vec<u8>);

impl Output<'_> {
    fn line(&mut self, text: &str) {
        // Writing to a Vec does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn lines(&mut self, lines: &[String]) {
        lines.iter().for_each(|line| self.line(line));
    }

    /// On one line.
    fn json(&mut self, value: &Value) {
        self.line(&value.to_string());
    }

    /// `what` with names after it, wrapped.
    fn names(&mut self, what: &str, names: &[String]) {
        let words = what.split(' ').chain(names.iter().map(String::as_str));
        let lines = wrapped(words, "  ", width());
        self.lines(&lines);
    }
}

/// Answers a question.
pub(super) fn answer<A: Architecture>(
    architecture: &A,
    request: &Request,
    out: &mut Vec<u8>,
) -> Result<Verdict, ToolError> {
    let mut asked = Asked {
        architecture,
        request,
        out: Output(out),
    };
    match request.verb {
        Verb::List => asked.list(),
        Verb::Show => asked.show(),
        Verb::Compare => asked.compare(),
        Verb::Baseline => asked.baseline(),
        Verb::Explain => asked.explain(),
        Verb::Migratable => asked.migratable(),
    }
}

struct Asked<'a, A> {
    architecture: &'a A,
    request: &'a Request,
    out: Output<'a>,
}

impl<A: Architecture> Asked<'_, A> {
    fn list(&mut self) -> Result<Verdict, ToolError> {
        let hosts = self.hosts(&self.request.hosts)?;
        let mut entries = self.architecture.list(&hosts);
        if self.request.json {
            // As QMP calls the accelerator of this host.
            let names = entries.iter_mut().flat_map(|entry| &mut entry.accelerators);
            names
                .filter(|there| there.name == HERE)
                .for_each(|there| "kvm".clone_into(&mut there.name));
            self.out.json(&json!(entries));
        } else if self.request.features {
            self.list_features(&entries);
        } else if hosts.len() > 1 {
            let columns: Vec<String> = hosts.into_iter().map(|(name, _)| name).collect();
            let cell = |there: &OnHost| yes_or_no(there.runnable).to_owned();
            let rows: Vec<(String, Vec<String>)> = entries
                .iter()
                .map(|entry| (entry.name.to_owned(), entry.accelerators.iter().map(cell).collect()))
                .collect();
            self.matrix(&columns, &rows);
        } else {
            self.list_one(&entries);
        }
        Ok(Verdict::Yes)
    }

    /// One host: a line for each model.
    fn list_one(&mut self, entries: &[Entry]) {
        let name_width = entries
            .iter()
            .map(|entry| entry.name.len())
            .max()
            .unwrap_or_default()
            .max(5);
        self.out
            .line(&format!("{:name_width$}  RUNS  MISSING FROM THE HOST", "MODEL"));
        for entry in entries {
            let runs = entry.accelerators.iter().all(|there| there.runnable);
            let start = format!("{:name_width$}  {:4} ", entry.name, yes_or_no(runs));
            let missing = entry.unavailable_features.as_deref().unwrap_or_default();
            let line = match entry.alias_of {
                Some(target) => format!("{start} is {target}"),
                None if missing.is_empty() => start,
                None => some_of(&format!("{start} {}:", missing.len()), missing, width()),
            };
            self.out.line(line.trim_end());
        }
    }

    /// All that each model lacks on each host.
    fn list_features(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Some(target) = entry.alias_of {
                self.out.line(&format!("{} is {target}", entry.name));
                continue;
            }
            for there in &entry.accelerators {
                let runs = if there.runnable { "runs" } else { "does not run" };
                self.out.line(&format!("{} {runs} on {}", entry.name, there.name));
                if !there.unavailable_features.is_empty() {
                    let missing: Vec<String> = there
                        .unavailable_features
                        .iter()
                        .map(|name| (*name).to_owned())
                        .collect();
                    self.out.names("missing:", &missing);
                }
            }
        }
    }

    fn show(&mut self) -> Result<Verdict, ToolError> {
        let model = self.only_model("show")?;
        let host = self
            .request
            .hosts
            .first()
            .map(|host| self.architecture.host(host))
            .transpose()?;
        let shown = self.architecture.show(&model, host.as_ref(), self.request.full)?;
        if self.request.json {
            self.out.json(&shown.json);
            return Ok(Verdict::Yes);
        }
        self.out.lines(&shown.lines);
        for (what, names) in &shown.names {
            self.out.line(what);
            let lines = wrapped(names.iter().map(String::as_str), "  ", width());
            self.out.lines(&lines);
        }
        Ok(Verdict::Yes)
    }

    fn compare(&mut self) -> Result<Verdict, ToolError> {
        let operands = self.operands()?;
        let [a, b] = operands.as_slice() else {
            return self.compare_all(&operands);
        };
        let relation = self.architecture.relate(a, b)?;
        if self.request.json {
            self.out.json(&relation_json(&relation));
            return Ok(Verdict::Yes);
        }
        self.out.line(relation.result);
        for (what, names) in &relation.lists {
            if !names.is_empty() {
                self.out.names(what, names);
            }
        }
        Ok(Verdict::Yes)
    }

    /// Each with each.
    fn compare_all(&mut self, operands: &[Operand]) -> Result<Verdict, ToolError> {
        let names = operand_labels(operands);
        let relations = operands.iter().map(|a| {
            let relate = |b| self.architecture.relate(a, b);
            operands.iter().map(relate).collect::<Result<Vec<_>, _>>()
        });
        let relations = relations.collect::<Result<Vec<_>, ToolError>>()?;
        if self.request.json {
            let mut list = Vec::new();
            for (a, row) in names.iter().zip(&relations) {
                for (b, relation) in names.iter().zip(row) {
                    let mut entry = relation_json(relation);
                    entry["a"] = json!(a);
                    entry["b"] = json!(b);
                    list.push(entry);
                }
            }
            self.out.json(&json!(list));
            return Ok(Verdict::Yes);
        }
        let rows: Vec<(String, Vec<String>)> = (1..)
            .zip(&relations)
            .map(|(number, row)| {
                let cells = row.iter().map(|relation| relation.result.to_owned());
                (format!("{number} is"), cells.collect())
            })
            .collect();
        self.matrix(&names, &rows);
        Ok(Verdict::Yes)
    }

    fn baseline(&mut self) -> Result<Verdict, ToolError> {
        let Baseline {
            model,
            plain_model,
            props,
        } = self.architecture.baseline(&self.operands()?)?;
        if self.request.json {
            let props: Map<String, Value> = props.iter().map(|(name, on)| ((*name).to_owned(), json!(on))).collect();
            self.out.json(&json!({"model": {"name": model, "props": props}}));
        } else if self.request.xml {
            let xml = libvirt::cpu_xml(A::TARGET, plain_model, props);
            self.out.line(xml.trim_end());
        } else {
            let switch = |(name, on): &(&str, bool)| format!(",{name}={}", if *on { "on" } else { "off" });
            let switches: String = props.iter().map(switch).collect();
            self.out.line(&format!("{model}{switches}"));
        }
        Ok(Verdict::Yes)
    }

    fn explain(&mut self) -> Result<Verdict, ToolError> {
        let model = self.only_model("explain")?;
        let hosts = self.hosts(&self.request.hosts)?;
        let explained = hosts.iter().map(|(name, host)| {
            let explanation = self.architecture.explain(&model, host)?;
            Ok((name.as_str(), explanation))
        });
        let explained = explained.collect::<Result<Vec<_>, ToolError>>()?;
        let runs = explained
            .iter()
            .all(|(_, explanation)| explanation.hindrances.is_empty());
        if self.request.json {
            let list: Vec<Value> = explained
                .iter()
                .map(|(name, explanation)| explanation_json(explanation, (hosts.len() > 1).then_some(*name)))
                .collect();
            match list.as_slice() {
                [only] => self.out.json(only),
                _ => self.out.json(&json!(list)),
            }
            return Ok(verdict(runs));
        }
        for (name, explanation) in &explained {
            self.explain_one(name, explanation);
        }
        Ok(verdict(runs))
    }

    fn explain_one(&mut self, host: &str, explanation: &Explanation) {
        let model = &explanation.model;
        if explanation.hindrances.is_empty() {
            self.out.line(&format!("{model} runs on {host}"));
            return;
        }
        self.out.line(&format!("{model} does not run on {host}, which lacks"));
        for hindrance in &explanation.hindrances {
            self.out.line(&format!("  {}", hindrance.text));
        }
        self.out.line(&match explanation.nearest {
            Some(nearest) => format!("the nearest model that runs is {nearest}"),
            None => "no named model runs".to_owned(),
        });
    }

    fn migratable(&mut self) -> Result<Verdict, ToolError> {
        let model = self.request.cpu.as_ref().map(Operand::resolved).transpose()?;
        if let Some(Operand::Host(_)) = &model {
            return Err(ToolError::Usage("--cpu: a host, not a model".to_owned()));
        }
        let all = self.hosts(&[self.request.from.as_slice(), &self.request.to].concat())?;
        let (from, to) = all.split_at(self.request.from.len());
        let mut moves = Vec::new();
        for (from_name, from) in from {
            for (to_name, to) in to {
                let one = self.architecture.migrate(model.as_ref(), from, to)?;
                moves.push((from_name.as_str(), to_name.as_str(), one));
            }
        }
        let verdict = verdict(moves.iter().all(|(_, _, one)| one.hindrances.is_empty()));
        match (self.request.json, moves.as_slice()) {
            (true, [(_, _, only)]) => self.out.json(&move_json(only)),
            (true, _) => {
                let list = moves.iter().map(|(from, to, one)| {
                    let mut entry = move_json(one);
                    entry["from"] = json!(from);
                    entry["to"] = json!(to);
                    entry
                });
                let list: Value = list.collect();
                self.out.json(&list);
            }
            (false, [_]) => self.tell_moves(&moves),
            (false, _) => {
                let columns: Vec<String> = to.iter().map(|(name, _)| name.clone()).collect();
                let rows: Vec<(String, Vec<String>)> = from
                    .iter()
                    .zip(moves.chunks(to.len().max(1)))
                    .map(|((name, _), row)| {
                        let cells = row
                            .iter()
                            .map(|(_, _, one)| yes_or_no(one.hindrances.is_empty()).to_owned());
                        (format!("from {name} to"), cells.collect())
                    })
                    .collect();
                self.matrix(&columns, &rows);
                self.tell_moves(&moves);
            }
        }
        Ok(verdict)
    }

    fn tell_moves(&mut self, moves: &[(&str, &str, Move)]) {
        for (from, to, one) in moves {
            let model = &one.model;
            if one.hindrances.is_empty() {
                self.out.line(&format!("yes: {model} moves from {from} to {to}"));
            } else if one.blocked_at == "from" {
                self.out
                    .line(&format!("no: {model} does not run on {from}, where it is to come from"));
            } else {
                self.out.line(&format!("no: {model} does not move from {from} to {to}"));
            }
            for hindrance in &one.hindrances {
                self.out.line(&format!("  {}", hindrance.text));
            }
            if let Some(note) = &one.note {
                self.out.line(&format!("  {note}"));
            }
        }
    }

    fn matrix(&mut self, columns: &[String], rows: &[(String, Vec<String>)]) {
        let lines = Matrix { columns, rows }.lines(width());
        self.out.lines(&lines);
    }

    /// Hosts with their names; this one if none is given.
    fn hosts(&self, hosts: &[HostRef]) -> Result<Vec<(String, A::Host)>, ToolError> {
        let here = [HostRef::Here];
        let hosts = if hosts.is_empty() { &here } else { hosts };
        let named = labels(hosts).into_iter().zip(hosts);
        named
            .map(|(name, host)| Ok((name, self.architecture.host(host)?)))
            .collect()
    }

    fn operands(&self) -> Result<Vec<Operand>, ToolError> {
        self.request.operands.iter().map(Operand::resolved).collect()
    }

    /// The model that a question is about; `host` is the model of that name.
    fn only_model(&self, question: &str) -> Result<Operand, ToolError> {
        let operands = self.operands()?;
        match operands.first() {
            Some(Operand::Host(HostRef::Here)) => Ok(Operand::Model("host".to_owned())),
            Some(Operand::Host(HostRef::File(path))) if question == "explain" => {
                Err(ToolError::Usage(format!("{} is a host, not a model", path.display())))
            }
            Some(operand) => Ok(operand.clone()),
            None => Err(ToolError::Usage("one model is needed".to_owned())),
        }
    }
}

fn operand_labels(operands: &[Operand]) -> Vec<String> {
    let hosts: Vec<HostRef> = operands
        .iter()
        .filter_map(|operand| match operand {
            Operand::Host(host) => Some(host.clone()),
            Operand::Model(_) | Operand::Document(_) => None,
        })
        .collect();
    let mut of_hosts = labels(&hosts).into_iter();
    operands
        .iter()
        .map(|operand| match operand {
            Operand::Model(text) => text.clone(),
            Operand::Document(path) => path.display().to_string(),
            Operand::Host(_) => of_hosts.next().unwrap_or_default(),
        })
        .collect()
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn verdict(yes: bool) -> Verdict {
    if yes { Verdict::Yes } else { Verdict::No }
}

fn relation_json(relation: &Relation) -> Value {
    json!({"result": relation.result, "responsible-properties": relation.differing})
}

fn hindrances_json(hindrances: &[Hindrance]) -> Value {
    hindrances.iter().map(|hindrance| hindrance.json.clone()).collect()
}

fn explanation_json(explanation: &Explanation, host: Option<&str>) -> Value {
    let mut answer = json!({
        "runnable": explanation.hindrances.is_empty(),
        "obstacles": hindrances_json(&explanation.hindrances),
        "nearest": explanation.nearest,
    });
    if let Some(model) = &explanation.model_json {
        answer["model"] = model.clone();
    }
    if let Some(host) = host {
        answer["host"] = json!(host);
    }
    answer
}

fn move_json(one: &Move) -> Value {
    let mut answer = json!({"migratable": one.hindrances.is_empty(), "model": one.model_json});
    if !one.hindrances.is_empty() {
        answer["blocked-at"] = json!(one.blocked_at);
        answer["obstacles"] = hindrances_json(&one.hindrances);
    }
    answer
}
