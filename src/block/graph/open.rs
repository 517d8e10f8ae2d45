//! Making nodes from what users say of them.

use std::fs::File;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Map, Value, json};

use super::edges::{Edge, User};
use super::qcow2::Making;
use super::{Entry, Graph};
use crate::block::null::DEFAULT_SIZE;
use crate::block::{
    BlockDriver, BlockError, DetectZeroes, FileConfig, FileDriver, Node, NodeConfig, NullDriver, RawDriver, Use,
};
use crate::qapi::Error;
use crate::qapi::qmp::{
    BlockdevDetectZeroesOptions, BlockdevDiscardOptions, BlockdevOptions, BlockdevOptionsFile, BlockdevOptionsVariant,
    BlockdevRef, OnOffAuto,
};
use crate::qapi::text::is_well_formed_id;

/// Longest name of a node.
const MAX_NAME: usize = 31;
/// Most nodes that are made one with the other. An image that is behind itself has an end thereby.
const MAX_DEPTH: u32 = 100;

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// It is written to.
    pub write: bool,
    /// If it cannot be written to, it is only read.
    pub or_read: bool,
    /// The host's cache is passed by.
    pub direct: bool,
}

/// Who opens files for the graph: a worker has no right to.
pub trait Opener {
    /// Opens a file, or finds the descriptor that `/dev/fdset/N` stands for.
    fn open(&self, path: &str, mode: OpenMode) -> Pin<Box<dyn Future<Output = Result<OwnedFd, Error>> + '_>>;
}

/// What a node that is made with another takes from that, unless its own description says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inherited {
    pub(super) read_only: bool,
    pub(super) auto_read_only: bool,
    pub(super) direct: bool,
    pub(super) no_flush: bool,
    pub(super) unmap: bool,
    /// Nodes that are made with it, one with the other.
    pub(super) depth: u32,
}

/// A node whose options were looked at.
pub(super) struct Opened<'a> {
    pub(super) driver: Box<dyn BlockDriver>,
    /// What describes it, without the nodes it is made of.
    pub(super) description: Map<String, Value>,
    /// It uses some of those already.
    pub(super) making: Option<Making<'a>>,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Arc<Node>, Error>> + 'a>>;

impl Graph {
    /// Makes a node (`blockdev-add`).
    ///
    /// # Errors
    /// Names what is wrong, taken, or cannot be opened; nothing has changed then.
    pub async fn add(&self, opener: &dyn Opener, options: &BlockdevOptions) -> Result<(), Error> {
        if options.node_name.is_none() {
            return Err(Error::generic("'node-name' must be specified for the root node"));
        }
        let node = self.open(opener, options, Inherited::default(), true).await?;
        tracing::debug!(node = node.name(), driver = node.driver().name(), "added");
        Ok(())
    }

    /// Makes a node, and those that are described within it.
    pub(super) fn open<'a>(
        &'a self,
        opener: &'a dyn Opener,
        options: &'a BlockdevOptions,
        inherited: Inherited,
        is_root: bool,
    ) -> Opening<'a> {
        Box::pin(async move {
            if inherited.depth > MAX_DEPTH {
                return Err(Error::generic(format!(
                    "more than {MAX_DEPTH} nodes are made one with the other"
                )));
            }
            let name = match &options.node_name {
                Some(name) => self.check_name(name)?,
                None => self.lock().free_name(),
            };
            let cache = options.cache.as_ref();
            let own = Inherited {
                read_only: options.read_only.unwrap_or(inherited.read_only),
                auto_read_only: options.auto_read_only.unwrap_or(inherited.auto_read_only),
                direct: cache.and_then(|cache| cache.direct).unwrap_or(inherited.direct),
                no_flush: cache.and_then(|cache| cache.no_flush).unwrap_or(inherited.no_flush),
                unmap: options
                    .discard
                    .map_or(inherited.unmap, |discard| discard == BlockdevDiscardOptions::Unmap),
                depth: inherited.depth,
            };
            let detect_zeroes = match options.detect_zeroes {
                None | Some(BlockdevDetectZeroesOptions::Off) => DetectZeroes::Off,
                Some(BlockdevDetectZeroesOptions::On) => DetectZeroes::On,
                Some(BlockdevDetectZeroesOptions::Unmap) if !own.unmap => {
                    return Err(Error::generic(
                        "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
                    ));
                }
                Some(BlockdevDetectZeroesOptions::Unmap) => DetectZeroes::Unmap,
            };
            let mut read_only = own.read_only;
            let opened = match &options.variant {
                BlockdevOptionsVariant::File(file) | BlockdevOptionsVariant::HostDevice(file) => {
                    let wants_device = matches!(options.variant, BlockdevOptionsVariant::HostDevice(_));
                    self.open_file(opener, file, wants_device, own, &mut read_only).await?
                }
                BlockdevOptionsVariant::NullCo(null) => {
                    let size = match null.size {
                        None => DEFAULT_SIZE,
                        Some(size) => u64::try_from(size)
                            .map_err(|_| Error::generic("Parameter 'size' expects a non-negative number"))?,
                    };
                    let latency = Duration::from_nanos(null.latency_ns.unwrap_or(0));
                    let read_zeroes = null.read_zeroes.unwrap_or(false);
                    Opened {
                        driver: Box::new(NullDriver::new(size, latency, read_zeroes, &self.pool)),
                        description: Map::new(),
                        making: None,
                    }
                }
                BlockdevOptionsVariant::Qcow2(qcow2) => {
                    self.open_qcow2(opener, &name, qcow2, own, &mut read_only).await?
                }
                BlockdevOptionsVariant::Raw(raw) => {
                    let part = |name: &str, value: Option<i64>| match value.map(u64::try_from) {
                        None => Ok(None),
                        Some(Ok(value)) => Ok(Some(value)),
                        Some(Err(_)) => Err(Error::generic(format!(
                            "Parameter '{name}' expects a non-negative number"
                        ))),
                    };
                    let (offset, size) = (part("offset", raw.offset)?, part("size", raw.size)?);
                    let file = self.child(opener, &raw.file, own).await?;
                    let driver = RawDriver::new(&file, offset.unwrap_or(0), size).map_err(Error::from);
                    let mut description = Map::new();
                    let members = [("offset", offset), ("size", size)];
                    description.extend(
                        members
                            .into_iter()
                            .filter_map(|(key, value)| value.map(|value| (key.to_owned(), json!(value)))),
                    );
                    match driver {
                        Ok(driver) => Opened {
                            driver: Box::new(driver),
                            description,
                            making: None,
                        },
                        Err(error) => {
                            self.drop_unused(&[file]);
                            return Err(error);
                        }
                    }
                }
            };
            let config = NodeConfig {
                read_only,
                unmap: own.unmap,
                no_flush: own.no_flush,
                detect_zeroes,
            };
            let node = Node::new(name, opened.driver, config);
            let entry = Entry {
                node: Arc::clone(&node),
                description: opened.description,
                is_owned: is_root,
                is_auto_read_only: own.auto_read_only && !own.read_only,
                is_direct: own.direct,
            };
            self.insert(entry, opened.making)?;
            Ok(node)
        })
    }

    /// The node that another is made of.
    pub(super) async fn child(
        &self,
        opener: &dyn Opener,
        child: &BlockdevRef,
        inherited: Inherited,
    ) -> Result<Arc<Node>, Error> {
        match child {
            BlockdevRef::Reference(name) => self
                .node(name)
                .ok_or_else(|| Error::generic(format!("Cannot find device='{name}' nor node-name='{name}'"))),
            BlockdevRef::Definition(options) => {
                let inherited = Inherited {
                    depth: inherited.depth + 1,
                    ..inherited
                };
                self.open(opener, options, inherited, false).await
            }
        }
    }

    async fn open_file(
        &self,
        opener: &dyn Opener,
        options: &BlockdevOptionsFile,
        wants_device: bool,
        own: Inherited,
        read_only: &mut bool,
    ) -> Result<Opened<'static>, Error> {
        let name = &options.filename;
        let could_not = |why: &dyn std::fmt::Display| Error::generic(format!("Could not open '{name}': {why}"));
        let mode = OpenMode {
            write: !own.read_only,
            or_read: own.auto_read_only,
            direct: own.direct,
        };
        let file = File::from(opener.open(name, mode).await?);
        let flags = fcntl(&file, FcntlArg::F_GETFL).map_err(|errno| could_not(&errno.desc()))?;
        *read_only = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        let metadata = file
            .metadata()
            .map_err(|error| could_not(&crate::report::reason(&error)))?;
        let kind = std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type());
        if wants_device && !kind {
            return Err(Error::generic(format!(
                "'host_device' driver requires '{name}' to be either a character or block device"
            )));
        }
        if !wants_device && !metadata.is_file() {
            return Err(Error::generic(format!(
                "'file' driver requires '{name}' to be a regular file"
            )));
        }
        let config = FileConfig {
            filename: name.clone(),
            direct: own.direct,
            locking: match options.locking {
                None | Some(OnOffAuto::Auto) => None,
                Some(OnOffAuto::On) => Some(true),
                Some(OnOffAuto::Off) => Some(false),
            },
        };
        let pool = Arc::clone(&self.pool);
        // What is asked of a file may take as long as its disk likes.
        let made = self.pool.run(move || Ok(FileDriver::new(file, config, &pool)));
        let driver = made.await.and_then(|made| made).map_err(|error| could_not(&error))?;
        let mut description = Map::new();
        description.insert("filename".to_owned(), json!(name));
        Ok(Opened {
            driver: Box::new(driver),
            description,
            making: None,
        })
    }

    fn check_name(&self, name: &str) -> Result<String, Error> {
        if !is_well_formed_id(name) {
            return Err(Error::generic(format!("Invalid node-name: '{name}'")));
        }
        if name.len() > MAX_NAME {
            return Err(Error::generic("Node name too long"));
        }
        match self.node(name) {
            Some(_) => Err(duplicate(name)),
            None => Ok(name.to_owned()),
        }
    }

    /// Enters a node that is ready. What was made for it alone goes with it if that fails.
    fn insert(&self, entry: Entry, making: Option<Making<'_>>) -> Result<(), BlockError> {
        let name = entry.node.name().to_owned();
        let user = User::Node(name.clone());
        let children = entry.node.driver().children();
        let opening = making.and_then(Making::finish);
        let mut state = self.lock();
        let inserted = if state.entry(&name).is_some() {
            // Somebody else was faster.
            opening.iter().for_each(|opening| state.disconnect(opening));
            Err(BlockError::Invalid(duplicate(&name).desc))
        } else {
            let held = opening.map(|opening| state.hand_over(&opening, &user));
            let held = held.unwrap_or_default();
            let rest = children.iter().filter(|(role, _)| !held.contains(role));
            let edges = rest.map(|(role, child)| Edge {
                user: user.clone(),
                role,
                child: Arc::clone(child),
                uses: entry.node.driver().use_of_child(role, Use::NONE),
            });
            let edges = edges.collect();
            state.connect(edges).inspect_err(|_| state.disconnect(&user))
        };
        if inserted.is_ok() {
            state.entries.push(entry);
            return Ok(());
        }
        drop(state);
        let children: Vec<_> = children.into_iter().map(|(_, child)| child).collect();
        drop(entry);
        self.drop_unused(&children);
        inserted
    }
}

fn duplicate(name: &str) -> Error {
    Error::generic(format!("Duplicate nodes with node-name='{name}'"))
}
