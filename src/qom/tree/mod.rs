//! The objects of a running guest, by path: `/machine/peripheral/ID`, `/objects/ID`, `/chardevs/ID`.

mod path;
mod simple;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

pub use simple::Simple;

use crate::qapi::{Error, ErrorClass, QmpError};
use crate::qom::PropertyError;

/// An object in the tree. It may be asked from any thread and answers at once.
pub trait Object: Send + Sync {
    /// The name of its type.
    fn type_name(&self) -> &str;

    /// Its properties: names, and types as QMP calls them. `type` and children are left out.
    fn properties(&self) -> Vec<(String, String)>;

    /// The value of a property.
    ///
    /// # Errors
    /// [`not_found`] if there is no such property; otherwise why it cannot be read.
    fn get(&self, property: &str) -> Result<Value, Error>;

    /// Changes a property.
    ///
    /// # Errors
    /// [`not_found`] if there is no such property; otherwise why it cannot be set.
    fn set(&self, property: &str, value: &Value) -> Result<(), Error>;
}

/// The error for a property that an object of this type does not have.
#[must_use]
pub fn not_found(type_name: &str, property: &str) -> Error {
    PropertyError::not_found(type_name, property).into()
}

/// The error for a property that can only be read.
#[must_use]
pub fn not_writable(type_name: &str, property: &str) -> Error {
    PropertyError::not_writable(type_name, property).into()
}

/// A path that leads to no object, or a name that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// There is no object at this path.
    #[error("Device '{0}' not found")]
    NoObject(String),
    /// The path starts somewhere in the tree, and there are several such places.
    #[error("Path '{0}' is ambiguous")]
    Ambiguous(String),
    /// The parent has a child of this name.
    #[error("attempt to add duplicate property '{name}' to object (type '{type_name}')")]
    Taken {
        /// The name.
        name: String,
        /// The parent's type.
        type_name: String,
    },
}

impl QmpError for TreeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoObject(_) => ErrorClass::DeviceNotFound,
            Self::Ambiguous(_) | Self::Taken { .. } => ErrorClass::GenericError,
        }
    }
}

/// The tree of objects.
pub struct Tree {
    root: Node,
}

struct Node {
    object: Arc<dyn Object>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn new(object: Arc<dyn Object>) -> Self {
        Self {
            object,
            children: BTreeMap::new(),
        }
    }

    fn container() -> Self {
        Self::new(Arc::new(Simple::new("container")))
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree with the containers that are always there: `/objects` and `/chardevs`.
    #[must_use]
    pub fn new() -> Self {
        let mut root = Node::container();
        for name in ["objects", "chardevs"] {
            root.children.insert(name.to_owned(), Node::container());
        }
        Self { root }
    }

    /// Puts the machine at `/machine`, with its containers `peripheral`, `peripheral-anon` and `unattached`.
    pub fn set_machine(&mut self, machine: Arc<dyn Object>) {
        let mut node = Node::new(machine);
        for name in ["peripheral", "peripheral-anon", "unattached"] {
            node.children.insert(name.to_owned(), Node::container());
        }
        self.root.children.insert("machine".to_owned(), node);
    }

    /// Puts an object under the one at `parent`, an absolute path. A name that ends in `[*]` gets the next free index.
    /// Returns the object's path.
    ///
    /// # Errors
    /// Says that there is no such parent, or that the name is taken.
    pub fn insert(&mut self, parent: &str, name: &str, object: Arc<dyn Object>) -> Result<String, TreeError> {
        let node = self
            .node_mut(parent)
            .ok_or_else(|| TreeError::NoObject(parent.to_owned()))?;
        let name = match name.strip_suffix("[*]") {
            Some(stem) => free_name(node, stem),
            None => name.to_owned(),
        };
        if node.children.contains_key(&name) {
            let type_name = node.object.type_name().to_owned();
            return Err(TreeError::Taken { name, type_name });
        }
        let path = format!("{}/{name}", parent.trim_end_matches('/'));
        node.children.insert(name, Node::new(object));
        Ok(path)
    }

    /// Takes an object out, and everything under it.
    pub fn remove(&mut self, parent: &str, name: &str) -> Option<Arc<dyn Object>> {
        let node = self.node_mut(parent)?.children.remove(name)?;
        Some(node.object)
    }

    /// The object at an absolute or partial path.
    ///
    /// # Errors
    /// Class `DeviceNotFound` if there is none; `GenericError` if a partial path means several.
    pub fn object(&self, path: &str) -> Result<&Arc<dyn Object>, TreeError> {
        self.resolve(path).map(|(_, node)| &node.object)
    }

    /// The absolute path that an absolute or partial path means.
    ///
    /// # Errors
    /// As for [`Tree::object`].
    pub fn canonical_path(&self, path: &str) -> Result<String, TreeError> {
        self.resolve(path).map(|(path, _)| path)
    }

    /// `qom-list`: an array of QAPI's `ObjectPropertyInfo`, properties first and children after them.
    ///
    /// # Errors
    /// As for [`Tree::object`].
    pub fn list(&self, path: &str) -> Result<Vec<Value>, TreeError> {
        let (_, node) = self.resolve(path)?;
        let properties = all_properties(node).into_iter();
        Ok(properties
            .map(|(name, kind)| json!({"name": name, "type": kind}))
            .collect())
    }

    /// `qom-get`. A child's value is its path.
    ///
    /// # Errors
    /// As for [`Tree::object`], or why the property cannot be read.
    pub fn get(&self, path: &str, property: &str) -> Result<Value, Error> {
        let (path, node) = self.resolve(path)?;
        value(&path, node, property)
    }

    /// `qom-set`.
    ///
    /// # Errors
    /// As for [`Tree::object`], or why the property cannot be set.
    pub fn set(&self, path: &str, property: &str, value: &Value) -> Result<(), Error> {
        let (_, node) = self.resolve(path)?;
        if property == "type" || node.children.contains_key(property) {
            return Err(not_writable(node.object.type_name(), property));
        }
        node.object.set(property, value)
    }

    /// `qom-list-get`: for each path an object `{"properties": [{name, type, value}]}`; the value is left out where it
    /// cannot be read.
    ///
    /// # Errors
    /// As for [`Tree::object`], for the first path that fails.
    pub fn list_get<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<Vec<Value>, TreeError> {
        paths.into_iter().map(|path| self.list_get_one(path)).collect()
    }

    fn list_get_one(&self, path: &str) -> Result<Value, TreeError> {
        let (path, node) = self.resolve(path)?;
        let properties: Vec<Value> = all_properties(node)
            .into_iter()
            .map(|(name, kind)| {
                let value = value(&path, node, &name).ok();
                let mut entry = json!({"name": name, "type": kind});
                if let Some(value) = value {
                    entry["value"] = value;
                }
                entry
            })
            .collect();
        Ok(json!({"properties": properties}))
    }
}

fn all_properties(node: &Node) -> Vec<(String, String)> {
    let mut all = vec![("type".to_owned(), "string".to_owned())];
    // A child that its parent's type declares is a property like any other until it is there.
    let own = node.object.properties().into_iter();
    all.extend(own.filter(|(name, _)| !node.children.contains_key(name)));
    let children = node.children.iter();
    all.extend(children.map(|(name, child)| (name.clone(), format!("child<{}>", child.object.type_name()))));
    all
}

fn value(path: &str, node: &Node, property: &str) -> Result<Value, Error> {
    if property == "type" {
        return Ok(json!(node.object.type_name()));
    }
    if node.children.contains_key(property) {
        return Ok(json!(format!("{}/{property}", path.trim_end_matches('/'))));
    }
    node.object.get(property)
}

fn free_name(node: &Node, stem: &str) -> String {
    (0u64..)
        .map(|index| format!("{stem}[{index}]"))
        .find(|name| !node.children.contains_key(name))
        .unwrap_or_else(|| stem.to_owned())
}

#[cfg(test)]
mod tests;
