//! Properties of objects: a type name on the first line, JSON with its properties after it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use remuda::qom::Registry;
use remuda::qom::objects::{IoThreadConfig, MemoryBackendConfig, SecretConfig};

fuzz_target!(|text: &str| {
    let (name, json) = text.split_once('\n').unwrap_or((text, ""));
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
});
