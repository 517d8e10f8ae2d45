//! `info stats`, `info migrate` and `info memory-devices`.

use serde_json::{Map, Value, json};

use super::info::{items, text};
use super::{Failure, HmpHost};

/// Statistics of the guest (`vm`) or of the vCPU that was chosen (`vcpu`), with what each of them counts.
pub(super) async fn stats(host: &impl HmpHost, cpu: u32, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str);
    let target = argument("target").unwrap_or_default();
    if !["vm", "vcpu"].contains(&target) {
        return Err(Failure::Usage(format!("invalid stats target {target}\n")));
    }
    let mut filter = Map::from_iter([("target".to_owned(), json!(target))]);
    if target == "vcpu" {
        let path = vcpu_path(host, cpu).await?;
        filter.insert("vcpus".to_owned(), json!([path]));
    }
    let names: Option<Vec<&str>> = argument("names")
        .filter(|names| *names != "*")
        .map(|names| names.split(',').collect());
    let mut provider = json!({"provider": argument("provider").unwrap_or("kvm")});
    if let Some(names) = names {
        provider["names"] = json!(names);
    }
    filter.insert("providers".to_owned(), json!([provider]));
    let results = host.qmp("query-stats", filter).await?;
    let schemas = host.qmp("query-stats-schemas", Map::new()).await?;
    let schemas: Vec<&Value> = items(&schemas)
        .iter()
        .filter(|schema| text(schema, "target") == target)
        .flat_map(|schema| schema.get("stats").map(items).unwrap_or_default())
        .collect();
    let mut shown = String::new();
    for result in items(&results) {
        shown += &format!("provider: {}\n", text(result, "provider"));
        for stat in result.get("stats").map(items).unwrap_or_default() {
            let schema = schemas.iter().find(|schema| text(schema, "name") == text(stat, "name"));
            shown += &line(stat, schema.copied());
        }
    }
    Ok(shown)
}

async fn vcpu_path(host: &impl HmpHost, index: u32) -> Result<String, Failure> {
    let cpus = host.qmp("query-cpus-fast", Map::new()).await?;
    let cpu = items(&cpus).iter().find(|cpu| cpu["cpu-index"] == index);
    let cpu = cpu.ok_or_else(|| Failure::Usage("No CPU available\n".into()))?;
    Ok(text(cpu, "qom-path").to_owned())
}

/// `    exits (cumulative): 5`, with the unit where there is one.
fn line(stat: &Value, schema: Option<&Value>) -> String {
    let unit = schema.map(unit).filter(|unit| !unit.is_empty());
    let kind = schema.map_or("unknown", |schema| text(schema, "type"));
    let unit = unit.map(|unit| format!(", {unit}")).unwrap_or_default();
    let value = stat.get("value").unwrap_or(&Value::Null);
    format!("    {} ({kind}{unit}): {value}\n", text(stat, "name"))
}

/// `nanoseconds`, `bytes` and the like, with the power that a value is to be multiplied by.
fn unit(schema: &Value) -> String {
    let unit = text(schema, "unit");
    let exponent = schema.get("exponent").and_then(Value::as_i64).unwrap_or_default();
    let base = schema.get("base").and_then(Value::as_i64).unwrap_or(10);
    match (exponent, base, unit) {
        (0, _, unit) => unit.to_owned(),
        (-9, 10, "seconds") => "nanoseconds".to_owned(),
        (-6, 10, "seconds") => "microseconds".to_owned(),
        (exponent, base, "") => format!("* {base}^{exponent}"),
        (exponent, base, unit) => format!("* {base}^{exponent} {unit}"),
    }
}

/// What keeps a guest from moving.
pub(super) fn migration(reply: &Value) -> String {
    let reasons = reply.get("blocked-reasons").map(items).unwrap_or_default();
    if reasons.is_empty() {
        return String::new();
    }
    let lines = reasons
        .iter()
        .map(|reason| format!("  {}\n", reason.as_str().unwrap_or_default()));
    std::iter::once("Outgoing migration blocked:\n".to_owned())
        .chain(lines)
        .collect()
}

/// Memory that was plugged in.
pub(super) fn memory_devices(reply: &Value) -> String {
    let mut shown = String::new();
    for device in items(reply) {
        let data = device.get("data").unwrap_or(&Value::Null);
        shown += &format!("Memory device [{}]: \"{}\"\n", text(device, "type"), text(data, "id"));
        for (name, value) in data.as_object().into_iter().flatten().filter(|(name, _)| *name != "id") {
            shown += &format!("  {name}: {value}\n");
        }
    }
    shown
}
