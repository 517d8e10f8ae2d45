//! The reply to `query-command-line-options`.

use serde_json::{Value, json};

use super::option::{Group, Parameter};
use super::table::options;
use crate::qom::{Default, PropertyInfo, PropertyKind};
use crate::target::Target;

/// Every group of parameters that the binary for `target` takes, in the form of QAPI's `CommandLineOptionInfo`.
/// `machine_properties` are those of all machine types together; they are what `-machine` takes.
#[must_use]
pub fn command_line_options<'a>(
    target: Target,
    machine_properties: impl Iterator<Item = &'a PropertyInfo>,
) -> Vec<Value> {
    let machine_properties: Vec<Value> = machine_properties
        .filter(|property| property.settable)
        .map(machine_parameter)
        .collect();
    let mut seen: Vec<&str> = Vec::new();
    let mut reply = Vec::new();
    for group in options()
        .filter(|option| option.targets.include(target))
        .filter_map(|option| option.group)
    {
        if seen.contains(&group.name) {
            continue;
        }
        seen.push(group.name);
        let parameters = match group.name {
            "machine" => machine_properties.clone(),
            _ => parameters(group),
        };
        reply.push(json!({"option": group.name, "parameters": parameters}));
    }
    reply
}

fn parameters(group: &Group) -> Vec<Value> {
    group.parameters.iter().map(parameter).collect()
}

fn parameter(parameter: &Parameter) -> Value {
    let mut info = json!({"name": parameter.name, "type": parameter.kind.as_str()});
    if !parameter.help.is_empty() {
        info["help"] = json!(parameter.help);
    }
    info
}

fn machine_parameter(property: &PropertyInfo) -> Value {
    let kind = match property.kind {
        PropertyKind::Bool => "boolean",
        PropertyKind::Size => "size",
        PropertyKind::Uint8
        | PropertyKind::Uint16
        | PropertyKind::Uint32
        | PropertyKind::Uint64
        | PropertyKind::Int32
        | PropertyKind::Int => "number",
        _ => "string",
    };
    let mut info = json!({"name": property.name, "type": kind});
    if !property.description.is_empty() {
        info["help"] = json!(property.description);
    }
    let default = match property.default {
        Default::None => None,
        Default::Bool(on) => Some(if on { "on".to_owned() } else { "off".to_owned() }),
        Default::Uint(number) => Some(number.to_string()),
        Default::Int(number) => Some(number.to_string()),
        Default::Str(text) => Some(text.to_owned()),
    };
    if let Some(default) = default {
        info["default"] = json!(default);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_once_and_only_what_is_taken() {
        let hpet = PropertyInfo::new("hpet", PropertyKind::Bool, Default::Bool(true), "");
        let reply = command_line_options(Target::X86_64, [hpet].iter());
        let names: Vec<&str> = reply.iter().filter_map(|entry| entry["option"].as_str()).collect();
        for wanted in [
            "sandbox",
            "machine",
            "memory",
            "smp-opts",
            "boot-opts",
            "rtc",
            "chardev",
            "mon",
            "add-fd",
        ] {
            assert_eq!(names.iter().filter(|name| **name == wanted).count(), 1, "{wanted}");
        }
        for unwanted in ["drive", "spice", "fsdev", "vnc"] {
            assert!(!names.contains(&unwanted), "{unwanted}");
        }
        let machine = reply.iter().find(|entry| entry["option"] == "machine").unwrap();
        assert_eq!(
            machine["parameters"],
            json!([{"name": "hpet", "type": "boolean", "default": "on"}])
        );
        let memory = reply.iter().find(|entry| entry["option"] == "memory").unwrap();
        assert_eq!(memory["parameters"][0]["type"], "size");
    }

    #[test]
    fn smbios_is_for_x86() {
        let reply = command_line_options(Target::S390x, [].iter());
        assert!(!reply.iter().any(|entry| entry["option"] == "smbios"));
    }
}
