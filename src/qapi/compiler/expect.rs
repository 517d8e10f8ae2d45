//! Reading the members of an expression: which keys there may be, and of what kind their values are.

use super::error::{Place, SchemaError};
use super::parser::{self, Node, NodeKind};

/// The members of an expression or of a nested object.
pub(crate) struct Keys<'a> {
    members: &'a [(String, Node)],
    place: Place,
}

impl<'a> Keys<'a> {
    /// Wraps `members`, all of which must be `allowed`.
    ///
    /// # Errors
    /// Names a key that is not allowed.
    pub(crate) fn new(members: &'a [(String, Node)], place: &Place, allowed: &[&str]) -> Result<Self, SchemaError> {
        match members.iter().find(|(key, _)| !allowed.contains(&key.as_str())) {
            Some((key, node)) => Err(node.place.error(format!("unknown key '{key}'"))),
            None => Ok(Self {
                members,
                place: place.clone(),
            }),
        }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The value of `key`, which must be there.
    ///
    /// # Errors
    /// Names the key that is missing.
    pub(crate) fn require(&self, key: &str) -> Result<&'a Node, SchemaError> {
        self.get(key)
            .ok_or_else(|| self.place.error(format!("key '{key}' is missing")))
    }

    /// The boolean at `key`, or `default`.
    ///
    /// # Errors
    /// The value is not a boolean.
    pub(crate) fn boolean(&self, key: &str, default: bool) -> Result<bool, SchemaError> {
        match self.get(key) {
            None => Ok(default),
            Some(Node {
                kind: NodeKind::Bool(value),
                ..
            }) => Ok(*value),
            Some(node) => Err(node.place.error(format!("'{key}' must be true or false"))),
        }
    }

    /// The strings of the list `features`.
    ///
    /// # Errors
    /// The value is not a list of distinct strings.
    pub(crate) fn features(&self) -> Result<Vec<String>, SchemaError> {
        let Some(node) = self.get("features") else {
            return Ok(Vec::new());
        };
        let mut features = Vec::new();
        for item in list(node, "'features'")? {
            let feature = parser::string(item, "a feature")?.to_owned();
            if features.contains(&feature) {
                return Err(item.place.error(format!("duplicate feature '{feature}'")));
            }
            features.push(feature);
        }
        Ok(features)
    }
}

/// The items of the list in `node`; `what` names it in the error.
///
/// # Errors
/// The value is not a list.
pub(crate) fn list<'a>(node: &'a Node, what: &str) -> Result<&'a [Node], SchemaError> {
    match &node.kind {
        NodeKind::List(items) => Ok(items),
        _ => Err(node.place.error(format!("{what} must be a list"))),
    }
}

/// The members of the object in `node`; `what` names it in the error.
///
/// # Errors
/// The value is not an object.
pub(crate) fn object<'a>(node: &'a Node, what: &str) -> Result<&'a [(String, Node)], SchemaError> {
    match &node.kind {
        NodeKind::Object(members) => Ok(members),
        _ => Err(node.place.error(format!("{what} must be an object"))),
    }
}

/// Checks the spelling of a name on the wire.
///
/// # Errors
/// The name is empty or holds something other than letters, digits, `-`, `_` and `.`.
pub(crate) fn name<'a>(name: &'a str, place: &Place) -> Result<&'a str, SchemaError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(good) {
        return Err(place.error(format!("'{name}' is not a name")));
    }
    Ok(name)
}
