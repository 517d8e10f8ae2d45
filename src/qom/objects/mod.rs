//! The objects that users create with `-object` and `object-add`: their types, and what is asked of each in a checked
//! form.

mod iothread;
mod memory_backend;
mod secret;

pub use iothread::IoThreadConfig;
pub use memory_backend::{MemoryBackendConfig, MemorySource, NumaPolicy, is_memory_backend};
pub use secret::{SecretConfig, SecretError, SecretFormat, SecretSource};

use serde_json::{Map, Value};

use super::Registry;
use super::types::{PropertyInfo, TypeInfo};
use crate::qapi::Error;

/// Every type of this module.
pub(super) fn types() -> impl Iterator<Item = &'static TypeInfo> {
    [iothread::TYPES, memory_backend::TYPES, secret::TYPES]
        .into_iter()
        .flatten()
}

/// Checks the properties of an object that is asked for, before it is made.
///
/// # Errors
/// Names the property that does not exist, does not take its value, or is missing.
pub fn check(type_name: &str, properties: &Map<String, Value>) -> Result<(), Error> {
    let registry = Registry::new();
    registry.check_object_type(type_name)?;
    let values = registry.values(type_name, properties, [])?;
    match type_name {
        "secret" => SecretConfig::from_values(&values).map(drop),
        "iothread" => IoThreadConfig::from_values(&values).map(drop),
        _ => MemoryBackendConfig::from_values(type_name, &values).map(drop),
    }
}

const fn object(
    name: &'static str,
    parent: &'static str,
    is_abstract: bool,
    description: &'static str,
    properties: &'static [PropertyInfo],
) -> TypeInfo {
    TypeInfo {
        name,
        parent: Some(parent),
        is_abstract,
        interfaces: if is_abstract { &[] } else { &["user-creatable"] },
        bus: None,
        user_creatable: false,
        hotpluggable: false,
        description,
        properties,
    }
}

fn missing(name: &str) -> Error {
    Error::generic(format!("Parameter '{name}' is missing"))
}

fn refuses(type_name: &str, name: &str, value: impl std::fmt::Display) -> Error {
    Error::generic(format!("property '{name}' of {type_name} doesn't take value '{value}'"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use crate::qapi::qmp;
    use crate::qom::Registry;
    use crate::target::Target;

    /// The entries of the introspection reply, by name.
    fn schema() -> BTreeMap<String, Value> {
        let entries: Vec<Value> = serde_json::from_slice(qmp::schema_json(Target::X86_64)).unwrap();
        let named = |entry: Value| (entry["name"].as_str().unwrap().to_owned(), entry);
        entries.into_iter().map(named).collect()
    }

    #[test]
    fn the_schema_and_the_registry_offer_the_same_properties() {
        let (schema, registry) = (schema(), Registry::new());
        let options = &schema[schema["object-add"]["arg-type"].as_str().unwrap()];
        for variant in options["variants"].as_array().unwrap() {
            let members = schema[variant["type"].as_str().unwrap()]["members"].as_array().unwrap();
            let offered: BTreeSet<&str> = members.iter().filter_map(|member| member["name"].as_str()).collect();
            let name = variant["case"].as_str().unwrap();
            let properties = registry.properties(name).into_iter();
            let declared: BTreeSet<&str> = properties.filter(|p| p.settable).map(|p| p.name).collect();
            assert_eq!(offered, declared, "{name}");
        }
    }
}
