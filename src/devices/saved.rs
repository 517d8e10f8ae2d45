//! Saved state of devices whose `State` struct is serialisable as it stands.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::DeviceState;

/// The state as [`super::Device::state`] returns it.
pub(crate) fn saved_fields(version: u32, state: &impl Serialize) -> DeviceState {
    match serde_json::to_value(state) {
        Ok(fields) => DeviceState::Versioned { version, fields },
        Err(_) => DeviceState::NonMigratable("its state cannot be written down"),
    }
}

/// The state as [`super::Device::restore`] takes it: `versions` are that of the fields and the one that is known.
///
/// # Errors
/// Names the device, and what is wrong with the version or a field.
pub(crate) fn restore_fields<S: DeserializeOwned>(
    device: &str,
    versions: (u32, u32),
    fields: &Value,
) -> Result<S, String> {
    let (version, known) = versions;
    if version != known {
        return Err(format!("version {version} of {device} is not known"));
    }
    S::deserialize(fields).map_err(|error| format!("{device}: {error}"))
}
