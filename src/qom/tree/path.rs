//! Finding objects by path.

use super::{Node, Tree, TreeError};

/// How many links one path may follow; more than that is a circle.
const MAX_LINKS: usize = 16;

/// What a partial path means.
enum Match<'a> {
    None,
    One(String, &'a Node),
    Several,
}

impl Tree {
    /// The node at an absolute path that follows children only.
    pub(super) fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        components(path).try_fold(&mut self.root, |node, name| node.children.get_mut(name))
    }

    /// The node and the absolute path that `path` means. A path that does not start with a slash may start anywhere in
    /// the tree, but must then mean one object only.
    pub(super) fn resolve(&self, path: &str) -> Result<(String, &Node), TreeError> {
        if path.starts_with('/') {
            return self
                .walk(String::new(), &self.root, path, MAX_LINKS)
                .ok_or_else(|| no_device(path));
        }
        match self.search("", &self.root, path) {
            Match::One(found, node) => Ok((found, node)),
            Match::None => Err(no_device(path)),
            Match::Several => Err(TreeError::Ambiguous(path.to_owned())),
        }
    }

    /// Goes down from `node`, through children and links.
    fn walk<'a>(&'a self, start: String, node: &'a Node, path: &str, links: usize) -> Option<(String, &'a Node)> {
        let (mut at, mut node) = (start, node);
        for name in components(path) {
            if let Some(child) = node.children.get(name) {
                at.push('/');
                at.push_str(name);
                node = child;
                continue;
            }
            let target = self.link_target(node, name)?;
            (at, node) = self.walk(String::new(), &self.root, &target, links.checked_sub(1)?)?;
        }
        if at.is_empty() {
            at.push('/');
        }
        Some((at, node))
    }

    fn link_target(&self, node: &Node, name: &str) -> Option<String> {
        let properties = node.object.properties();
        let is_link = properties
            .iter()
            .any(|(property, kind)| property == name && kind.starts_with("link<"));
        if !is_link {
            return None;
        }
        let target = node.object.get(name).ok()?;
        target.as_str().filter(|path| path.starts_with('/')).map(str::to_owned)
    }

    /// Tries the path at `node` and everywhere below it.
    fn search<'a>(&'a self, at: &str, node: &'a Node, path: &str) -> Match<'a> {
        let mut found = match self.walk(at.to_owned(), node, path, MAX_LINKS) {
            Some((path, node)) => Match::One(path, node),
            None => Match::None,
        };
        for (name, child) in &node.children {
            found = match (found, self.search(&format!("{at}/{name}"), child, path)) {
                (Match::None, below) => below,
                (here, Match::None) => here,
                (_, _) => return Match::Several,
            };
        }
        found
    }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

fn no_device(path: &str) -> TreeError {
    TreeError::NoObject(path.to_owned())
}
