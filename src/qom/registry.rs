//! All types of one binary, by name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::types::{PropertyInfo, TypeInfo};
use super::values::GlobalValue;
use super::{base, objects};

/// A type in a registry: as a [`TypeInfo`], but its names may have been made at run time, as those of CPU models are.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its name, unique.
    pub name: Cow<'static, str>,
    /// The type it inherits from; none for `object` and `interface`.
    pub parent: Option<Cow<'static, str>>,
    /// Whether it only serves as a parent.
    pub is_abstract: bool,
    /// Interfaces it implements, those of its parents left out.
    pub interfaces: &'static [&'static str],
    /// For devices: the bus they plug into; none means that of the parent.
    pub bus: Option<&'static str>,
    /// For devices: whether `-device` may create it.
    pub user_creatable: bool,
    /// For devices: whether `device_add` may create it on a running guest.
    pub hotpluggable: bool,
    /// What it is, in one line, for help texts.
    pub description: Cow<'static, str>,
    /// The properties it adds to those of its parent.
    pub properties: Cow<'static, [PropertyInfo]>,
}

impl Type {
    /// A type that adds nothing to `parent` but a name.
    #[must_use]
    pub fn child(name: impl Into<Cow<'static, str>>, parent: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            parent: Some(parent.into()),
            is_abstract: false,
            interfaces: &[],
            bus: None,
            user_creatable: false,
            hotpluggable: false,
            description: Cow::Borrowed(""),
            properties: Cow::Borrowed(&[]),
        }
    }
}

impl From<&TypeInfo> for Type {
    fn from(info: &TypeInfo) -> Self {
        Self {
            name: Cow::Borrowed(info.name),
            parent: info.parent.map(Cow::Borrowed),
            is_abstract: info.is_abstract,
            interfaces: info.interfaces,
            bus: info.bus,
            user_creatable: info.user_creatable,
            hotpluggable: info.hotpluggable,
            description: Cow::Borrowed(info.description),
            properties: Cow::Borrowed(info.properties),
        }
    }
}

/// Two types want the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("type '{0}' is declared twice")]
pub struct DuplicateType(pub String);

/// The types of one binary.
#[derive(Clone, Debug)]
pub struct Registry {
    types: BTreeMap<Cow<'static, str>, Type>,
    compat: Vec<GlobalValue<'static>>,
}

impl std::default::Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry that holds what every binary has: the base types and the objects that users create.
    #[must_use]
    pub fn new() -> Self {
        let known = base::TYPES.iter().chain(objects::types());
        let types = known.map(|info| (Cow::Borrowed(info.name), Type::from(info))).collect();
        Self {
            types,
            compat: Vec::new(),
        }
    }

    /// Adds types, static or made at run time.
    ///
    /// # Errors
    /// Names the first type that is there already; those before it have been added.
    pub fn add<T: Into<Type>>(&mut self, types: impl IntoIterator<Item = T>) -> Result<(), DuplicateType> {
        for new in types {
            let new = new.into();
            if self.types.contains_key(&new.name) {
                return Err(DuplicateType(new.name.into_owned()));
            }
            self.types.insert(new.name.clone(), new);
        }
        Ok(())
    }

    /// Sets what a machine type has instead of defaults: type, property and value, those that win last.
    pub fn set_compat(&mut self, compat: impl IntoIterator<Item = GlobalValue<'static>>) {
        self.compat = compat.into_iter().collect();
    }

    /// What the machine type has instead of defaults.
    pub(super) fn compat(&self) -> impl Iterator<Item = GlobalValue<'static>> + '_ {
        self.compat.iter().copied()
    }

    /// The type of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    /// All types, by name.
    pub fn types(&self) -> impl Iterator<Item = &Type> {
        self.types.values()
    }

    /// The type and everything it inherits from, nearest first. Ends where a parent is not declared.
    pub fn lineage(&self, name: &str) -> impl Iterator<Item = &Type> {
        let parent = |of: &&Type| self.get(of.parent.as_deref()?);
        // A circle of parents would be a fault in a declaration; the depth keeps even that from hanging.
        std::iter::successors(self.get(name), parent).take(MAX_DEPTH)
    }

    /// Whether the type is, inherits from or implements `ancestor`.
    #[must_use]
    pub fn is_a(&self, name: &str, ancestor: &str) -> bool {
        self.lineage(name).any(|link| {
            link.name == ancestor
                || link
                    .interfaces
                    .iter()
                    .any(|interface| self.lineage(interface).any(|link| link.name == ancestor))
        })
    }

    /// The properties of the type, those of the remotest parent first. A property declared again replaces the
    /// inherited one in its place.
    #[must_use]
    pub fn properties(&self, name: &str) -> Vec<&PropertyInfo> {
        let mut lineage: Vec<&Type> = self.lineage(name).collect();
        lineage.reverse();
        let mut properties: Vec<&PropertyInfo> = Vec::new();
        for property in lineage.iter().flat_map(|link| link.properties.iter()) {
            match properties.iter_mut().find(|known| known.name == property.name) {
                Some(known) => *known = property,
                None => properties.push(property),
            }
        }
        properties
    }

    /// The property of this name that the type has or inherits.
    #[must_use]
    pub fn property(&self, type_name: &str, property: &str) -> Option<&PropertyInfo> {
        self.lineage(type_name)
            .find_map(|link| link.properties.iter().find(|known| known.name == property))
    }

    /// The bus that devices of this type plug into.
    #[must_use]
    pub fn bus(&self, type_name: &str) -> Option<&'static str> {
        self.lineage(type_name).find_map(|link| link.bus)
    }
}

/// More than any lineage has.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qom::types::{Default, PropertyKind};

    #[test]
    fn every_parent_and_interface_is_declared() {
        let registry = Registry::new();
        for declared in registry.types() {
            let root = registry.lineage(&declared.name).last().unwrap();
            assert!(root.parent.is_none(), "{} has no root", declared.name);
            for interface in declared.interfaces {
                assert!(registry.is_a(interface, "interface"), "{interface}");
            }
        }
    }

    #[test]
    fn types_made_at_run_time() {
        let mut registry = Registry::new();
        let model = || Type::child(format!("Model{}-x86_64-cpu", 7), "cpu");
        registry.add([model()]).unwrap();
        assert!(registry.is_a("Model7-x86_64-cpu", "device"));
        assert!(registry.is_a("Model7-x86_64-cpu", "object"));
        assert!(!registry.is_a("Model7-x86_64-cpu", "accel"));
        let error = registry.add([model()]).unwrap_err();
        assert_eq!(error.to_string(), "type 'Model7-x86_64-cpu' is declared twice");
    }

    #[test]
    fn a_property_declared_again_replaces_the_inherited_one() {
        let mut registry = Registry::new();
        let mut child = Type::child("slow-iothread", "iothread");
        child.properties = Cow::Owned(vec![PropertyInfo::new(
            "poll-max-ns",
            PropertyKind::Int,
            Default::Int(0),
            "",
        )]);
        registry.add([child]).unwrap();
        let properties = registry.properties("slow-iothread");
        let polls: Vec<_> = properties
            .iter()
            .filter(|property| property.name == "poll-max-ns")
            .collect();
        assert_eq!(polls.len(), 1);
        assert_eq!(polls[0].default, Default::Int(0));
        assert_eq!(
            registry.property("slow-iothread", "poll-max-ns").unwrap().default,
            Default::Int(0)
        );
    }

    #[test]
    fn interfaces_are_inherited() {
        let registry = Registry::new();
        assert!(registry.is_a("memory-backend-ram", "user-creatable"));
        assert!(registry.is_a("user-creatable", "interface"));
        assert!(!registry.is_a("nope", "object"));
    }
}
