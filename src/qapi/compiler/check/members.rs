//! Members of structs, bases and arguments.

use super::super::error::SchemaError;
use super::super::expect::{self, Keys};
use super::super::parser::{self, Node, NodeKind};
use super::super::schema::Member;
use super::{Checker, Definition, Kind};

impl Checker<'_> {
    /// The members written in `node`, which are documented at `definition`.
    pub(super) fn members(&self, node: &Node, definition: &Definition<'_>) -> Result<Vec<Member>, SchemaError> {
        expect::object(node, "'data'")?
            .iter()
            .map(|(key, node)| self.member(key, node, definition))
            .collect()
    }

    fn member(&self, key: &str, node: &Node, definition: &Definition<'_>) -> Result<Member, SchemaError> {
        let (optional, name) = match key.strip_prefix('*') {
            Some(name) => (true, name),
            None => (false, key),
        };
        let name = expect::name(name, &node.place)?;
        let (ty, features) = match &node.kind {
            NodeKind::Object(members) => {
                let keys = Keys::new(members, &node.place, &["type", "features"])?;
                (keys.require("type")?, keys.features()?)
            }
            _ => (node, Vec::new()),
        };
        Ok(Member {
            name: name.to_owned(),
            ty: self.type_ref(ty)?,
            optional,
            features,
            doc: definition.member_doc(name, &node.place)?,
        })
    }

    /// All members of the struct `definition`: those of its base first.
    pub(super) fn struct_members(&self, definition: &Definition<'_>) -> Result<Vec<Member>, SchemaError> {
        self.struct_members_above(definition, &mut Vec::new())
    }

    fn struct_members_above(
        &self,
        definition: &Definition<'_>,
        below: &mut Vec<String>,
    ) -> Result<Vec<Member>, SchemaError> {
        if below.contains(&definition.name) {
            return Err(definition
                .place()
                .error(format!("'{}' is its own base", definition.name)));
        }
        below.push(definition.name.clone());
        let keys = Keys::new(
            &definition.expression.members,
            definition.place(),
            &["struct", "base", "data", "features"],
        )?;
        let mut members = match keys.get("base") {
            None => Vec::new(),
            Some(node) => {
                let base = self.struct_named(node, "a base")?;
                self.struct_members_above(base, below)?
            }
        };
        let own = self.members(keys.require("data")?, definition)?;
        definition.check_doc_members(&member_names(&own))?;
        for member in own {
            if members.iter().any(|other| other.name == member.name) {
                return Err(definition.place().error(format!(
                    "member '{}' of '{}' is already in its base",
                    member.name, definition.name
                )));
            }
            members.push(member);
        }
        Ok(members)
    }

    /// The struct that `node` names.
    pub(super) fn struct_named(&self, node: &Node, what: &str) -> Result<&Definition<'_>, SchemaError> {
        let name = parser::string(node, what)?;
        match self.find(name) {
            Some(definition) if definition.kind == Kind::Struct => Ok(definition),
            Some(_) => Err(node.place.error(format!("{what} must be a struct, '{name}' is not"))),
            None => Err(node.place.error(format!("unknown type '{name}'"))),
        }
    }
}

/// The names of `members`.
pub(super) fn member_names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.name.as_str()).collect()
}
