//! The objects that users create with `-object` and `object-add`: their types, and what is asked of each in a checked
//! form.

mod iothread;
mod memory_backend;
mod secret;

pub use iothread::IoThreadConfig;
pub use memory_backend::{MemoryBackendConfig, MemorySource, NumaPolicy};
pub use secret::{SecretConfig, SecretError, SecretFormat, SecretSource};

use super::types::{PropertyInfo, TypeInfo};
use crate::qapi::Error;

/// Every type of this module.
pub(super) fn types() -> impl Iterator<Item = &'static TypeInfo> {
    [iothread::TYPES, memory_backend::TYPES, secret::TYPES]
        .into_iter()
        .flatten()
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
