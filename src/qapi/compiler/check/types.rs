//! Definitions of types.

use super::super::error::{Place, SchemaError};
use super::super::expect::{self, Keys};
use super::super::parser::{self, Node, NodeKind};
use super::super::schema::{Branch, Builtin, EnumValue, Member, Schema, TypeDef, TypeKind, TypeRef};
use super::members::member_names;
use super::{Checker, Definition, Kind};

impl Checker<'_> {
    /// A struct, enum, union or alternate.
    pub(super) fn type_def(&self, definition: &Definition<'_>) -> Result<TypeDef, SchemaError> {
        let allowed: &[&str] = match definition.kind {
            Kind::Struct => &["struct", "base", "data", "features"],
            Kind::Union => &["union", "base", "discriminator", "data", "features"],
            Kind::Alternate => &["alternate", "data", "features"],
            _ => &["enum", "data", "features"],
        };
        let keys = Keys::new(&definition.expression.members, definition.place(), allowed)?;
        let kind = match definition.kind {
            Kind::Struct => TypeKind::Struct(self.struct_members(definition)?),
            Kind::Union => self.union(&keys, definition)?,
            Kind::Alternate => TypeKind::Alternate(self.alternate(&keys, definition)?),
            _ => TypeKind::Enum(enumeration(keys.require("data")?, definition)?),
        };
        Ok(TypeDef {
            name: definition.name.clone(),
            kind,
            features: keys.features()?,
            doc: definition.doc.clone(),
            place: definition.place().clone(),
        })
    }

    fn union(&self, keys: &Keys<'_>, definition: &Definition<'_>) -> Result<TypeKind, SchemaError> {
        let base_node = keys.require("base")?;
        let inline = matches!(base_node.kind, NodeKind::Object(_));
        let base = if inline {
            self.members(base_node, definition)?
        } else {
            self.struct_members(self.struct_named(base_node, "a base")?)?
        };
        let discriminator_node = keys.require("discriminator")?;
        let discriminator = parser::string(discriminator_node, "'discriminator'")?;
        let (tag, values) = self.tag(&base, discriminator, &discriminator_node.place)?;
        let data = expect::object(keys.require("data")?, "'data'")?;
        for (name, node) in data {
            if !values.contains(name) {
                return Err(node.place.error(format!("branch '{name}' is no value of '{tag}'")));
            }
        }
        let mut documentable = if inline { member_names(&base) } else { Vec::new() };
        documentable.extend(data.iter().map(|(name, _)| name.as_str()));
        definition.check_doc_members(&documentable)?;
        let mut branches = Vec::new();
        for value in values {
            let mut branch = Branch {
                doc: format!("`{value}`."),
                name: value,
                ty: None,
            };
            if let Some((_, node)) = data.iter().find(|(name, _)| *name == branch.name) {
                branch.ty = Some(self.branch_type(node, &base)?);
                branch.doc = definition.doc.members.get(&branch.name).cloned().unwrap_or(branch.doc);
            }
            branches.push(branch);
        }
        Ok(TypeKind::Union {
            base,
            discriminator: discriminator.to_owned(),
            tag,
            branches,
        })
    }

    /// The name and values of the enumeration that the member `discriminator` has.
    fn tag(&self, base: &[Member], discriminator: &str, place: &Place) -> Result<(String, Vec<String>), SchemaError> {
        let Some(member) = base.iter().find(|member| member.name == discriminator) else {
            return Err(place.error(format!("discriminator '{discriminator}' is not in the base")));
        };
        if member.optional {
            return Err(place.error(format!("discriminator '{discriminator}' must not be optional")));
        }
        if let TypeRef::Named(name) = &member.ty {
            if let Some(definition) = self.find(name).filter(|definition| definition.kind == Kind::Enum) {
                let values = self.type_def(definition)?;
                if let TypeKind::Enum(values) = values.kind {
                    return Ok((name.clone(), values.into_iter().map(|value| value.name).collect()));
                }
            }
        }
        Err(place.error(format!("discriminator '{discriminator}' must be an enum")))
    }

    /// The type of a union's branch, whose members join those of `base`.
    fn branch_type(&self, node: &Node, base: &[Member]) -> Result<TypeRef, SchemaError> {
        let ty = self.type_ref(node)?;
        let TypeRef::Named(name) = &ty else {
            return Err(node.place.error("a branch must be a struct or a union"));
        };
        match self.find(name) {
            Some(branch) if branch.kind == Kind::Struct => {
                let members = self.struct_members(branch)?;
                match members
                    .iter()
                    .find(|member| base.iter().any(|other| other.name == member.name))
                {
                    Some(member) => Err(node.place.error(format!(
                        "member '{}' of branch '{name}' is already in the base",
                        member.name
                    ))),
                    None => Ok(ty),
                }
            }
            Some(branch) if branch.kind == Kind::Union => Ok(ty),
            _ => Err(node.place.error("a branch must be a struct or a union")),
        }
    }

    fn alternate(&self, keys: &Keys<'_>, definition: &Definition<'_>) -> Result<Vec<Branch>, SchemaError> {
        let data = expect::object(keys.require("data")?, "'data'")?;
        let names: Vec<_> = data.iter().map(|(name, _)| name.as_str()).collect();
        definition.check_doc_members(&names)?;
        let mut branches = Vec::new();
        let mut kinds: Vec<&str> = Vec::new();
        for (name, node) in data {
            let ty = self.type_ref(node)?;
            let kind = self.json_kind(&ty, &node.place)?;
            if kinds.contains(&kind) {
                return Err(node
                    .place
                    .error(format!("branch '{name}' cannot be told apart: another is a {kind} too")));
            }
            kinds.push(kind);
            branches.push(Branch {
                name: expect::name(name, &node.place)?.to_owned(),
                ty: Some(ty),
                doc: definition.member_doc(name, &node.place)?,
            });
        }
        if branches.is_empty() {
            return Err(definition.place().error("an alternate needs a branch"));
        }
        Ok(branches)
    }

    /// The kind of JSON value by which an alternate knows a branch of type `ty`.
    fn json_kind(&self, ty: &TypeRef, place: &Place) -> Result<&'static str, SchemaError> {
        Ok(match ty {
            TypeRef::Array(_) => "array",
            TypeRef::Builtin(Builtin::Str) => "string",
            TypeRef::Builtin(Builtin::Bool) => "boolean",
            TypeRef::Builtin(Builtin::Null) => "null",
            TypeRef::Builtin(Builtin::Any) => return Err(place.error("'any' cannot be told apart from anything")),
            TypeRef::Builtin(_) => "number",
            TypeRef::Named(name) => match self.find(name).map(|definition| definition.kind) {
                Some(Kind::Enum) => "string",
                Some(Kind::Alternate) => return Err(place.error("an alternate cannot hold an alternate")),
                _ => "object",
            },
        })
    }
}

fn enumeration(node: &Node, definition: &Definition<'_>) -> Result<Vec<EnumValue>, SchemaError> {
    let mut values: Vec<EnumValue> = Vec::new();
    for item in expect::list(node, "'data'")? {
        let (name, features) = match &item.kind {
            NodeKind::Object(members) => {
                let keys = Keys::new(members, &item.place, &["name", "features"])?;
                (parser::string(keys.require("name")?, "'name'")?, keys.features()?)
            }
            _ => (parser::string(item, "a value")?, Vec::new()),
        };
        let name = expect::name(name, &item.place)?;
        if values.iter().any(|value| value.name == name) {
            return Err(item.place.error(format!("duplicate value '{name}'")));
        }
        values.push(EnumValue {
            name: name.to_owned(),
            features,
            doc: definition.member_doc(name, &item.place)?,
        });
    }
    if values.is_empty() {
        return Err(node.place.error("an enum needs a value"));
    }
    let names: Vec<_> = values.iter().map(|value| value.name.as_str()).collect();
    definition.check_doc_members(&names)?;
    Ok(values)
}

/// Refuses a type that holds itself other than through an array, an alternate, or an optional member: it would have no end.
pub(super) fn check_finite(schema: &Schema, ty: &TypeDef) -> Result<(), SchemaError> {
    let mut pending = held(ty);
    let mut seen = Vec::new();
    while let Some(name) = pending.pop() {
        if name == ty.name {
            return Err(ty.place.error(format!("'{}' holds itself without end", ty.name)));
        }
        if seen.contains(&name) {
            continue;
        }
        pending.extend(schema.find(name).map(held).unwrap_or_default());
        seen.push(name);
    }
    Ok(())
}

/// The types whose values are part of a value of `ty`.
fn held(ty: &TypeDef) -> Vec<&str> {
    let (members, branches): (&[Member], &[Branch]) = match &ty.kind {
        TypeKind::Struct(members) => (members, &[]),
        // An alternate's objects lie elsewhere.
        TypeKind::Enum(_) | TypeKind::Alternate(_) => (&[], &[]),
        TypeKind::Union { base, branches, .. } => (base, branches),
    };
    // So does an optional member of the type itself.
    let is_held =
        |member: &&Member| !member.optional || !matches!(&member.ty, TypeRef::Named(name) if *name == ty.name);
    let members = members.iter().filter(is_held).map(|member| &member.ty);
    let branches = branches.iter().filter_map(|branch| branch.ty.as_ref());
    members
        .chain(branches)
        .filter_map(|ty| match ty {
            TypeRef::Named(name) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}
