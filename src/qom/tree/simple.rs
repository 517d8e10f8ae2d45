//! An object made of values that were set when it was created, and of the few that change.

use serde_json::{Value, json};

use super::{Object, not_found, not_writable};
use crate::qapi::Error;
use crate::qom::registry::Registry;
use crate::qom::types::PropertyKind;
use crate::qom::values::Values;

type Getter = Box<dyn Fn() -> Value + Send + Sync>;
type Setter = Box<dyn Fn(&Value) -> Result<(), Error> + Send + Sync>;

/// An object whose properties are a plain list.
pub struct Simple {
    type_name: String,
    /// For devices: the id, for messages.
    device: Option<String>,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    kind: String,
    value: Held,
    setter: Option<Setter>,
}

enum Held {
    /// The same for ever.
    Fixed(Value),
    /// Asked for each time.
    Live(Getter),
    /// Declared, but nobody gave a value and there is no default.
    Unset,
}

impl Simple {
    /// An object without properties, such as a container or a character device.
    #[must_use]
    pub fn new(type_name: impl Into<String>) -> Self {
        Self {
            type_name: type_name.into(),
            device: None,
            entries: Vec::new(),
        }
    }

    /// An object with the properties that its type declares and these values.
    #[must_use]
    pub fn from_values(registry: &Registry, type_name: &str, values: &Values) -> Self {
        let declared = registry.properties(type_name).into_iter();
        let entries = declared
            .filter(|property| property.name != "type")
            .map(|property| Entry {
                name: property.name.to_owned(),
                kind: property.kind.type_name().into_owned(),
                value: match (property.kind, values.get(property.name)) {
                    (PropertyKind::Uint16List, None) => Held::Fixed(json!([])),
                    (_, None) => Held::Unset,
                    (PropertyKind::Link(_), Some(target)) => Held::Fixed(link_path(target)),
                    (_, Some(value)) => Held::Fixed(value.clone()),
                },
                setter: None,
            })
            .collect();
        Self {
            entries,
            ..Self::new(type_name)
        }
    }

    /// A device with these values, realized, on the bus at this path.
    #[must_use]
    pub fn device(
        registry: &Registry,
        type_name: &str,
        values: &Values,
        id: Option<&str>,
        parent_bus: Option<&str>,
        hotplugged: bool,
    ) -> Self {
        let hotpluggable = registry.get(type_name).is_some_and(|entry| entry.hotpluggable);
        let mut object = Self::from_values(registry, type_name, values)
            .with("parent_bus", "link<bus>", json!(parent_bus.unwrap_or_default()))
            .with("realized", "bool", json!(true))
            .with("hotplugged", "bool", json!(hotplugged))
            .with("hotpluggable", "bool", json!(hotpluggable));
        object.device = Some(id.unwrap_or_default().to_owned());
        object
    }

    /// The same with a property that never changes; replaces one of that name.
    #[must_use]
    pub fn with(self, name: &str, kind: &str, value: Value) -> Self {
        self.with_entry(name, kind, Held::Fixed(value), None)
    }

    /// The same with a property whose value is asked for each time; replaces one of that name.
    #[must_use]
    pub fn with_live(self, name: &str, kind: &str, get: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.with_entry(name, kind, Held::Live(Box::new(get)), None)
    }

    /// The same with a property that can be read and set; replaces one of that name.
    #[must_use]
    pub fn with_settable(
        self,
        name: &str,
        kind: &str,
        get: impl Fn() -> Value + Send + Sync + 'static,
        set: impl Fn(&Value) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.with_entry(name, kind, Held::Live(Box::new(get)), Some(Box::new(set)))
    }

    fn with_entry(mut self, name: &str, kind: &str, value: Held, setter: Option<Setter>) -> Self {
        let entry = Entry {
            name: name.to_owned(),
            kind: kind.to_owned(),
            value,
            setter,
        };
        match self.entries.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self
    }

    fn entry(&self, property: &str) -> Result<&Entry, Error> {
        let entry = self.entries.iter().find(|entry| entry.name == property);
        entry.ok_or_else(|| not_found(&self.type_name, property))
    }
}

/// Links are given by id, and shown as paths. What users link to are the objects they made.
fn link_path(target: &Value) -> Value {
    match target.as_str() {
        Some(id) if !id.is_empty() && !id.starts_with('/') => json!(format!("/objects/{id}")),
        _ => target.clone(),
    }
}

impl Object for Simple {
    fn type_name(&self) -> &str {
        &self.type_name
    }

    fn properties(&self) -> Vec<(String, String)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.name.clone(), entry.kind.clone())).collect()
    }

    fn get(&self, property: &str) -> Result<Value, Error> {
        let entry = self.entry(property)?;
        Ok(match &entry.value {
            Held::Fixed(value) => value.clone(),
            Held::Live(get) => get(),
            Held::Unset => match entry.kind.as_str() {
                "bool" => json!(false),
                kind if kind.starts_with("int") || kind.starts_with("uint") || kind == "size" => json!(0),
                _ => json!(""),
            },
        })
    }

    fn set(&self, property: &str, value: &Value) -> Result<(), Error> {
        let entry = self.entry(property)?;
        match (&entry.setter, &self.device) {
            (Some(set), _) => set(value),
            (None, Some(id)) => Err(Error::generic(format!(
                "Attempt to set property '{property}' on {} (type '{}') after it was realized",
                if id.is_empty() {
                    "anonymous device".to_owned()
                } else {
                    format!("device '{id}'")
                },
                self.type_name
            ))),
            (None, None) => Err(not_writable(&self.type_name, property)),
        }
    }
}
