//! Object types and their properties, each declared once.
//!
//! `-device`, `device_add`, `object-add`, `device-list-properties`, `qom-list-types` and the help texts all read the
//! [`TypeInfo`]s declared here and beside each device. A [`Registry`] holds those of one binary; [`Values`] is what the
//! properties of one object were set to; a [`Tree`] holds the objects of a running guest.

pub mod base;
mod error;
pub mod help;
pub mod objects;
mod queries;
mod registry;
#[cfg(test)]
mod testing;
pub mod tree;
mod types;
mod values;

pub use error::{PropertyError, TypeError};
pub use registry::{DuplicateType, Registry, Type};
pub use tree::{Object, Tree};
pub use types::{Default, PropertyInfo, PropertyKind, TypeInfo};
pub use values::{GlobalValue, OnOffAuto, PciAddr, Values};
