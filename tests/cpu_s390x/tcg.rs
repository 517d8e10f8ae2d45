//! Recorded replies of QEMU's `qemu-system-s390x` about CPU models, asked again.
//!
//! `tests/vectors/s390x/tcg/*.jsonl` hold one request and its reply a line, as QEMU gave them with its own emulation as accelerator,
//! and the states, VERSION-MACHINE, in which it gave them. 10.0.13 is the reference: its replies must come back exactly. The other versions differ in what
//! [`Version::forgive`] names.

use std::collections::{HashMap, HashSet};

use remuda::cpu::s390x::{Compat, Cpus, DefinitionInfo, Error, Expansion, Host, ModelArgument};
use serde_json::{Map, Value, json};

use super::common::{emulated_host, entries, json_lines, model_json, vectors};

/// Which QEMU gave a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V7_2,
    V10_0,
    V11_1,
}

#[test]
fn recorded_replies_come_back() {
    let mut asked = 0;
    let mut wrong = Vec::new();
    let mut left_to_the_schema = 0;
    let states = std::fs::read_to_string(vectors().join("tcg/states.json")).unwrap();
    let states: Map<String, Value> = serde_json::from_str(&states).unwrap();
    let mut recorded = recorded();
    for (state, started) in &states {
        let (version, compat) = read_state(started);
        let host = emulated_host();
        let cpus = Cpus {
            kvm_built_in: false,
            ..Cpus::new(compat, Some(&host))
        };
        let lines = recorded.remove(state).unwrap_or_default();
        let mut seen = HashSet::new();
        lines.iter().for_each(|(_, _, reply)| names(reply, &mut seen));
        for (line, request, reply) in lines {
            let line = format!("{state}, {line}");
            let Some(answer) = ask(&cpus, &host, &request) else {
                left_to_the_schema += 1;
                continue;
            };
            asked += 1;
            let Some((answer, reply)) = version.forgive(&seen, &request, answer, reply) else {
                continue;
            };
            let (answer, reply) = (answer.to_string(), reply.to_string());
            if answer != reply {
                wrong.push(format!(
                    "{line}\n  asked    {request}\n  expected {reply}\n  got      {answer}"
                ));
            }
        }
    }
    let first = wrong.iter().take(4).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        wrong.is_empty(),
        "{} of {asked} differ, the first:\n{first}",
        wrong.len()
    );
    assert!(recorded.is_empty(), "no such states: {:?}", recorded.keys());
    // Ten requests do not get past the schema, in each of the four states that bad requests were made in.
    assert_eq!((asked, left_to_the_schema), (6517, 40));
}

/// How QEMU was started.
fn read_state(state: &Value) -> (Version, Compat) {
    let version = match state["version"].as_str().unwrap() {
        text if text.starts_with("7.2") => Version::V7_2,
        text if text.starts_with("10.0") => Version::V10_0,
        text if text.starts_with("11.1") => Version::V11_1,
        other => panic!("{other}: unknown version"),
    };
    let machine = state["machine"].as_str().unwrap();
    (version, Compat::of_machine(machine).unwrap())
}

/// Our reply; none if the request does not get past the schema.
fn ask(cpus: &Cpus<'_>, host: &Host, request: &Value) -> Option<Value> {
    let arguments = &request["arguments"];
    let result = match request["execute"].as_str().unwrap() {
        "query-cpu-definitions" if arguments.is_null() => {
            let list = cpus.definitions(std::slice::from_ref(host));
            Ok(list.into_iter().filter_map(definition_json).collect())
        }
        "query-cpu-model-expansion" => {
            let kind = match arguments["type"].as_str()? {
                "static" => Expansion::Static,
                "full" => Expansion::Full,
                _ => return None,
            };
            let model = argument(arguments, "model")?;
            cpus.expand(kind, model)
                .map(|info| json!({"deprecated-props": info.deprecated_props, "model": model_json(&info.model)}))
        }
        "query-cpu-model-comparison" => {
            let (a, b) = (argument(arguments, "modela")?, argument(arguments, "modelb")?);
            cpus.compare(a, b).map(
                |info| json!({"result": info.result.as_str(), "responsible-properties": info.responsible_properties}),
            )
        }
        "query-cpu-model-baseline" => {
            let (a, b) = (argument(arguments, "modela")?, argument(arguments, "modelb")?);
            cpus.baseline(a, b).map(|info| json!({"model": model_json(&info)}))
        }
        _ => return None,
    };
    Some(match result {
        Ok(value) => json!({"return": value}),
        Err(error) => error_json(&error),
    })
}

fn argument<'a>(arguments: &'a Value, name: &'a str) -> Option<ModelArgument<'a>> {
    let model = arguments.get(name)?.as_object()?;
    let known = model.keys().all(|key| matches!(key.as_str(), "name" | "props"));
    let argument = ModelArgument {
        name: model.get("name")?.as_str()?,
        props: model.get("props"),
        argument: name,
    };
    known.then_some(argument)
}

/// An entry as today's QEMU has it; other names are ours alone.
fn definition_json(info: DefinitionInfo) -> Option<Value> {
    if info.alias_of.is_some() {
        return None;
    }
    Some(json!({
        "name": info.name,
        "typename": info.typename,
        "unavailable-features": info.unavailable_features?,
        "static": info.is_static,
        "migration-safe": info.migration_safe,
        "deprecated": false,
    }))
}

fn error_json(error: &Error) -> Value {
    json!({"error": {"class": "GenericError", "desc": error.to_string()}})
}

impl Version {
    /// Takes out of both replies what is known to differ; none if nothing is left to compare.
    fn forgive(self, seen: &HashSet<String>, request: &Value, answer: Value, reply: Value) -> Option<(Value, Value)> {
        let mut both = [answer, reply];
        for value in &mut both {
            // QEMU lists definitions in the order of a hash table of types.
            if let Some(list) = value.get_mut("return").and_then(Value::as_array_mut) {
                list.sort_by_key(|entry| entry["name"].to_string());
            }
        }
        // Seed-style names mean something to us.
        if both[1]
            .to_string()
            .contains("The CPU definition '2817-ga2' is unknown.")
        {
            return None;
        }
        let [answer, reply] = both;
        match self {
            Self::V10_0 => Some((answer, reply)),
            Self::V11_1 => {
                if request.to_string().contains("astfleie2") {
                    return None;
                }
                let empty = json!([]);
                let strip = |value: &mut Value| {
                    if let Some(info) = value.get_mut("return").and_then(Value::as_object_mut) {
                        if info.get("deprecated-props") == Some(&empty) {
                            info.shift_remove("deprecated-props");
                        }
                    }
                };
                let (mut answer, mut reply) = (answer, without(reply, &|name| name != "astfleie2"));
                strip(&mut answer);
                strip(&mut reply);
                Some((answer, reply))
            }
            Self::V7_2 => {
                // It named only the end of the path to a value, and knew fewer features.
                let reply = match reply.pointer("/error/desc").and_then(Value::as_str) {
                    Some(text) if text.starts_with("Invalid parameter type") => return None,
                    Some(text) if text.ends_with("not found") && !text.contains("nosuch") => return None,
                    _ => reply,
                };
                let mut answer = without(answer, &|name| seen.contains(name));
                if let Some(info) = answer.get_mut("return").and_then(Value::as_object_mut) {
                    info.shift_remove("deprecated-props");
                }
                if let Some(list) = answer.get_mut("return").and_then(Value::as_array_mut) {
                    list.retain(|entry| !entry["name"].as_str().is_some_and(|name| name.starts_with("gen17")));
                }
                Some((answer, reply))
            }
        }
    }
}

/// A value without the array entries and object members whose name is not `known`.
fn without(value: Value, known: &dyn Fn(&str) -> bool) -> Value {
    match value {
        Value::Array(list) => {
            let kept = list.into_iter().filter(|entry| entry.as_str().is_none_or(known));
            kept.map(|entry| without(entry, known)).collect()
        }
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(name, _)| known(name));
            Value::Object(kept.map(|(name, value)| (name, without(value, known))).collect())
        }
        other => other,
    }
}

/// Every string and member name in the replies.
fn names(value: &Value, into: &mut HashSet<String>) {
    match value {
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Array(list) => list.iter().for_each(|entry| names(entry, into)),
        Value::Object(members) => {
            into.extend(members.keys().cloned());
            members.values().for_each(|value| names(value, into));
        }
        _ => {}
    }
}

/// Every request with its reply, and where it stands, by state.
fn recorded() -> HashMap<String, Vec<(String, Value, Value)>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    let files = entries(&vectors().join("tcg"));
    for path in files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
    {
        let file = path.display().to_string();
        for (number, mut line) in json_lines(&path).into_iter().enumerate() {
            let (request, reply) = (line["request"].take(), line["reply"].take());
            for state in line["states"].as_array().unwrap() {
                let place = format!("{file}:{}", number + 1);
                let vectors = all.entry(state.as_str().unwrap().to_owned()).or_default();
                vectors.push((place, request.clone(), reply.clone()));
            }
        }
    }
    all
}
