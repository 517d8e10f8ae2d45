//! QOM types of CPUs and their properties.

use std::borrow::Cow;

use super::tables::{ALIASES, FEATURES, Property, SCALARS, ScalarInfo, ScalarKind, TYPES};
use super::{Model, props};
use crate::qom::{Default, PropertyInfo, PropertyKind, Type};

/// The abstract type all models inherit from.
pub const CPU: &str = "x86_64-cpu";

/// Properties of every CPU that are neither features nor plain values of the tables.
const OTHERS: [PropertyInfo; 13] = [
    PropertyInfo::read_only("memory", PropertyKind::Link("memory-region"), ""),
    PropertyInfo::new("start-powered-off", PropertyKind::Bool, Default::None, ""),
    PropertyInfo::new("family", PropertyKind::Int, Default::None, ""),
    PropertyInfo::new("model", PropertyKind::Int, Default::None, ""),
    PropertyInfo::new("stepping", PropertyKind::Int, Default::None, ""),
    PropertyInfo::new("vendor", PropertyKind::String, Default::None, ""),
    PropertyInfo::new("model-id", PropertyKind::String, Default::None, ""),
    PropertyInfo::new("tsc-frequency", PropertyKind::Int, Default::None, ""),
    PropertyInfo::read_only("feature-words", PropertyKind::Other("X86CPUFeatureWordInfo"), ""),
    PropertyInfo::read_only("filtered-features", PropertyKind::Other("X86CPUFeatureWordInfo"), ""),
    PropertyInfo::read_only("unavailable-features", PropertyKind::Other("strList"), ""),
    PropertyInfo::read_only("crash-information", PropertyKind::Other("GuestPanicInformation"), ""),
    PropertyInfo::read_only("legacy-memory", PropertyKind::Str, ""),
];

/// The types of CPUs; `host` is there where an accelerator can pass its processor through.
#[must_use]
pub fn types(with_host: bool) -> Vec<Type> {
    let base = Type {
        is_abstract: true,
        properties: Cow::Owned(common_properties()),
        ..Type::child(CPU, "cpu")
    };
    let max = Type {
        properties: Cow::Owned(scalars(|info| info.only_max).collect()),
        ..Type::child(Model::Max.typename(), CPU)
    };
    let mut types = vec![base, max, Type::child(Model::Base.typename(), CPU)];
    if with_host {
        types.push(Type::child(Model::Host.typename(), Model::Max.typename()));
    }
    types.extend(TYPES.iter().map(|model_type| Type::child(model_type.typename, CPU)));
    types
}

/// The properties of a model's type, those of every CPU included.
#[must_use]
pub fn properties(model: Model) -> Vec<PropertyInfo> {
    let mut properties = common_properties();
    if model.is_max() {
        properties.extend(scalars(|info| info.only_max));
    }
    properties
}

fn common_properties() -> Vec<PropertyInfo> {
    let features = FEATURES.iter().map(|(name, _)| switch(name));
    let aliases = ALIASES.iter().map(|(alias, proper)| match props::find(proper) {
        Some(Property::Scalar(id)) => PropertyInfo {
            name: alias,
            ..scalar(&SCALARS[id.0])
        },
        _ => switch(alias),
    });
    OTHERS
        .into_iter()
        .chain(features)
        .chain(scalars(|info| !info.only_max))
        .chain(aliases)
        .collect()
}

const fn switch(name: &'static str) -> PropertyInfo {
    PropertyInfo::new(name, PropertyKind::Bool, Default::None, "")
}

fn scalars(wanted: fn(&ScalarInfo) -> bool) -> impl Iterator<Item = PropertyInfo> {
    SCALARS.iter().filter(move |info| wanted(info)).map(scalar)
}

fn scalar(info: &ScalarInfo) -> PropertyInfo {
    let number = || Default::Uint(info.initial.unsigned_abs());
    let (kind, default, description) = match info.kind {
        ScalarKind::Bool => (PropertyKind::Bool, Default::Bool(info.initial != 0), "on/off"),
        ScalarKind::Uint8 => (PropertyKind::Uint8, number(), ""),
        ScalarKind::Uint16 => (PropertyKind::Uint16, number(), ""),
        ScalarKind::Uint32 => (PropertyKind::Uint32, number(), ""),
        ScalarKind::Uint64 => (PropertyKind::Uint64, number(), ""),
        ScalarKind::Int32 => (PropertyKind::Int32, Default::Int(info.initial), ""),
        ScalarKind::OnOffAuto => (PropertyKind::OnOffAuto, Default::Str("off"), "on/off/auto"),
        ScalarKind::Str => (PropertyKind::Str, Default::None, ""),
    };
    let default = if info.shows_default { default } else { Default::None };
    PropertyInfo::new(info.name, kind, default, description)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::qom::Registry;

    fn record(command: &str, typename: &str) -> BTreeMap<String, Value> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/x86/spr-kvm-none.special.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut wanted = records.filter(|record| {
            record["request"]["execute"] == command && record["request"]["arguments"]["typename"] == typename
        });
        by_name(wanted.next().unwrap()["reply"]["return"].as_array().unwrap())
    }

    fn by_name(list: &[Value]) -> BTreeMap<String, Value> {
        list.iter()
            .map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry.clone()))
            .collect()
    }

    #[test]
    fn types_have_the_properties_recorded() {
        let mut registry = Registry::new();
        registry.add(types(true)).unwrap();
        for typename in ["max-x86_64-cpu", "host-x86_64-cpu", "qemu64-x86_64-cpu"] {
            let made = by_name(&registry.list_device_properties(typename).unwrap());
            assert_eq!(made, record("device-list-properties", typename), "{typename}");
        }
    }

    #[test]
    fn types_are_those_recorded() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/x86/spr-kvm-none.special.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut registry = Registry::new();
        registry.add(types(true)).unwrap();
        for record in records.filter(|record| record["request"]["execute"] == "qom-list-types") {
            let with_abstract = record["request"]["arguments"]["abstract"] == true;
            let made = by_name(&registry.list_types(Some(CPU), with_abstract));
            assert_eq!(made, by_name(record["reply"]["return"].as_array().unwrap()));
        }
    }
}
