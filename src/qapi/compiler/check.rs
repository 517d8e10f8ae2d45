//! From expressions to the schema: every name known, every key allowed, every definition documented.

mod commands;
mod members;
mod rust_names;
mod types;

use std::collections::BTreeMap;

use super::doc::Doc;
use super::error::{Place, SchemaError};
use super::expect;
use super::parser::{self, Expression};
use super::schema::{Builtin, Schema, TypeRef};

/// Checks all definitions.
///
/// # Errors
/// The first mistake found.
pub(crate) fn check(expressions: &[Expression]) -> Result<Schema, SchemaError> {
    let checker = Checker::new(expressions)?;
    let mut schema = Schema::default();
    for definition in &checker.definitions {
        match definition.kind {
            Kind::Command => schema.commands.push(checker.command(definition)?),
            Kind::Event => schema.events.push(checker.event(definition)?),
            _ => {
                schema.by_name.insert(definition.name.clone(), schema.types.len());
                schema.types.push(checker.type_def(definition)?);
            }
        }
    }
    for ty in &schema.types {
        types::check_finite(&schema, ty)?;
        rust_names::check_inside(ty)?;
    }
    rust_names::check_items(&checker.definitions)?;
    Ok(schema)
}

/// What an expression defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Struct,
    Enum,
    Union,
    Alternate,
    Command,
    Event,
}

const KINDS: [(&str, Kind); 6] = [
    ("struct", Kind::Struct),
    ("enum", Kind::Enum),
    ("union", Kind::Union),
    ("alternate", Kind::Alternate),
    ("command", Kind::Command),
    ("event", Kind::Event),
];

/// An expression with its kind and name.
struct Definition<'a> {
    kind: Kind,
    name: String,
    expression: &'a Expression,
    doc: Doc,
}

impl Definition<'_> {
    fn place(&self) -> &Place {
        &self.expression.place
    }

    /// The documentation of a member.
    fn member_doc(&self, member: &str, place: &Place) -> Result<String, SchemaError> {
        match self.doc.members.get(member) {
            Some(text) if !text.is_empty() => Ok(text.clone()),
            _ => Err(place.error(format!("'{member}' of '{}' is not documented", self.name))),
        }
    }

    /// Refuses documentation of members that are not among `names`.
    fn check_doc_members(&self, names: &[&str]) -> Result<(), SchemaError> {
        let mut documented = self.doc.members.keys();
        match documented.find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(self
                .place()
                .error(format!("'{name}' is documented but no member of '{}'", self.name))),
            None => Ok(()),
        }
    }
}

struct Checker<'a> {
    definitions: Vec<Definition<'a>>,
    types: BTreeMap<String, usize>,
}

impl<'a> Checker<'a> {
    fn new(expressions: &'a [Expression]) -> Result<Self, SchemaError> {
        let mut checker = Self {
            definitions: Vec::new(),
            types: BTreeMap::new(),
        };
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        for expression in expressions {
            let definition = define(expression)?;
            if let Some(first) = seen.insert(definition.name.clone(), expression.place.clone()) {
                return Err(expression.place.error(format!(
                    "'{}' is already defined at {}:{}",
                    definition.name,
                    first.file.display(),
                    first.line
                )));
            }
            if !matches!(definition.kind, Kind::Command | Kind::Event) {
                checker.types.insert(definition.name.clone(), checker.definitions.len());
            }
            checker.definitions.push(definition);
        }
        Ok(checker)
    }

    /// The definition of a type.
    fn find(&self, name: &str) -> Option<&Definition<'a>> {
        self.types.get(name).map(|&index| &self.definitions[index])
    }

    /// The type that `node` names.
    fn type_ref(&self, node: &parser::Node) -> Result<TypeRef, SchemaError> {
        if let parser::NodeKind::List(items) = &node.kind {
            let [item] = items.as_slice() else {
                return Err(node.place.error("an array type must name one element type"));
            };
            return Ok(TypeRef::Array(Box::new(self.type_ref(item)?)));
        }
        let name = parser::string(node, "a type")?;
        if let Some(builtin) = Builtin::from_name(name) {
            return Ok(TypeRef::Builtin(builtin));
        }
        match self.types.contains_key(name) {
            true => Ok(TypeRef::Named(name.to_owned())),
            false => Err(node.place.error(format!("unknown type '{name}'"))),
        }
    }
}

fn define(expression: &Expression) -> Result<Definition<'_>, SchemaError> {
    let Some((word, kind, node)) = KINDS.iter().find_map(|(word, kind)| {
        let (_, node) = expression.members.iter().find(|(key, _)| key == word)?;
        Some((*word, *kind, node))
    }) else {
        return Err(expression.place.error("expression defines nothing known"));
    };
    let name = expect::name(parser::string(node, &format!("'{word}'"))?, &node.place)?.to_owned();
    check_spelling(kind, &name, &node.place)?;
    let Some(lines) = &expression.doc else {
        return Err(expression.place.error(format!("'{name}' is not documented")));
    };
    Ok(Definition {
        kind,
        doc: Doc::parse(lines, &name, &expression.place)?,
        name,
        expression,
    })
}

/// Types are in camel case, events in capitals, commands in small letters.
fn check_spelling(kind: Kind, name: &str, place: &Place) -> Result<(), SchemaError> {
    let (good, rule) = match kind {
        Kind::Command => (!name.contains(|c: char| c.is_ascii_uppercase()), "small letters"),
        Kind::Event => (!name.contains(|c: char| c.is_ascii_lowercase()), "capitals"),
        _ => (
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric()),
            "camel case",
        ),
    };
    if !good {
        return Err(place.error(format!("name '{name}' must be in {rule}")));
    }
    Ok(())
}
