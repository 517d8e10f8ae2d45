//! The objects that users create: secrets, I/O threads and memory backends, and their place in the tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::devices::virtio::rng::EntropySource;
use crate::machine::entropy::{EntropyError, EntropySources};
use crate::machine::guest::Guest;
use crate::machine::info::MemdevInfo;
use crate::qapi::qmp::IOThreadInfo;
use crate::qapi::text::is_well_formed_id;
use crate::qapi::visit::{At, Decode, Mode};
use crate::qapi::{Error, ErrorClass, QmpError};
use crate::qom::objects::{
    IoThreadConfig, IoThreadError, MemoryBackendConfig, MemoryBackendError, RngConfig, SecretConfig, SecretError,
    SecretSource,
};
use crate::qom::tree::{Simple, Tree, TreeError};
use crate::qom::{PropertyError, Registry};
use crate::report::reason;

use super::discard::Discard;
use crate::io::EventLoop;

/// The most bytes that a secret's file may have. A device like `/dev/zero` has no end.
const MOST_SECRET: u64 = 16 << 20;

/// The objects under `/objects`.
#[derive(Default)]
pub struct Objects {
    objects: BTreeMap<String, UserObject>,
    /// What is given up with the objects of these ids.
    discards: BTreeMap<String, Discard>,
    /// What sources of random bytes are, for the devices that read from them.
    entropy: EntropySources,
}

enum UserObject {
    /// What it says.
    Secret(Vec<u8>),
    /// The guest's, or memory that waits for somebody to use it.
    Memory(Option<Spare>),
    /// Random bytes, in the list of sources.
    Entropy,
    IoThread {
        /// The loop, which ends with the object.
        _served: EventLoop,
        /// The kernel's id of its thread.
        thread_id: i32,
        config: Arc<Mutex<IoThreadConfig>>,
    },
}

/// Memory that no guest uses. Where guests cannot run there is none to allocate.
#[cfg(target_arch = "x86_64")]
pub(super) type Spare = crate::machine::backend::SpareMemory;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type Spare = std::convert::Infallible;

/// Why there is no such memory.
#[cfg(target_arch = "x86_64")]
pub(super) type SpareError = crate::machine::backend::BackendError;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type SpareError = std::convert::Infallible;

/// An object that cannot be made or removed, or is not what it is taken for; in QEMU's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A property by itself.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The properties of an I/O thread.
    #[error(transparent)]
    IoThread(#[from] IoThreadError),
    /// The properties of a memory backend.
    #[error(transparent)]
    MemoryConfig(#[from] MemoryBackendError),
    /// The properties of a secret, or what it is written in.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The source of random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The host does not give the memory.
    #[error(transparent)]
    Memory(#[from] SpareError),
    /// Its place in the tree of objects.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The id is none that anybody may choose.
    #[error("Parameter 'id' expects an identifier")]
    MalformedId,
    /// There is an object of this id.
    #[error("attempt to add duplicate property '{0}' to object (type 'container')")]
    Taken(String),
    /// There is no object of this id.
    #[error("object '{0}' not found")]
    NotFound(String),
    /// The guest needs it.
    #[error("object '{0}' is in use, can not be deleted")]
    InUse(String),
    /// There is no object of this id, and it was to be a secret.
    #[error("No secret with id '{0}'")]
    NoSecret(String),
    /// The object of this id is none that could decrypt another.
    #[error("Object with id '{0}' is not a secret")]
    NotASecret(String),
    /// A secret's file cannot be read.
    #[error("Unable to read {}: {}", path.display(), reason(error))]
    UnreadableSecret {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The host has no room for a thread.
    #[error("cannot start the thread of '{id}': {}", reason(error))]
    NoThread {
        /// The object it was for.
        id: String,
        /// Why not.
        error: io::Error,
    },
}

impl QmpError for ObjectError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Tree(error) => error.class(),
            _ => ErrorClass::GenericError,
        }
    }
}

/// An object whose properties are in order, and that is still to be made.
pub struct Plan {
    id: String,
    kind: Kind,
    node: Simple,
}

enum Kind {
    Secret(SecretConfig),
    Entropy,
    IoThread(IoThreadConfig),
    Memory(MemoryBackendConfig),
}

/// What an object needs, which may take its time to get.
pub enum Supply {
    /// Nothing.
    Nothing,
    /// What a file holds.
    File(PathBuf),
    /// A source of random bytes.
    Entropy(RngConfig),
    /// Memory.
    Memory {
        /// The object's id.
        id: String,
        /// Its type.
        qom_type: String,
        /// What is asked of it.
        config: MemoryBackendConfig,
    },
}

/// What an object needs, or why there is none.
pub enum Supplied {
    /// Nothing.
    Nothing,
    /// What a file holds.
    File(std::io::Result<Vec<u8>>),
    /// A source of random bytes.
    Entropy(Result<EntropySource, EntropyError>),
    /// Memory; none where guests cannot run.
    Memory(Result<Option<Spare>, SpareError>),
}

impl Supplied {
    /// What the file holds; of anything else, that there was no file to read.
    fn into_file(self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(content) => content,
            Self::Nothing | Self::Entropy(_) | Self::Memory(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Supply {
    /// Gets it, for as long as that takes.
    #[must_use]
    pub fn get(self) -> Supplied {
        match self {
            Self::Nothing => Supplied::Nothing,
            Self::File(path) => Supplied::File(read_secret(&path)),
            Self::Entropy(config) => Supplied::Entropy(EntropySources::open(&config)),
            Self::Memory { id, qom_type, config } => Supplied::Memory(allocate(&id, &qom_type, config)),
        }
    }

    /// Whether there is nothing to be got.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// What a file holds, if that has an end.
fn read_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path)?.take(MOST_SECRET + 1).read_to_end(&mut content)?;
    match u64::try_from(read).is_ok_and(|read| read <= MOST_SECRET) {
        true => Ok(content),
        false => Err(nix::errno::Errno::EFBIG.into()),
    }
}

impl Objects {
    /// No objects, and the sources of random bytes that are open already.
    pub fn new(entropy: EntropySources) -> Self {
        Self {
            entropy,
            ..Self::default()
        }
    }

    /// Checks `properties`, which hold `qom-type` and `id`, and says what is to be got before the object can be made.
    ///
    /// # Errors
    /// Names what is missing, wrong or taken.
    pub fn plan(
        &self,
        registry: &Registry,
        guest: Option<&dyn Guest>,
        properties: &Map<String, Value>,
    ) -> Result<(Plan, Supply), ObjectError> {
        let text = |name: &str| properties.get(name).and_then(Value::as_str);
        let qom_type = text("qom-type").ok_or(PropertyError::Missing("qom-type"))?;
        let id = text("id").ok_or(PropertyError::Missing("id"))?;
        if !is_well_formed_id(id) {
            return Err(ObjectError::MalformedId);
        }
        registry.check_object_type(qom_type)?;
        self.check_free(id)?;
        let values = registry.values(qom_type, properties, [])?;
        let node = Simple::from_values(registry, qom_type, &values);
        let (kind, supply) = match qom_type {
            "secret" => {
                let config = SecretConfig::from_values(&values)?;
                let supply = match &config.source {
                    SecretSource::Data(_) => Supply::Nothing,
                    SecretSource::File(path) => Supply::File(path.clone()),
                };
                (Kind::Secret(config), supply)
            }
            "rng-builtin" | "rng-random" => {
                // What the command line names is open before the devices are made.
                let config = RngConfig::from_values(qom_type, &values).filter(|_| self.entropy.get(id).is_none());
                (Kind::Entropy, config.map_or(Supply::Nothing, Supply::Entropy))
            }
            "iothread" => (Kind::IoThread(IoThreadConfig::from_values(&values)?), Supply::Nothing),
            _ => {
                let config = MemoryBackendConfig::from_values(qom_type, &values)?;
                let supply = match is_used(guest, id) {
                    true => Supply::Nothing,
                    false => Supply::Memory {
                        id: id.to_owned(),
                        qom_type: qom_type.to_owned(),
                        config: config.clone(),
                    },
                };
                (Kind::Memory(config), supply)
            }
        };
        let id = id.to_owned();
        Ok((Plan { id, kind, node }, supply))
    }

    /// Makes an object as planned.
    ///
    /// # Errors
    /// What it needs could not be got, or its id was taken meanwhile.
    pub fn make(
        &mut self,
        tree: &mut Tree,
        plan: Plan,
        supplied: Supplied,
        named_threads: bool,
    ) -> Result<(), ObjectError> {
        let Plan { id, kind, node } = plan;
        self.check_free(&id)?;
        let (object, node) = match kind {
            Kind::Secret(config) => (self.make_secret(&config, supplied)?, node),
            Kind::Entropy => {
                if let Supplied::Entropy(source) = supplied {
                    self.entropy.add(&id, source?);
                }
                (UserObject::Entropy, node.with("opened", "bool", json!(true)))
            }
            Kind::IoThread(config) => start_iothread(&id, config, node, named_threads)?,
            Kind::Memory(config) => {
                let spare = match supplied {
                    Supplied::Memory(spare) => spare?,
                    _ => None,
                };
                self.discards
                    .extend(Discard::of(&config).map(|discard| (id.clone(), discard)));
                (UserObject::Memory(spare), node)
            }
        };
        tree.insert("/objects", &id, Arc::new(node))?;
        self.objects.insert(id, object);
        Ok(())
    }

    fn check_free(&self, id: &str) -> Result<(), ObjectError> {
        match self.objects.contains_key(id) {
            false => Ok(()),
            true => Err(ObjectError::Taken(id.to_owned())),
        }
    }

    /// Enters the memory that the guest has without an object of a user: QEMU's objects of the same ids.
    ///
    /// # Errors
    /// A user has taken its id.
    pub fn add_guest_memory(
        &mut self,
        tree: &mut Tree,
        registry: &Registry,
        guest: &dyn Guest,
    ) -> Result<(), ObjectError> {
        for memdev in guest.memdevs() {
            if matches!(self.objects.get(&memdev.id), Some(UserObject::Memory(None))) {
                continue;
            }
            let values = registry.values(memdev.qom_type, &memdev.properties(), [])?;
            let node = Simple::from_values(registry, memdev.qom_type, &values);
            tree.insert("/objects", &memdev.id, Arc::new(node))?;
            self.objects.insert(memdev.id, UserObject::Memory(None));
        }
        Ok(())
    }

    /// Removes an object, unless it `is_used`.
    ///
    /// # Errors
    /// There is none of this id, or it is used.
    pub fn remove(&mut self, tree: &mut Tree, is_used: bool, id: &str) -> Result<(), ObjectError> {
        if !self.objects.contains_key(id) {
            return Err(ObjectError::NotFound(id.to_owned()));
        }
        if is_used {
            return Err(ObjectError::InUse(id.to_owned()));
        }
        if let Some(UserObject::Entropy) = self.objects.remove(id) {
            self.entropy.remove(id);
        }
        if let Some(discard) = self.discards.remove(id) {
            discard.run();
        }
        tree.remove("/objects", id);
        Ok(())
    }

    /// The guest has ended in order: what its objects leave behind and shall not is given up.
    pub fn end(&mut self) {
        std::mem::take(&mut self.discards).into_values().for_each(Discard::run);
    }

    /// What the secret of this id says.
    ///
    /// # Errors
    /// There is no object of this id, or it is none.
    pub fn secret(&self, id: &str) -> Result<&[u8], ObjectError> {
        match self.objects.get(id) {
            Some(UserObject::Secret(bytes)) => Ok(bytes),
            Some(_) => Err(ObjectError::NotASecret(id.to_owned())),
            None => Err(ObjectError::NoSecret(id.to_owned())),
        }
    }

    fn make_secret(&self, config: &SecretConfig, supplied: Supplied) -> Result<UserObject, ObjectError> {
        let written = match (&config.source, supplied) {
            (SecretSource::Data(data), _) => data.as_bytes().to_vec(),
            (SecretSource::File(path), supplied) => {
                supplied.into_file().map_err(|error| ObjectError::UnreadableSecret {
                    path: path.clone(),
                    error,
                })?
            }
        };
        let key = config.keyid.as_deref().map(|id| self.secret(id)).transpose()?;
        Ok(UserObject::Secret(config.reveal(written, key)?))
    }

    /// The memory backends that no guest uses.
    pub fn spare_memdevs(&self) -> Vec<MemdevInfo> {
        let spare = |object: &UserObject| match object {
            UserObject::Memory(Some(spare)) => Some(info(spare)),
            _ => None,
        };
        self.objects.values().filter_map(spare).collect()
    }

    /// The I/O threads as `query-iothreads` shows them.
    pub fn iothreads(&self) -> Vec<IOThreadInfo> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let info = |(id, object): (&String, &UserObject)| {
            let UserObject::IoThread { thread_id, config, .. } = object else {
                return None;
            };
            let config = *config.lock().unwrap_or_else(PoisonError::into_inner);
            Some(IOThreadInfo {
                id: id.clone(),
                thread_id: i64::from(*thread_id),
                poll_max_ns: number(config.poll_max_ns),
                poll_grow: number(config.poll_grow),
                poll_shrink: number(config.poll_shrink),
                aio_max_batch: number(config.aio_max_batch),
            })
        };
        self.objects.iter().filter_map(info).collect()
    }
}

/// Whether the guest's memory is from the backend of this id.
pub(super) fn is_used(guest: Option<&dyn Guest>, id: &str) -> bool {
    guest.is_some_and(|guest| guest.memdevs().iter().any(|memdev| memdev.id == id))
}

#[cfg(target_arch = "x86_64")]
fn allocate(id: &str, qom_type: &str, config: MemoryBackendConfig) -> Result<Option<Spare>, SpareError> {
    Spare::new(id, qom_type, config)
}

#[cfg(target_arch = "x86_64")]
fn info(spare: &Spare) -> MemdevInfo {
    spare.info()
}

#[cfg(not(target_arch = "x86_64"))]
fn allocate(_: &str, _: &str, _: MemoryBackendConfig) -> Result<Option<Spare>, SpareError> {
    Ok(None)
}

#[cfg(not(target_arch = "x86_64"))]
fn info(spare: &Spare) -> MemdevInfo {
    match *spare {}
}

fn start_iothread(
    id: &str,
    config: IoThreadConfig,
    node: Simple,
    named: bool,
) -> Result<(UserObject, Simple), ObjectError> {
    let config = Arc::new(Mutex::new(config));
    let (served, thread_id) =
        EventLoop::start(named.then(|| format!("IO {id}"))).map_err(|error| ObjectError::NoThread {
            id: id.to_owned(),
            error,
        })?;
    let mut node = node;
    type Field = fn(&mut IoThreadConfig) -> &mut u64;
    let fields: [(&'static str, Field); 4] = [
        ("poll-max-ns", |config| &mut config.poll_max_ns),
        ("poll-grow", |config| &mut config.poll_grow),
        ("poll-shrink", |config| &mut config.poll_shrink),
        ("aio-max-batch", |config| &mut config.aio_max_batch),
    ];
    for (name, field) in fields {
        let (read, written) = (Arc::clone(&config), Arc::clone(&config));
        node = node.with_settable(
            name,
            "int",
            move || json!(*field(&mut read.lock().unwrap_or_else(PoisonError::into_inner))),
            move |value| {
                let number = value
                    .as_u64()
                    .filter(|number| i64::try_from(*number).is_ok())
                    .ok_or(IoThreadError::OutOfRange { property: name })?;
                *field(&mut written.lock().unwrap_or_else(PoisonError::into_inner)) = number;
                Ok(())
            },
        );
    }
    let object = UserObject::IoThread {
        _served: served,
        thread_id,
        config,
    };
    Ok((object, node))
}

/// Reads values that the registry or the tree made as the schema's types.
///
/// # Errors
/// A value is not as the schema says.
pub(super) fn decode_all<T: Decode>(values: Vec<Value>) -> Result<Vec<T>, Error> {
    values
        .into_iter()
        .map(|value| T::decode(value, &At::root(Mode::Json)))
        .collect()
}
