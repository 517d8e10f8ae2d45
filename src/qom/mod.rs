//! Object types and their properties, each declared once.
//!
//! `-device`, `device_add`, `object-add`, `device-list-properties`, `qom-list-types` and the help texts all read the
//! [`TypeInfo`]s declared here and beside each device.

pub mod text;
mod types;

pub use types::{Default, PropertyInfo, PropertyKind, TypeInfo};
