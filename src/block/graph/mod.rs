//! The graph of nodes: names, who uses what, and what clients are told of it.
//!
//! It is changed by the worker's main thread alone. Devices have a [`Backend`] each, whose node they use without a look at
//! the graph.

mod edges;
mod open;
mod qcow2;
mod show;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Map, Value};

use super::backend::{BackendConfig, ErrorPolicy, Failure};
use super::{Backend, BlockError, IoStatus, Node, Permissions, Pool, Use};
use crate::qapi::Error;
use edges::{Edge, User};
pub use open::{OpenMode, Opener};

/// A graph. Clones are the same one.
#[derive(Clone)]
pub struct Graph {
    state: Arc<Mutex<State>>,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    entries: Vec<Entry>,
    edges: Vec<Edge>,
    backends: Vec<Weak<Backend>>,
    /// What failed and nobody was told of yet.
    failures: Vec<Failure>,
    /// Numbers the nodes that have no name of their own.
    unnamed: u32,
    /// Numbers the images that are being opened.
    openings: u64,
}

struct Entry {
    node: Arc<Node>,
    /// What describes it, without driver and the nodes it is made of.
    description: Map<String, Value>,
    /// A client made it, and can remove it. All others go with the node that they were made with.
    is_owned: bool,
    /// It shows as read-only while nobody writes to it.
    is_auto_read_only: bool,
    is_direct: bool,
}

/// What a device wants of a node.
pub struct Attachment<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Path of the device in the tree of objects.
    pub path: String,
    /// Others may write as well.
    pub share_writes: bool,
    /// Writes are done before they have reached the disk.
    pub writeback: bool,
    /// What is done about errors.
    pub policy: ErrorPolicy,
    /// Called when there are failures to tell of.
    pub notify: Arc<dyn Fn() + Send + Sync>,
}

/// Why a device cannot use a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is no such node.
    #[error("can't find value '{0}'")]
    NoNode(String),
    /// Others use it in a way that does not go together with that.
    #[error(transparent)]
    Refused(#[from] BlockError),
}

impl Default for Graph {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            pool: Pool::new(),
        }
    }
}

impl Graph {
    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.lock().entry(name).map(|entry| Arc::clone(&entry.node))
    }

    /// Enters a node that a test has made.
    #[cfg(test)]
    pub(crate) fn adopt(&self, node: Arc<Node>) {
        self.lock().entries.push(Entry {
            node,
            description: Map::new(),
            is_owned: true,
            is_auto_read_only: false,
            is_direct: false,
        });
    }

    /// Removes a node (`blockdev-del`), and what was made with it.
    ///
    /// # Errors
    /// There is none of this name that a client made, or it is in use.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let entry = self.lock().take(name)?;
        self.close(entry).await;
        Ok(())
    }

    /// Makes a node longer or shorter (`block_resize`).
    ///
    /// # Errors
    /// There is no such node, the size is none that it can have, or the driver refuses.
    pub async fn resize(&self, device: Option<&str>, name: Option<&str>, size: i64) -> Result<(), Error> {
        let node = name.and_then(|name| self.node(name)).ok_or_else(|| {
            let (device, name) = (device.unwrap_or_default(), name.unwrap_or_default());
            Error::generic(format!("Cannot find device='{device}' nor node-name='{name}'"))
        })?;
        let size = u64::try_from(size).map_err(|_| Error::generic("Parameter 'size' expects a >0 size"))?;
        if size % 512 != 0 {
            return Err(Error::generic("The new size must be a multiple of 512"));
        }
        if let Some(front) = self.lock().in_front_of(node.name()) {
            let name = node.name();
            return Err(Error::generic(format!(
                "Node '{name}' is busy: node is used as backing hd of '{front}'"
            )));
        }
        let user = User::Command;
        let uses = Use {
            takes: Permissions::RESIZE,
            shares: Permissions::ALL,
        };
        let edge = Edge {
            user: user.clone(),
            role: "root",
            child: Arc::clone(&node),
            uses,
        };
        self.lock().connect(vec![edge])?;
        let resized = node.truncate(size).await;
        self.lock().disconnect(&user);
        resized?;
        for backend in self.lock().backends_over(node.name()) {
            backend.resized();
        }
        Ok(())
    }

    /// Lets a device use a node. It may write if the node may be written to.
    ///
    /// # Errors
    /// There is no such node, or others use it in a way that does not go together with that.
    pub fn attach(&self, wanted: Attachment<'_>) -> Result<Arc<Backend>, AttachError> {
        let mut state = self.lock();
        let entry = state.entry(wanted.node);
        let entry = entry.ok_or_else(|| AttachError::NoNode(wanted.node.to_owned()))?;
        let node = Arc::clone(&entry.node);
        let writable = !node.config().read_only;
        let takes = match writable {
            true => Permissions::READ | Permissions::WRITE,
            false => Permissions::READ,
        };
        let shares = match wanted.share_writes {
            true => Permissions::ALL,
            false => !Permissions::WRITE,
        };
        let edge = Edge {
            user: User::Device(wanted.path.clone()),
            role: "root",
            child: Arc::clone(&node),
            uses: Use { takes, shares },
        };
        state.connect(vec![edge])?;
        let config = BackendConfig {
            path: wanted.path,
            writable,
            policy: wanted.policy,
            writeback: wanted.writeback,
            notify: wanted.notify,
        };
        let backend = Backend::new(&node, self, config);
        state.backends.push(Arc::downgrade(&backend));
        Ok(backend)
    }

    /// What failed since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.lock().failures)
    }

    /// Whether a request failed that waits for the guest to be stopped and to go on.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let backends = self.lock().live_backends();
        backends.iter().any(|backend| backend.status() != IoStatus::Ok)
    }

    /// Whatever nodes still hold goes to the disk, for the guest is at its end.
    pub async fn close_all(&self) {
        let entries = std::mem::take(&mut self.lock().entries);
        for entry in entries.into_iter().rev() {
            close(&entry.node).await;
        }
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.lock().failures.push(failure);
    }

    pub(super) fn detach(&self, backend: &Backend) {
        let mut state = self.lock();
        state.backends.retain(|other| {
            let other = other.upgrade();
            other.is_some_and(|other| !std::ptr::eq(Arc::as_ptr(&other), backend))
        });
        state.disconnect(&User::Device(backend.path().to_owned()));
    }

    /// Nodes that were made for one that there will not be.
    fn drop_unused(&self, nodes: &[Arc<Node>]) {
        let mut state = self.lock();
        let mut unused = nodes.to_vec();
        while let Some(node) = unused.pop() {
            if let Some(entry) = state.take_unused(node.name()) {
                unused.extend(entry.node.driver().children().into_iter().map(|(_, child)| child));
            }
        }
    }

    /// Ends a node, and then those that were made with it.
    async fn close(&self, entry: Entry) {
        let mut ending = vec![entry];
        while let Some(entry) = ending.pop() {
            close(&entry.node).await;
            let children = entry.node.driver().children();
            drop(entry);
            let mut state = self.lock();
            let unused = children.iter().filter_map(|(_, child)| state.take_unused(child.name()));
            ending.extend(unused);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close(node: &Node) {
    node.drain().await;
    let flushed = node.flush().await;
    if let Err(error) = flushed.and(node.driver().close().await) {
        crate::report::error(format!("closing node '{}': {error}", node.name()));
    }
}

impl State {
    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.node.name() == name)
    }

    /// A name for a node that was given none.
    fn free_name(&mut self) -> String {
        loop {
            let name = format!("#block{:03}", self.unnamed);
            self.unnamed = self.unnamed.wrapping_add(1);
            if self.entry(&name).is_none() {
                return name;
            }
        }
    }

    /// An image that is about to be opened for a node of this name.
    fn opening(&mut self, name: &str) -> User {
        self.openings += 1;
        User::Opening {
            name: name.to_owned(),
            number: self.openings,
        }
    }

    /// The image that a node is behind.
    fn in_front_of(&self, name: &str) -> Option<String> {
        self.users(name).find_map(|edge| match &edge.user {
            User::Node(front) if edge.role == "backing" => Some(front.clone()),
            _ => None,
        })
    }

    /// Takes out a node that a client made.
    fn take(&mut self, name: &str) -> Result<Entry, Error> {
        let missing = || Error::generic(format!("Failed to find node with node-name='{name}'"));
        let index = self.entries.iter().position(|entry| entry.node.name() == name);
        let index = index.ok_or_else(missing)?;
        if let Some(user) = self.users(name).next() {
            return Err(Error::generic(match &user.user {
                User::Device(_) | User::Command => format!("Node {name} is in use"),
                User::Node(_) | User::Opening { .. } => {
                    format!("Block device {name} is in use")
                }
            }));
        }
        if !self.entries[index].is_owned {
            return Err(Error::generic(format!("Node {name} is not owned by the monitor")));
        }
        let entry = self.entries.remove(index);
        self.disconnect(&User::Node(name.to_owned()));
        Ok(entry)
    }

    /// Takes out a node that nobody made by itself, if nobody uses it.
    fn take_unused(&mut self, name: &str) -> Option<Entry> {
        let is_unused = self.users(name).next().is_none();
        let is_this = |entry: &Entry| entry.node.name() == name && !entry.is_owned && is_unused;
        let index = self.entries.iter().position(is_this)?;
        let entry = self.entries.remove(index);
        self.disconnect(&User::Node(name.to_owned()));
        Some(entry)
    }

    fn live_backends(&self) -> Vec<Arc<Backend>> {
        self.backends.iter().filter_map(Weak::upgrade).collect()
    }

    /// The devices that use a node, or one that is made of it.
    fn backends_over(&self, name: &str) -> Vec<Arc<Backend>> {
        let mut backends = self.live_backends();
        backends.retain(|backend| is_made_of(backend.node(), name));
        backends
    }
}

/// Whether a node is the one of this name, or made of it.
fn is_made_of(node: &Arc<Node>, name: &str) -> bool {
    node.name() == name
        || node
            .driver()
            .children()
            .iter()
            .any(|(_, child)| is_made_of(child, name))
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let names: Vec<_> = state.entries.iter().map(|entry| entry.node.name().to_owned()).collect();
        f.debug_struct("Graph").field("nodes", &names).finish_non_exhaustive()
    }
}
