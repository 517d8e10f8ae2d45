//! The objects that users create with `-object` and `object-add`: their types, and what is asked of each in a checked
//! form.

mod iothread;
mod memory_backend;
mod rng;
mod secret;

pub use iothread::{IoThreadConfig, IoThreadError};
pub use memory_backend::{
    FileAccess, MemoryBackendConfig, MemoryBackendError, MemorySource, NumaPolicy, is_memory_backend,
};
pub use rng::{RNG_BACKEND, RngConfig};
pub use secret::{SecretConfig, SecretError, SecretFormat, SecretSource};

use serde_json::{Map, Value};

use super::Registry;
use super::types::{PropertyInfo, PropertyKind, TypeInfo};
use crate::qapi::text;
use crate::qom::PropertyError;

/// Every type of this module.
pub(super) fn types() -> impl Iterator<Item = &'static TypeInfo> {
    [iothread::TYPES, memory_backend::TYPES, rng::TYPES, secret::TYPES]
        .into_iter()
        .flatten()
}

/// How the properties of an object were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `key=value,...`.
    Text,
    /// JSON.
    Json,
}

/// Checks the form of the properties of an object that is asked for. What they mean together is found out when it is
/// made.
///
/// # Errors
/// Names the property that does not exist, does not take its value, or is missing.
pub fn check(type_name: &str, properties: &Map<String, Value>, form: Form) -> Result<(), PropertyError> {
    let registry = Registry::new();
    registry.check_object_type(type_name)?;
    for (name, value) in properties {
        let kind = registry.property(type_name, name).map(|property| property.kind);
        if let Some(complaint) = complaint(name, kind, value, form) {
            return Err(complaint);
        }
    }
    registry.values(type_name, properties, [])?;
    let is_memory = registry.is_a(type_name, "memory-backend");
    for required in ["size", "mem-path"] {
        let is_known = registry.property(type_name, required).is_some();
        if is_memory && is_known && !properties.contains_key(required) {
            return Err(PropertyError::Missing(required));
        }
    }
    Ok(())
}

/// What QEMU's readers of objects say that those of devices say otherwise.
fn complaint(name: &str, kind: Option<PropertyKind>, value: &Value, form: Form) -> Option<PropertyError> {
    let is_id = name == "id" || name == "qom-type";
    let Some(kind) = kind else {
        return (form == Form::Text && !is_id).then(|| PropertyError::Invalid(name.to_owned()));
    };
    let text = value.as_str()?;
    let expects = |what| Some(PropertyError::expects(name, what));
    let wrong_type = |expected| Some(PropertyError::wrong_type(name, expected));
    match (kind, form) {
        (PropertyKind::Int, Form::Text) if text::parse_int(text).is_err() => expects("an int64 value"),
        (PropertyKind::Uint32 | PropertyKind::Uint64, Form::Text) if text::parse_uint(text).is_err() => {
            expects("a uint64 value")
        }
        (PropertyKind::Int, Form::Json) => wrong_type("integer"),
        (PropertyKind::Bool, Form::Json) => wrong_type("boolean"),
        (PropertyKind::ByteSize | PropertyKind::Uint32 | PropertyKind::Uint64, Form::Json) => expects("uint64"),
        _ => None,
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
