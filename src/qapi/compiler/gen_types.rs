//! Rust types for the types of the schema, with decoding and encoding.

use std::fmt::Write;

use super::names::{camel, snake};
use super::schema::{Branch, Builtin, Data, EnumValue, Member, Schema, TypeDef, TypeKind, TypeRef};

/// The types of the schema and the arguments of its commands and events.
pub(crate) fn generate(schema: &Schema) -> String {
    let mut out = String::new();
    out.push_str("use crate::qapi::Error;\nuse crate::qapi::visit;\n");
    for ty in &schema.types {
        type_def(&mut out, schema, ty);
    }
    for command in &schema.commands {
        if let (Data::Inline(members), true) = (&command.data, command.typed) {
            let doc = format!("Arguments of `{}`.", command.name);
            structure(
                &mut out,
                schema,
                &format!("{}Args", camel(&command.name)),
                &doc,
                members,
            );
        }
    }
    for event in &schema.events {
        if let Data::Inline(members) = &event.data {
            let doc = format!("Data of `{}`.", event.name);
            structure(&mut out, schema, &format!("{}Event", camel(&event.name)), &doc, members);
        }
    }
    out
}

/// The Rust type of a use of a type.
pub(crate) fn rust_type(ty: &TypeRef) -> String {
    match ty {
        TypeRef::Named(name) => name.clone(),
        TypeRef::Array(element) => format!("Vec<{}>", rust_type(element)),
        TypeRef::Builtin(builtin) => match builtin {
            Builtin::Str => "String",
            Builtin::Number => "f64",
            Builtin::Int => "i64",
            Builtin::Int8 => "i8",
            Builtin::Int16 => "i16",
            Builtin::Int32 => "i32",
            Builtin::Uint8 => "u8",
            Builtin::Uint16 => "u16",
            Builtin::Uint32 => "u32",
            Builtin::Uint64 | Builtin::Size => "u64",
            Builtin::Bool => "bool",
            Builtin::Null => "visit::Null",
            Builtin::Any => "serde_json::Value",
        }
        .to_owned(),
    }
}

/// Writes `text` as a doc comment.
pub(crate) fn doc_comment(out: &mut String, indent: &str, text: &str) {
    for line in text.lines() {
        let space = if line.is_empty() { "" } else { " " };
        let _ = writeln!(out, "{indent}///{space}{line}");
    }
}

fn type_def(out: &mut String, schema: &Schema, ty: &TypeDef) {
    match &ty.kind {
        TypeKind::Struct(members) => structure(out, schema, &ty.name, &ty.doc.text, members),
        TypeKind::Enum(values) => enumeration(out, &ty.name, &ty.doc.text, values),
        TypeKind::Union {
            base,
            discriminator,
            tag,
            branches,
        } => union(out, ty, base, (discriminator, tag), branches),
        TypeKind::Alternate(branches) => alternate(out, schema, ty, branches),
    }
}

fn structure(out: &mut String, schema: &Schema, name: &str, doc: &str, members: &[Member]) {
    let default = match members.iter().all(|member| has_default(schema, member)) {
        true => "Default, ",
        false => "",
    };
    doc_comment(out, "", doc);
    let _ = writeln!(out, "#[derive(Clone, Debug, {default}PartialEq)]\npub struct {name} {{");
    fields(out, members);
    out.push_str("}\n");
    let used = if members.is_empty() { "_" } else { "" };
    let _ = write!(
        out,
        "impl visit::DecodeMembers for {name} {{
    fn decode_members({used}fields: &mut visit::Fields<'_>) -> Result<Self, Error> {{
        Ok(Self {{
"
    );
    for member in members {
        let _ = writeln!(out, "            {}: {}?,", snake(&member.name), decode_member(member));
    }
    out.push_str("        })\n    }\n}\n");
    let _ = write!(
        out,
        "impl visit::EncodeMembers for {name} {{
    fn encode_members(&self, {used}object: &mut visit::ObjectWriter<'_>) {{
"
    );
    for member in members {
        encode_member(out, member);
    }
    out.push_str("    }\n}\n");
}

fn fields(out: &mut String, members: &[Member]) {
    for member in members {
        doc_comment(out, "    ", &member.doc);
        let ty = rust_type(&member.ty);
        let ty = if member.optional { format!("Option<{ty}>") } else { ty };
        let _ = writeln!(out, "    pub {}: {ty},", snake(&member.name));
    }
}

/// Whether a member left to its default makes a value that can be sent.
fn has_default(schema: &Schema, member: &Member) -> bool {
    if member.optional {
        return true;
    }
    match &member.ty {
        TypeRef::Builtin(_) | TypeRef::Array(_) => true,
        TypeRef::Named(name) => match schema.find(name).map(|ty| &ty.kind) {
            Some(TypeKind::Struct(members)) => members.iter().all(|member| has_default(schema, member)),
            _ => false,
        },
    }
}

/// The expression that takes a member out of `fields`.
fn decode_member(member: &Member) -> String {
    let way = if member.optional { "optional" } else { "required" };
    match decoder(&member.ty) {
        Some(decoder) => format!("fields.{way}_with({:?}, {decoder})", member.name),
        None => format!("fields.{way}({:?})", member.name),
    }
}

/// The function that decodes a type, where its Rust type alone does not say it.
fn decoder(ty: &TypeRef) -> Option<String> {
    match ty {
        TypeRef::Builtin(Builtin::Size) => Some("visit::decode_size".to_owned()),
        TypeRef::Array(element) => {
            let decoder = decoder(element)?;
            Some(format!("|value, at| visit::decode_list(value, at, {decoder})"))
        }
        _ => None,
    }
}

fn encode_member(out: &mut String, member: &Member) {
    let way = if member.optional { "optional" } else { "member" };
    let field = snake(&member.name);
    let _ = writeln!(out, "        object.{way}({:?}, &self.{field});", member.name);
}

fn enumeration(out: &mut String, name: &str, doc: &str, values: &[EnumValue]) {
    doc_comment(out, "", doc);
    let _ = writeln!(
        out,
        "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\npub enum {name} {{"
    );
    for value in values {
        doc_comment(out, "    ", &value.doc);
        let _ = writeln!(out, "    {},", camel(&value.name));
    }
    out.push_str("}\n");
    let all: Vec<_> = values
        .iter()
        .map(|value| format!("Self::{}", camel(&value.name)))
        .collect();
    let arms: String = values
        .iter()
        .map(|value| format!("            Self::{} => {:?},\n", camel(&value.name), value.name))
        .collect();
    let _ = write!(
        out,
        "impl {name} {{
    /// Every value, in the order of the schema.
    pub const ALL: &'static [Self] = &[{}];

    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {{
        match self {{
{arms}        }}
    }}

    /// The value with this spelling.
    #[must_use]
    pub fn from_wire(name: &str) -> Option<Self> {{
        Self::ALL.iter().copied().find(|value| value.as_str() == name)
    }}
}}
impl std::fmt::Display for {name} {{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
        f.write_str(self.as_str())
    }}
}}
impl visit::Decode for {name} {{
    fn decode(value: serde_json::Value, at: &visit::At<'_>) -> Result<Self, Error> {{
        visit::decode_enum(value, at, Self::from_wire)
    }}
}}
impl visit::Encode for {name} {{
    fn encode(&self, out: &mut Vec<u8>) {{
        visit::encode_str(self.as_str(), out);
    }}
}}
",
        all.join(", ")
    );
}

/// A union is a plain enum if the discriminator is all there is in the base; otherwise a struct with an enum in it.
fn union(out: &mut String, ty: &TypeDef, base: &[Member], tag: (&str, &str), branches: &[Branch]) {
    let (discriminator, _) = tag;
    let others: Vec<Member> = base
        .iter()
        .filter(|member| member.name != discriminator)
        .cloned()
        .collect();
    let name = &ty.name;
    if others.is_empty() {
        variants(out, name, &ty.doc.text, tag, branches);
        return;
    }
    let variant = format!("{name}Variant");
    let doc = format!("What depends on `{discriminator}` in a [`{name}`].");
    variants(out, &variant, &doc, tag, branches);
    doc_comment(out, "", &ty.doc.text);
    let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub struct {name} {{");
    fields(out, &others);
    let _ = write!(
        out,
        "    /// `{discriminator}`, and what depends on it.
    pub variant: {variant},
}}
impl visit::DecodeMembers for {name} {{
    fn decode_members(fields: &mut visit::Fields<'_>) -> Result<Self, Error> {{
        Ok(Self {{
"
    );
    for member in &others {
        let _ = writeln!(out, "            {}: {}?,", snake(&member.name), decode_member(member));
    }
    let _ = write!(
        out,
        "            variant: visit::DecodeMembers::decode_members(fields)?,
        }})
    }}
}}
impl visit::EncodeMembers for {name} {{
    fn encode_members(&self, object: &mut visit::ObjectWriter<'_>) {{
"
    );
    for member in &others {
        encode_member(out, member);
    }
    out.push_str("        self.variant.encode_members(object);\n    }\n}\n");
}

/// The enum of a union's branches.
fn variants(out: &mut String, name: &str, doc: &str, (discriminator, tag): (&str, &str), branches: &[Branch]) {
    doc_comment(out, "", doc);
    let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub enum {name} {{");
    for branch in branches {
        doc_comment(out, "    ", &branch.doc);
        let payload = branch.ty.as_ref().map(|ty| format!("({})", rust_type(ty)));
        let _ = writeln!(out, "    {}{},", camel(&branch.name), payload.unwrap_or_default());
    }
    let _ = write!(
        out,
        "}}
impl {name} {{
    /// The value of `{discriminator}`.
    #[must_use]
    pub const fn discriminator(&self) -> {tag} {{
        match self {{
"
    );
    for branch in branches {
        let variant = camel(&branch.name);
        let payload = branch.ty.as_ref().map_or("", |_| "(_)");
        let _ = writeln!(out, "            Self::{variant}{payload} => {tag}::{variant},");
    }
    let _ = write!(
        out,
        "        }}
    }}
}}
impl visit::DecodeMembers for {name} {{
    fn decode_members(fields: &mut visit::Fields<'_>) -> Result<Self, Error> {{
        let discriminator: {tag} = fields.required({discriminator:?})?;
        Ok(match discriminator {{
"
    );
    for branch in branches {
        let variant = camel(&branch.name);
        let payload = branch
            .ty
            .as_ref()
            .map_or("", |_| "(visit::DecodeMembers::decode_members(fields)?)");
        let _ = writeln!(out, "            {tag}::{variant} => Self::{variant}{payload},");
    }
    let _ = write!(
        out,
        "        }})
    }}
}}
impl visit::EncodeMembers for {name} {{
    fn encode_members(&self, object: &mut visit::ObjectWriter<'_>) {{
        object.member({discriminator:?}, &self.discriminator());
"
    );
    out.push_str("        match self {\n");
    for branch in branches {
        let variant = camel(&branch.name);
        let _ = match branch.ty {
            Some(_) => writeln!(out, "            Self::{variant}(data) => data.encode_members(object),"),
            None => writeln!(out, "            Self::{variant} => {{}}"),
        };
    }
    out.push_str("        }\n    }\n}\n");
}

fn alternate(out: &mut String, schema: &Schema, ty: &TypeDef, branches: &[Branch]) {
    let name = &ty.name;
    doc_comment(out, "", &ty.doc.text);
    let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub enum {name} {{");
    let mut decode = String::new();
    let mut encode = String::new();
    for branch in branches {
        let Some(ty) = &branch.ty else { continue };
        let variant = camel(&branch.name);
        doc_comment(out, "    ", &branch.doc);
        let _ = writeln!(out, "    {variant}({}),", rust_type(ty));
        let decoder = decoder(ty).unwrap_or_else(|| "visit::Decode::decode".to_owned());
        let _ = writeln!(
            decode,
            "            {} => ({decoder})(value, at).map(Self::{variant}),",
            json_pattern(schema, ty)
        );
        let _ = writeln!(
            encode,
            "            Self::{variant}(value) => visit::Encode::encode(value, out),"
        );
    }
    let _ = write!(
        out,
        "}}
impl visit::Decode for {name} {{
    fn decode(value: serde_json::Value, at: &visit::At<'_>) -> Result<Self, Error> {{
        match value {{
{decode}            _ => Err(at.wrong_alternative({name:?})),
        }}
    }}
}}
impl visit::Encode for {name} {{
    fn encode(&self, out: &mut Vec<u8>) {{
        match self {{
{encode}        }}
    }}
}}
"
    );
}

/// The kind of JSON value by which an alternate knows a branch.
fn json_pattern(schema: &Schema, ty: &TypeRef) -> &'static str {
    match ty {
        TypeRef::Array(_) => "serde_json::Value::Array(_)",
        TypeRef::Builtin(Builtin::Str) => "serde_json::Value::String(_)",
        TypeRef::Builtin(Builtin::Bool) => "serde_json::Value::Bool(_)",
        TypeRef::Builtin(Builtin::Null) => "serde_json::Value::Null",
        TypeRef::Builtin(_) => "serde_json::Value::Number(_)",
        TypeRef::Named(name) => match schema.find(name).map(|ty| &ty.kind) {
            Some(TypeKind::Enum(_)) => "serde_json::Value::String(_)",
            _ => "serde_json::Value::Object(_)",
        },
    }
}
