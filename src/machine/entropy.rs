//! The sources of random bytes that users made, shared by the worker's objects and the devices that read from them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::devices::virtio::rng::EntropySource;
use crate::qapi::QmpError;
use crate::qom::objects::RngConfig;
use crate::qom::{PropertyError, Registry};
use crate::report::reason;

/// A source of random bytes that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EntropyError {
    /// A property of its object is wrong.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The file cannot be opened.
    #[error("Could not open '{}': {}", path.display(), reason(error))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl QmpError for EntropyError {}

/// Sources by the ids of their objects. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct EntropySources(Arc<Mutex<BTreeMap<String, EntropySource>>>);

impl EntropySources {
    /// Opens those of `objects` that are sources. `-global` is for devices, not for them.
    ///
    /// # Errors
    /// A property is wrong, or the file cannot be opened.
    pub fn open_all<'a>(
        &self,
        registry: &Registry,
        objects: impl IntoIterator<Item = &'a Map<String, Value>>,
    ) -> Result<(), EntropyError> {
        for object in objects {
            let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
            let (qom_type, id) = (text("qom-type"), text("id"));
            if !registry.is_a(qom_type, crate::qom::objects::RNG_BACKEND) {
                continue;
            }
            let values = registry.values(qom_type, object, [])?;
            if let Some(config) = RngConfig::from_values(qom_type, &values) {
                self.add(id, Self::open(&config)?);
            }
        }
        Ok(())
    }

    /// Opens a source, for as long as the file system takes.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(config: &RngConfig) -> Result<EntropySource, EntropyError> {
        match config {
            RngConfig::Builtin => Ok(EntropySource::Builtin),
            RngConfig::File(path) => EntropySource::open(path).map_err(|error| EntropyError::Open {
                path: path.clone(),
                error,
            }),
        }
    }

    /// Adds the source of the object `id`.
    pub fn add(&self, id: &str, source: EntropySource) {
        self.lock().insert(id.to_owned(), source);
    }

    /// The source of the object `id`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<EntropySource> {
        self.lock().get(id).cloned()
    }

    /// Forgets the object `id`. Devices keep the source that they have.
    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, EntropySource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_are_found_by_id() {
        let (sources, registry) = (EntropySources::default(), Registry::new());
        let objects = [
            json!({"qom-type": "rng-builtin", "id": "a"}),
            json!({"qom-type": "rng-random", "id": "b", "filename": "/dev/zero"}),
            json!({"qom-type": "iothread", "id": "c"}),
        ];
        let objects = objects.iter().filter_map(Value::as_object);
        sources.open_all(&registry, objects).unwrap();
        assert!(sources.get("a").is_some() && sources.get("b").is_some());
        assert!(sources.get("c").is_none());
        sources.remove("a");
        assert!(sources.get("a").is_none());
        let missing = RngConfig::File("/nodir/x".into());
        assert_eq!(
            EntropySources::open(&missing).unwrap_err().to_string(),
            "Could not open '/nodir/x': No such file or directory"
        );
    }
}
