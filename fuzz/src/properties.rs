//! Properties of objects: a type name on the first line, JSON with its properties after it.

use remuda::qom::Registry;
use remuda::qom::objects::{IoThreadConfig, MemoryBackendConfig, SecretConfig};

/// One object.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (name, json) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(given) = serde_json::from_str(json) else {
        return;
    };
    let registry = Registry::new();
    let Ok(values) = registry.values(name, &given, []) else {
        return;
    };
    let _ = IoThreadConfig::from_values(&values);
    let _ = MemoryBackendConfig::from_values(name, &values);
    let _ = SecretConfig::from_values(&values);
}
