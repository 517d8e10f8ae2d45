//! Definitions of commands and events.

use super::super::condition;
use super::super::error::SchemaError;
use super::super::expect::Keys;
use super::super::parser::{self, NodeKind};
use super::super::schema::{Arch, Builtin, Command, Data, Event, Member, Throttle, TypeRef};
use super::members::member_names;
use super::{Checker, Definition, Kind};

impl Checker<'_> {
    /// A command.
    pub(super) fn command(&self, definition: &Definition<'_>) -> Result<Command, SchemaError> {
        let keys = Keys::new(
            &definition.expression.members,
            definition.place(),
            &[
                "command",
                "data",
                "boxed",
                "gen",
                "returns",
                "success-response",
                "allow-oob",
                "allow-preconfig",
                "run",
                "features",
                "if",
            ],
        )?;
        let returns = keys.get("returns").map(|node| self.type_ref(node)).transpose()?;
        Ok(Command {
            name: definition.name.clone(),
            data: self.data(&keys, definition)?,
            typed: keys.boolean("gen", true)?,
            returns,
            success_response: keys.boolean("success-response", true)?,
            allow_oob: keys.boolean("allow-oob", false)?,
            allow_preconfig: keys.boolean("allow-preconfig", false)?,
            run: match keys.get("run") {
                Some(node) => parser::run(node)?,
                None => definition.expression.default_run,
            },
            features: keys.features()?,
            archs: archs(&keys)?,
            doc: definition.doc.clone(),
        })
    }

    /// An event.
    pub(super) fn event(&self, definition: &Definition<'_>) -> Result<Event, SchemaError> {
        let keys = Keys::new(
            &definition.expression.members,
            definition.place(),
            &["event", "data", "boxed", "throttle", "features", "if"],
        )?;
        let data = self.data(&keys, definition)?;
        Ok(Event {
            name: definition.name.clone(),
            throttle: self.throttle(&keys, &data)?,
            data,
            features: keys.features()?,
            archs: archs(&keys)?,
            doc: definition.doc.clone(),
        })
    }

    /// `throttle`: true, or the name of the member that tells apart what is held back.
    fn throttle(&self, keys: &Keys<'_>, data: &Data) -> Result<Throttle, SchemaError> {
        let Some(node) = keys.get("throttle") else {
            return Ok(Throttle::None);
        };
        let name = match &node.kind {
            NodeKind::Bool(true) => return Ok(Throttle::Together),
            NodeKind::Str(name) => name,
            _ => return Err(node.place.error("'throttle' must be true or the name of a member")),
        };
        let inline: &[Member] = match data {
            Data::Inline(members) => members,
            _ => &[],
        };
        match inline.iter().find(|member| member.name == *name) {
            Some(member) if !member.optional && member.ty == TypeRef::Builtin(Builtin::Str) => {
                Ok(Throttle::By(name.clone()))
            }
            Some(_) => Err(node
                .place
                .error(format!("'{name}' must be a string that is always there"))),
            None => Err(node.place.error(format!("'{name}' is not in 'data'"))),
        }
    }

    fn data(&self, keys: &Keys<'_>, definition: &Definition<'_>) -> Result<Data, SchemaError> {
        let boxed = keys.boolean("boxed", false)?;
        let Some(node) = keys.get("data") else {
            definition.check_doc_members(&[])?;
            return match boxed {
                true => Err(definition.place().error("'boxed' needs 'data'")),
                false => Ok(Data::None),
            };
        };
        if let NodeKind::Object(_) = &node.kind {
            if boxed {
                return Err(node.place.error("'boxed' data must name a type"));
            }
            let members = self.members(node, definition)?;
            definition.check_doc_members(&member_names(&members))?;
            return Ok(Data::Inline(members));
        }
        definition.check_doc_members(&[])?;
        let name = parser::string(node, "'data'")?;
        let kind = self.find(name).map(|definition| definition.kind);
        match kind {
            Some(Kind::Struct) => Ok(Data::Named(name.to_owned())),
            Some(Kind::Union) if boxed => Ok(Data::Named(name.to_owned())),
            Some(Kind::Union) => Err(node.place.error(format!("data of union '{name}' must be 'boxed'"))),
            Some(_) => Err(node
                .place
                .error(format!("'data' must be a struct or a union, '{name}' is not"))),
            None => Err(node.place.error(format!("unknown type '{name}'"))),
        }
    }
}

fn archs(keys: &Keys<'_>) -> Result<Vec<Arch>, SchemaError> {
    match keys.get("if") {
        Some(node) => condition::archs(node),
        None => Ok(Arch::ALL.to_vec()),
    }
}
