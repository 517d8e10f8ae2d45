//! Names that differ on the wire must differ in Rust too.

use std::collections::BTreeMap;

use super::super::error::SchemaError;
use super::super::names::{camel, snake};
use super::super::schema::{TypeDef, TypeKind};
use super::{Definition, Kind};

/// Items that generated code has whatever the schema says.
const TAKEN: &[&str] = &[
    "Call",
    "CommandId",
    "CommandSpec",
    "Error",
    "Event",
    "MonitorCall",
    "MonitorCommands",
    "WorkerCall",
    "WorkerCommands",
];

/// Checks the items that the definitions become.
pub(super) fn check_items(definitions: &[Definition<'_>]) -> Result<(), SchemaError> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for definition in definitions {
        for item in items(definition) {
            if TAKEN.contains(&item.as_str()) {
                let reason = format!("'{}' is a name that generated code needs", definition.name);
                return Err(definition.place().error(reason));
            }
            if let Some(other) = seen.insert(item, &definition.name) {
                let reason = format!("'{}' has the same name in Rust as '{other}'", definition.name);
                return Err(definition.place().error(reason));
            }
        }
    }
    Ok(())
}

/// The names of the Rust items for a definition. Those of commands and events share no space with those of types, but
/// for the structs of their members.
fn items(definition: &Definition<'_>) -> Vec<String> {
    let name = &definition.name;
    match definition.kind {
        Kind::Command => vec![format!("{}Args", camel(name)), format!("command {}", camel(name))],
        Kind::Event => vec![format!("{}Event", camel(name)), format!("event {}", camel(name))],
        Kind::Union => vec![name.clone(), format!("{name}Variant")],
        _ => vec![name.clone()],
    }
}

/// Checks the fields or variants of a type.
pub(super) fn check_inside(ty: &TypeDef) -> Result<(), SchemaError> {
    let names: Vec<(&str, String)> = match &ty.kind {
        TypeKind::Struct(members) => fields(members.iter().map(|member| member.name.as_str())),
        TypeKind::Enum(values) => variants(values.iter().map(|value| value.name.as_str())),
        TypeKind::Union { base, .. } => fields(base.iter().map(|member| member.name.as_str())),
        TypeKind::Alternate(branches) => variants(branches.iter().map(|branch| branch.name.as_str())),
    };
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (wire, rust) in &names {
        if let Some(other) = seen.insert(rust, wire) {
            let reason = format!("'{wire}' of '{}' has the same name in Rust as '{other}'", ty.name);
            return Err(ty.place.error(reason));
        }
    }
    Ok(())
}

fn fields<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, String)> {
    names.map(|name| (name, snake(name))).collect()
}

fn variants<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, String)> {
    names.map(|name| (name, camel(name))).collect()
}
