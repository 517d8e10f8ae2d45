//! `rng-builtin` and `rng-random`: where a guest's random bytes come from.

use std::path::PathBuf;

use super::object;
use crate::qom::types::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::qom::values::Values;

/// What all of them inherit from: devices refer to them by it.
pub const RNG_BACKEND: &str = "rng-backend";

const RANDOM: [PropertyInfo; 1] = [PropertyInfo::new(
    "filename",
    PropertyKind::String,
    Default::Str("/dev/urandom"),
    "The file, device or pipe",
)];

/// `rng-backend`, `rng-builtin` and `rng-random`.
pub(super) static TYPES: &[TypeInfo] = &[
    object(
        RNG_BACKEND,
        "object",
        true,
        "",
        &[PropertyInfo::read_only("opened", PropertyKind::Bool, "")],
    ),
    object("rng-builtin", RNG_BACKEND, false, "Random bytes of the host", &[]),
    object("rng-random", RNG_BACKEND, false, "Random bytes from a file", &RANDOM),
];

/// What is asked of one source of random bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RngConfig {
    /// The host's own generator.
    Builtin,
    /// A file, device or pipe.
    File(PathBuf),
}

impl RngConfig {
    /// What is asked of an object of `type_name`; none of a type that is no such source.
    #[must_use]
    pub fn from_values(type_name: &str, values: &Values) -> Option<Self> {
        match type_name {
            "rng-builtin" => Some(Self::Builtin),
            "rng-random" => Some(Self::File(values.text("filename").unwrap_or_default().into())),
            _ => None,
        }
    }
}
