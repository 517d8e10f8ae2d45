//! `-machine`, `-cpu`, `-smp`, `-numa`, and what names the guest.

use serde_json::{Map, Value, json};

use super::builder::Builder;
use super::config::HelpRequest;
use super::error::Error;
use super::opts::Opts;
use super::smp::{Levels, SmpRequest};
use super::{boot, keyval, memory};
use crate::qapi::text;

/// `-machine`.
pub(super) fn apply(builder: &mut Builder, mut map: Map<String, Value>) -> Result<(), Error> {
    let wants_help = map.remove("help").is_some();
    let name = map.get("type").and_then(Value::as_str);
    if name.is_some_and(text::is_help) || (wants_help && name.is_none() && builder.machine.get("type").is_none()) {
        builder.request_help(HelpRequest::Machines);
    } else if wants_help {
        let name = name.map(str::to_owned);
        builder.request_help(HelpRequest::Machine(name));
    }
    keyval::merge(&mut builder.machine, map)
}

/// Adds keys to one section of the machine properties, such as `smp`.
pub(super) fn merge_section(builder: &mut Builder, section: &str, map: Map<String, Value>) -> Result<(), Error> {
    let mut outer = Map::new();
    outer.insert(section.to_owned(), Value::Object(map));
    keyval::merge(&mut builder.machine, outer)
}

/// `-smp`.
pub(super) fn apply_smp(builder: &mut Builder, map: Map<String, Value>) -> Result<(), Error> {
    merge_section(builder, "smp", map)
}

/// `-no-acpi`, which QEMU had up to 8.2.
pub(super) fn apply_no_acpi(builder: &mut Builder) -> Result<(), Error> {
    builder.machine.insert("acpi".to_owned(), json!("off"));
    Ok(())
}

/// `-no-hpet`, which QEMU had up to 8.2.
pub(super) fn apply_no_hpet(builder: &mut Builder) -> Result<(), Error> {
    builder.machine.insert("hpet".to_owned(), json!("off"));
    Ok(())
}

/// `-usb`.
pub(super) fn apply_usb(builder: &mut Builder) -> Result<(), Error> {
    builder.machine.insert("usb".to_owned(), json!("on"));
    Ok(())
}

/// `-cpu`.
pub(super) fn apply_cpu(builder: &mut Builder, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::new("-cpu option cannot be empty"));
    }
    if text::is_help(text) {
        builder.request_help(HelpRequest::Cpus);
    }
    builder.config.machine.cpu = Some(text.to_owned());
    Ok(())
}

/// `-numa`.
pub(super) fn apply_numa(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let kinds = ["node", "dist", "cpu", "hmat-lb", "hmat-cache"];
    let kind = opts.get("type").ok_or_else(|| Error::missing("type"))?;
    if !kinds.contains(&kind) {
        return Err(Error::invalid_value("type", kind));
    }
    let entry = builder.entry(opts);
    builder.config.machine.numa.push(entry);
    Ok(())
}

/// `-name`.
pub(super) fn apply_name(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    if let Some(guest) = opts.get("guest") {
        builder.config.machine.name = Some(guest.to_owned());
    }
    if let Some(process) = opts.get("process") {
        builder.config.process_name = Some(process.to_owned());
    }
    if let Some(on) = opts.boolean("debug-threads") {
        builder.config.machine.debug_threads = on;
    }
    Ok(())
}

/// `-uuid`.
pub(super) fn apply_uuid(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    let uuid = text::parse_uuid(argument).ok_or_else(|| Error::new("failed to parse UUID string: wrong format"))?;
    builder.config.machine.uuid = Some(uuid);
    Ok(())
}

/// `-overcommit`.
pub(super) fn apply_overcommit(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    if let Some(on) = opts.boolean("mem-lock") {
        builder.config.machine.mem_lock = on;
    }
    if let Some(on) = opts.boolean("cpu-pm") {
        builder.config.machine.cpu_pm = on;
    }
    Ok(())
}

/// `-nodefaults`.
pub(super) fn apply_nodefaults(builder: &mut Builder) -> Result<(), Error> {
    builder.config.machine.no_defaults = true;
    Ok(())
}

/// Sorts the machine properties into the parts of the configuration.
pub(super) fn finish(builder: &mut Builder) -> Result<(), Error> {
    if builder.config.probe {
        let name = builder.machine.entry("type").or_insert(json!("none"));
        if name != "none" {
            return Err(Error::new("-probe runs no guest and needs no -machine"));
        }
    }
    let smp = take_section(builder, "smp")?;
    builder.config.machine.smp = SmpRequest::from_map(&smp)?.complete(Levels::of(builder.config.target))?;
    let memory = take_section(builder, "memory")?;
    let backend = builder.machine.get("memory-backend").and_then(Value::as_str);
    let backend_size = backend.and_then(|id| memory::backend_size(&builder.config.machine.objects, id));
    builder.config.machine.memory = memory::complete(&memory, backend_size)?;
    let boot = take_section(builder, "boot")?;
    builder.config.machine.boot = boot::complete(&boot)?;
    boot::finish_kernel(builder)?;
    memory::add_backend(builder, memory.get("size").is_some_and(|size| size != "0"))?;
    let kind = builder.machine.shift_remove("type");
    builder.config.machine.machine_type = kind.as_ref().and_then(Value::as_str).map(str::to_owned);
    Ok(())
}

fn take_section(builder: &mut Builder, name: &str) -> Result<Map<String, Value>, Error> {
    match builder.machine.shift_remove(name) {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(Error::new(format!(
            "Invalid parameter type for '{name}', expected: object"
        ))),
    }
}

/// Machine properties as dotted keys and texts.
pub(super) fn flatten(map: Map<String, Value>) -> Vec<(String, String)> {
    let mut props = Vec::new();
    for (key, value) in map {
        flatten_value(key, value, &mut props);
    }
    props
}

fn flatten_value(key: String, value: Value, props: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => map
            .into_iter()
            .for_each(|(name, value)| flatten_value(format!("{key}.{name}"), value, props)),
        Value::Array(list) => list
            .into_iter()
            .enumerate()
            .for_each(|(index, value)| flatten_value(format!("{key}.{index}"), value, props)),
        Value::String(text) => props.push((key, text)),
        other => props.push((key, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn machine_options_merge_and_keep_their_order() {
        let machine = config(&[
            "-machine",
            "pc-q35-7.2,usb=off,dump-guest-core=off",
            "-M",
            "hpet=off,usb=on",
        ])
        .machine;
        assert_eq!(machine.machine_type.as_deref(), Some("pc-q35-7.2"));
        let props: Vec<String> = machine.machine_props.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(props, ["usb=on", "dump-guest-core=off", "hpet=off"]);
        assert_eq!(message(&["-machine", "=x"]), "-machine =x: Invalid parameter ''");
        assert_eq!(
            message(&["-machine", "q35,a.b=c", "-machine", "a=d"]),
            "-machine a=d: Parameters 'a.*' used inconsistently"
        );
        assert_eq!(config(&["-no-acpi", "-no-hpet"]).machine.machine_props.len(), 2);
    }

    #[test]
    fn help_for_machines_and_cpus() {
        assert!(matches!(help(&["-M", "help"]), HelpRequest::Machines));
        assert!(matches!(help(&["-M", "q35,help"]), HelpRequest::Machine(Some(name)) if name == "q35"));
        assert!(matches!(help(&["-cpu", "?"]), HelpRequest::Cpus));
    }

    #[test]
    fn names_and_numbers() {
        let machine = config(&[
            "-name",
            "guest=tq,debug-threads=on",
            "-uuid",
            "22222222-2222-4222-8222-2222222222Ab",
            "-overcommit",
            "mem-lock=on",
            "-numa",
            "node,nodeid=0,cpus=0-1,cpus=3,memdev=ram0",
        ])
        .machine;
        assert_eq!(
            (machine.name.as_deref(), machine.debug_threads, machine.mem_lock),
            (Some("tq"), true, true)
        );
        assert_eq!(machine.uuid.unwrap()[15], 0xab);
        assert_eq!(machine.numa[0].parameters["cpus"], json!(["0-1", "3"]));
        assert_eq!(
            message(&["-uuid", "x"]),
            "-uuid x: failed to parse UUID string: wrong format"
        );
        assert_eq!(
            message(&["-numa", "foo"]),
            "-numa foo: Parameter 'type' does not accept value 'foo'"
        );
    }
}
