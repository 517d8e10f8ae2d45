//! Applying switches to a model: the `props` of a query.

use serde_json::Value;

use super::error::Error;
use super::feature::{self, Switch};
use super::model::Model;
use super::order;
use super::types::{CPU_PROPERTIES, INHERITED, READ_ONLY};
use crate::qom::{PropertyInfo, PropertyKind};

impl Model {
    /// Switches the feature or group `name`.
    ///
    /// # Errors
    /// `PropertyNotFound`, or `FeatureTooNew` or `GroupTooNew` when it is switched on and the machine did not have it.
    pub fn switch(&mut self, name: &str, on: bool) -> Result<(), Error> {
        let full = &self.definition.full;
        let model = self.definition.name;
        match feature::find(name) {
            Some(Switch::Feature(id)) if !on => self.features.remove(id),
            Some(Switch::Feature(id)) if full.contains(id) => self.features.insert(id),
            Some(Switch::Feature(id)) => {
                let feature = id.name();
                return Err(Error::FeatureTooNew { feature, model });
            }
            Some(Switch::Group(group)) if !on => self.features = self.features.minus(&group.members),
            Some(Switch::Group(group)) if full.intersects(&group.members) => {
                self.features = self.features.union(&group.members);
            }
            Some(Switch::Group(group)) => {
                return Err(Error::GroupTooNew {
                    group: group.name,
                    model,
                });
            }
            None => return Err(self.no_property(name)),
        }
        Ok(())
    }

    /// Applies the `props` member of a model in a query, in the order QEMU would. `path` is where the model stands in the
    /// command's arguments.
    ///
    /// # Errors
    /// What is wrong with the first member that does not fit.
    pub fn apply_props(&mut self, props: Option<&Value>, path: &str) -> Result<(), Error> {
        let Some(props) = props else {
            return Ok(());
        };
        let Some(members) = props.as_object() else {
            return Err(wrong_type(format!("{path}.props"), "object"));
        };
        for (name, value) in order::walk(members.iter().map(|(name, value)| (name.as_str(), value))) {
            let path = format!("{path}.props.{name}");
            if let Some(property) = other_property(name) {
                self.check_other(property, value, path)?;
                continue;
            }
            if feature::find(name).is_none() {
                return Err(self.no_property(name));
            }
            let on = value.as_bool().ok_or_else(|| wrong_type(path, "boolean"))?;
            self.switch(name, on)?;
        }
        Ok(())
    }

    pub(super) fn no_property(&self, name: &str) -> Error {
        Error::PropertyNotFound {
            typename: self.typename(),
            name: name.to_owned(),
        }
    }

    pub(super) fn not_writable(&self, name: &str) -> Error {
        Error::NotWritable {
            typename: self.typename(),
            name: name.to_owned(),
        }
    }

    /// Checks a value for a property that switches nothing; it has no effect on a model.
    fn check_other(&self, property: &PropertyInfo, value: &Value, path: String) -> Result<(), Error> {
        if !property.settable {
            return Err(self.not_writable(property.name));
        }
        let integer = |bounds: std::ops::RangeInclusive<i64>, wide, narrow| {
            if !value.is_number() {
                return Err(wrong_type(path.clone(), "integer"));
            }
            let expected = match value.as_i64() {
                Some(number) if bounds.contains(&number) => return Ok(()),
                Some(_) => narrow,
                None => wide,
            };
            let path = path.clone();
            Err(Error::OutOfRange { path, expected })
        };
        match property.kind {
            PropertyKind::Bool if value.is_boolean() => Ok(()),
            PropertyKind::Bool => Err(wrong_type(path, "boolean")),
            PropertyKind::Uint32 => integer(0..=i64::from(u32::MAX), "uint64", "uint32_t"),
            PropertyKind::Int32 => integer(i64::from(i32::MIN)..=i64::from(i32::MAX), "int64", "int32_t"),
            PropertyKind::Enum(_, values) => match value.as_str() {
                None => Err(wrong_type(path, "string")),
                Some(text) if values.contains(&text) => Ok(()),
                Some(text) => Err(Error::NotAccepted {
                    path,
                    value: text.to_owned(),
                }),
            },
            _ if value.is_string() => Ok(()),
            _ => Err(wrong_type(path, "string")),
        }
    }
}

/// The property of this name that is no switch, if there is one.
pub(super) fn other_property(name: &str) -> Option<&'static PropertyInfo> {
    let mut others = READ_ONLY.iter().chain(&CPU_PROPERTIES).chain(&INHERITED);
    others.find(|property| property.name == name)
}

fn wrong_type(path: String, expected: &'static str) -> Error {
    Error::WrongType { path, expected }
}
