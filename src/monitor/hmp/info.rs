//! What the topics of `info` show, from the replies of QMP queries.

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Value};

use super::{Failure, HmpHost};
use crate::qapi::Error;

/// How deep a tree of objects is shown.
const MAX_TREE_DEPTH: usize = 64;

pub(super) fn status(reply: &Value) -> String {
    let status = text(reply, "status");
    if reply.get("running").and_then(Value::as_bool) == Some(true) {
        return "VM status: running\n".into();
    }
    match status {
        "paused" => "VM status: paused\n".into(),
        other => format!("VM status: paused ({other})\n"),
    }
}

pub(super) fn version(reply: &Value) -> String {
    let part = |name| {
        reply
            .pointer(&format!("/qemu/{name}"))
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let package = text(reply, "package");
    format!("{}.{}.{}{package}\n", part("major"), part("minor"), part("micro"))
}

pub(super) fn name(reply: &Value) -> String {
    optional_line(text(reply, "name"))
}

pub(super) fn uuid(reply: &Value) -> String {
    optional_line(text(reply, "UUID"))
}

pub(super) fn kvm(reply: &Value) -> String {
    let flag = |name| reply.get(name).and_then(Value::as_bool) == Some(true);
    let state = match (flag("present"), flag("enabled")) {
        (true, true) => "enabled",
        (true, false) => "disabled",
        (false, _) => "not compiled",
    };
    format!("kvm support: {state}\n")
}

pub(super) fn cpus(reply: &Value, chosen: Option<i64>) -> String {
    let chosen = chosen.unwrap_or_default();
    let line = |cpu: &Value| {
        let index = number(cpu, "cpu-index");
        let mark = if index == chosen { '*' } else { ' ' };
        format!("{mark} CPU #{index}: thread_id={}\n", number(cpu, "thread-id"))
    };
    items(reply).iter().map(line).collect()
}

pub(super) fn chardev(reply: &Value) -> String {
    let line = |chardev: &Value| format!("{}: filename={}\n", text(chardev, "label"), text(chardev, "filename"));
    items(reply).iter().map(line).collect()
}

pub(super) fn iothreads(reply: &Value) -> String {
    let mut shown = String::new();
    for thread in items(reply) {
        shown += &format!("{}:\n  thread_id={}\n", text(thread, "id"), number(thread, "thread-id"));
        for name in ["poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"] {
            shown += &format!("  {name}={}\n", number(thread, name));
        }
    }
    shown
}

pub(super) fn memdev(reply: &Value) -> String {
    let mut shown = String::new();
    for memory in items(reply) {
        shown += &format!(
            "memory backend: {}\n  size:  {}\n",
            text(memory, "id"),
            plain(memory.get("size"))
        );
        for name in ["merge", "dump", "prealloc", "share", "reserve"] {
            if let Some(value) = memory.get(name) {
                shown += &format!("  {name}: {value}\n");
            }
        }
        let nodes: Vec<String> = memory
            .get("host-nodes")
            .map(items)
            .unwrap_or_default()
            .iter()
            .map(Value::to_string)
            .collect();
        shown += &format!(
            "  policy: {}\n  host nodes: {}\n",
            text(memory, "policy"),
            nodes.join(",")
        );
    }
    shown.push('\n');
    shown
}

pub(super) fn memory_size(reply: &Value) -> String {
    let mut shown = format!("base memory: {}\n", plain(reply.get("base-memory")));
    if let Some(plugged) = reply.get("plugged-memory") {
        shown += &format!("plugged memory: {plugged}\n");
    }
    shown
}

/// The NUMA nodes with their CPUs and memory, none of which was plugged in.
pub(super) fn numa(nodes: &Value, cpus: &Value) -> String {
    let mut shown = format!("{} nodes\n", items(nodes).len());
    for entry in items(nodes) {
        let node = number(entry, "node");
        let belongs = |cpu: &&Value| cpu["props"]["node-id"] == node;
        let cpus = items(cpus).iter().filter(belongs);
        let cpus: String = cpus.map(|cpu| format!(" {}", number(cpu, "cpu-index"))).collect();
        shown += &format!("node {node} cpus:{cpus}\n");
        shown += &format!("node {node} size: {} MB\n", number(entry, "size") >> 20);
        shown += &format!("node {node} plugged: 0 MB\n");
    }
    shown
}

pub(super) fn hotpluggable_cpus(reply: &Value) -> String {
    let mut shown = "Hotpluggable CPUs:\n".to_owned();
    for cpu in items(reply) {
        shown += &format!("  type: \"{}\"\n", text(cpu, "type"));
        shown += &format!("  vcpus_count: \"{}\"\n", number(cpu, "vcpus-count"));
        if let Some(path) = cpu.get("qom-path").and_then(Value::as_str) {
            shown += &format!("  qom_path: \"{path}\"\n");
        }
        shown += "  CPUInstance Properties:\n";
        for (name, value) in cpu.get("props").and_then(Value::as_object).into_iter().flatten() {
            shown += &format!("    {name}: \"{value}\"\n");
        }
    }
    shown
}

pub(super) fn block(reply: &Value) -> String {
    let mut shown = String::new();
    for device in items(reply) {
        let medium = device.get("inserted");
        let node = medium.map(|medium| text(medium, "node-name")).unwrap_or_default();
        let names = [text(device, "device"), node, text(device, "qdev")];
        shown += names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        match medium {
            Some(medium) => {
                let read_only = if medium.get("ro") == Some(&Value::Bool(true)) {
                    ", read-only"
                } else {
                    ""
                };
                shown += &format!(": {} ({}{read_only})\n", text(medium, "file"), text(medium, "drv"));
            }
            None => shown += ": [not inserted]\n",
        }
        if let Some(qdev) = device.get("qdev").and_then(Value::as_str) {
            shown += &format!("    Attached to:      {qdev}\n");
        }
        if device.get("removable") == Some(&Value::Bool(true)) {
            let locked = if device.get("locked") == Some(&Value::Bool(true)) {
                ""
            } else {
                "not "
            };
            let tray = if device.get("tray_open") == Some(&Value::Bool(true)) {
                "open"
            } else {
                "closed"
            };
            shown += &format!("    Removable device: {locked}locked, tray {tray}\n");
        }
        if let Some(cache) = medium.and_then(|medium| medium.get("cache")) {
            let on = |name| cache.get(name) == Some(&Value::Bool(true));
            let mode = if on("writeback") { "writeback" } else { "writethrough" };
            let direct = if on("direct") { ", direct" } else { "" };
            let unsafe_ = if on("no-flush") { ", ignore flushes" } else { "" };
            shown += &format!("    Cache mode:       {mode}{direct}{unsafe_}\n");
        }
    }
    shown
}

pub(super) fn blockstats(reply: &Value) -> String {
    let mut shown = String::new();
    for device in items(reply) {
        shown += &format!("{}:", text(device, "device"));
        for (name, value) in device.get("stats").and_then(Value::as_object).into_iter().flatten() {
            if value.is_number() {
                shown += &format!(" {name}={value}");
            }
        }
        shown.push('\n');
    }
    shown
}

/// The objects below `path`, `/machine` if it is empty.
pub(super) async fn qom_tree(host: &impl HmpHost, path: &str) -> Result<String, Failure> {
    let path = if path.is_empty() { "/machine" } else { path };
    let name = path.rsplit('/').next().unwrap_or_default();
    let kind = object_type(host, path).await;
    let kind = kind.map_err(|_| Failure::Usage(format!("Path '{path}' could not be resolved.\n")))?;
    let mut shown = String::new();
    subtree(host, path.trim_end_matches('/'), name, &kind, 0, &mut shown).await?;
    Ok(shown)
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

fn subtree<'a>(
    host: &'a impl HmpHost,
    path: &'a str,
    name: &'a str,
    kind: &'a str,
    depth: usize,
    shown: &'a mut String,
) -> Boxed<'a> {
    Box::pin(async move {
        // Writing to a text does not fail.
        let _ = writeln!(shown, "{:indent$}/{name} ({kind})", "", indent = 2 * depth);
        if depth >= MAX_TREE_DEPTH {
            return Ok(());
        }
        let properties = list(host, path).await?;
        let mut children: Vec<(&str, &str)> = items(&properties).iter().filter_map(child).collect();
        children.sort_unstable();
        for (name, kind) in children {
            subtree(host, &format!("{path}/{name}"), name, kind, depth + 1, shown).await?;
        }
        Ok(())
    })
}

/// The name and type of a property that is a child.
fn child(property: &Value) -> Option<(&str, &str)> {
    let kind = text(property, "type").strip_prefix("child<")?.strip_suffix('>')?;
    Some((text(property, "name"), kind))
}

async fn list(host: &impl HmpHost, path: &str) -> Result<Value, Error> {
    let path = if path.is_empty() { "/" } else { path };
    host.qmp("qom-list", Map::from_iter([("path".to_owned(), path.into())]))
        .await
}

async fn object_type(host: &impl HmpHost, path: &str) -> Result<String, Error> {
    let arguments = [("path".to_owned(), path.into()), ("property".to_owned(), "type".into())];
    let kind = host.qmp("qom-get", Map::from_iter(arguments)).await?;
    Ok(kind.as_str().unwrap_or_default().to_owned())
}

/// The elements of a list; none for anything else.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A member that is a text; nothing if it is not there.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a number; zero if it is not there.
pub(super) fn number(value: &Value, name: &str) -> i64 {
    value.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn plain(value: Option<&Value>) -> String {
    value.map(Value::to_string).unwrap_or_default()
}

fn optional_line(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{text}\n")
    }
}
