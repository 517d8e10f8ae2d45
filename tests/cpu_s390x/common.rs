//! What the tests share.

use std::path::{Path, PathBuf};

use remuda::cpu::s390x::{Compat, Host, HostKind, HostModel, Identity, ModelInfo, named};
use serde_json::{Map, Value, json};

/// Where the recorded replies lie.
pub(crate) fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/s390x")
}

/// What is in the folder `parent`, at least one thing.
pub(crate) fn entries(parent: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    let mut entries: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    assert!(!entries.is_empty(), "{}: no vectors", parent.display());
    entries
}

/// The JSON values of a file with one a line.
pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// QEMU's own emulation as an accelerator.
pub(crate) fn emulated_host() -> Host {
    Host {
        accelerator: "tcg".to_owned(),
        kind: HostKind::Emulated,
        model: Some(HostModel {
            definition: named("gen15a").unwrap().definition,
            features: Compat::newest().qemu_model().features,
            identity: Identity::default(),
        }),
    }
}

/// A model as replies show it.
pub(crate) fn model_json(model: &ModelInfo) -> Value {
    let props: Map<String, Value> = model
        .props
        .iter()
        .map(|(name, on)| ((*name).to_owned(), json!(on)))
        .collect();
    if props.is_empty() {
        return json!({"name": model.name});
    }
    json!({"name": model.name, "props": props})
}
