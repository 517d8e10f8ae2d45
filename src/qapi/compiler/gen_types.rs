//! Rust types for the types of the schema, with decoding and encoding.

use std::fmt::Write;

use super::gen_unions::{alternate, union};
use super::names::{camel, snake};
use super::schema::{Builtin, Data, EnumValue, Member, Schema, TypeDef, TypeKind, TypeRef};

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
            Builtin::Any => "crate::qapi::visit::Any",
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
    fields(out, name, members);
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

/// The fields of the type `name`. One that is of that type itself lies elsewhere.
pub(super) fn fields(out: &mut String, name: &str, members: &[Member]) {
    for member in members {
        doc_comment(out, "    ", &member.doc);
        let ty = match rust_type(&member.ty) {
            ty if ty == name => format!("Box<{ty}>"),
            ty => ty,
        };
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
pub(super) fn decode_member(member: &Member) -> String {
    let way = if member.optional { "optional" } else { "required" };
    let mut checks = String::new();
    for feature in policed(&member.features) {
        let _ = write!(
            checks,
            "fields.check_policy({:?}, {feature}).and_then(|()| ",
            member.name
        );
    }
    let taken = match decoder(&member.ty) {
        Some(decoder) => format!("fields.{way}_with({:?}, {decoder})", member.name),
        None => format!("fields.{way}({:?})", member.name),
    };
    let ends = ")".repeat(policed(&member.features).count());
    format!("{checks}{taken}{ends}")
}

/// Those of some features whose use clients may be forbidden.
pub(super) fn policed(features: &[String]) -> impl Iterator<Item = &'static str> {
    features.iter().filter_map(|feature| match feature.as_str() {
        "deprecated" => Some("visit::Feature::Deprecated"),
        "unstable" => Some("visit::Feature::Unstable"),
        _ => None,
    })
}

/// The function that decodes a type, where its Rust type alone does not say it.
pub(super) fn decoder(ty: &TypeRef) -> Option<String> {
    match ty {
        TypeRef::Builtin(Builtin::Size) => Some("visit::decode_size".to_owned()),
        TypeRef::Array(element) => {
            let decoder = decoder(element)?;
            Some(format!("|value, at| visit::decode_list(value, at, {decoder})"))
        }
        _ => None,
    }
}

pub(super) fn encode_member(out: &mut String, member: &Member) {
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
    let decoded = decoded_value(values);
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
        {decoded}
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

/// The body that decodes a value of an enumeration.
fn decoded_value(values: &[EnumValue]) -> String {
    let mut checks = String::new();
    for value in values {
        for feature in policed(&value.features) {
            let _ = write!(
                checks,
                "
        if decoded == Self::{} {{
            at.check_policy({feature}, \"value\", {:?})?;
        }}",
                camel(&value.name),
                value.name
            );
        }
    }
    let decoded = "visit::decode_enum(value, at, Self::from_wire)";
    if checks.is_empty() {
        return decoded.to_owned();
    }
    format!(
        "let decoded = {decoded}?;{checks}
        Ok(decoded)"
    )
}
