//! Who uses which node, and whether that goes together.

use std::sync::Arc;

use super::State;
use crate::block::{BlockError, Node, Permissions, Use};

/// Who uses a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// The node of this name.
    Node(String),
    /// The device at this path.
    Device(String),
    /// An image that is being opened, for a node of this name that there may never be.
    Opening { name: String, number: u64 },
    /// A command, for as long as it takes.
    Command,
}

/// A use of a node.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) user: User,
    /// As what: `root` for devices.
    pub(super) role: &'static str,
    /// The node that is used.
    pub(super) child: Arc<Node>,
    pub(super) uses: Use,
}

impl Edge {
    fn describe(&self) -> String {
        let user = match &self.user {
            User::Node(name) | User::Opening { name, .. } => format!("node '{name}'"),
            User::Device(path) => format!("block device '{path}'"),
            User::Command => "an unnamed block device".to_owned(),
        };
        format!("{user} (uses node '{}' as '{}' child)", self.child.name(), self.role)
    }
}

impl State {
    /// Adds uses of nodes. After an error there are none of them.
    pub(super) fn connect(&mut self, edges: Vec<Edge>) -> Result<(), BlockError> {
        let before = self.edges.clone();
        let nodes: Vec<_> = edges.iter().map(|edge| Arc::clone(&edge.child)).collect();
        self.edges.extend(edges);
        nodes.iter().try_for_each(|node| self.settle(node)).inspect_err(|_| {
            self.edges = before;
            for node in &nodes {
                if let Err(error) = self.settle(node) {
                    tracing::warn!(node = node.name(), %error, "a node's former use");
                }
            }
        })
    }

    /// Takes all uses by somebody away.
    pub(super) fn disconnect(&mut self, user: &User) {
        let (gone, kept) = std::mem::take(&mut self.edges)
            .into_iter()
            .partition(|edge| edge.user == *user);
        self.edges = kept;
        let gone: Vec<Edge> = gone;
        for edge in gone {
            // Less than there was goes together with all that is left.
            if let Err(error) = self.settle(&edge.child) {
                tracing::warn!(node = edge.child.name(), %error, "a node's use after one has gone");
            }
        }
    }

    /// What somebody used so far, somebody else uses from now on. Returns the roles of those nodes.
    pub(super) fn hand_over(&mut self, from: &User, to: &User) -> Vec<&'static str> {
        let edges = self.edges.iter_mut().filter(|edge| edge.user == *from);
        let handed = edges.map(|edge| {
            edge.user = to.clone();
            edge.role
        });
        handed.collect()
    }

    /// Whether anybody uses a node.
    pub(super) fn users(&self, name: &str) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.child.name() == name)
    }

    /// All that is done with a node.
    pub(super) fn uses(&self, name: &str) -> Use {
        self.users(name).fold(Use::NONE, |all, edge| all.with(edge.uses))
    }

    /// Looks whether the uses of a node go together, and passes them on to what it is made of.
    fn settle(&mut self, node: &Arc<Node>) -> Result<(), BlockError> {
        self.check(node)?;
        let uses = self.uses(node.name());
        node.driver().set_use(uses)?;
        for (role, child) in node.driver().children() {
            let passed = node.driver().use_of_child(role, uses);
            let own = User::Node(node.name().to_owned());
            let edge = self.edges.iter_mut().find(|edge| edge.user == own && edge.role == role);
            let Some(edge) = edge.filter(|edge| edge.uses != passed) else {
                continue;
            };
            edge.uses = passed;
            self.settle(&child)?;
        }
        Ok(())
    }

    fn check(&self, node: &Node) -> Result<(), BlockError> {
        let users: Vec<_> = self.users(node.name()).collect();
        let writes = Permissions::WRITE | Permissions::RESIZE;
        if node.config().read_only && users.iter().any(|user| !(user.uses.takes & writes).is_empty()) {
            return Err(BlockError::ReadOnly);
        }
        for (index, taker) in users.iter().enumerate() {
            for (_, keeper) in users.iter().enumerate().filter(|(other, _)| *other != index) {
                let conflict = taker.uses.takes & !keeper.uses.shares;
                if !conflict.is_empty() {
                    return Err(BlockError::Invalid(format!(
                        "Permission conflict on node '{}': permissions '{conflict}' are both required by {} and \
                         unshared by {}.",
                        node.name(),
                        taker.describe(),
                        keeper.describe()
                    )));
                }
            }
        }
        Ok(())
    }
}
