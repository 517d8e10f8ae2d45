//! Rust types for unions and alternates, with decoding and encoding.

use std::fmt::Write;

use super::gen_types::{decode_member, decoder, doc_comment, encode_member, fields, rust_type};
use super::names::{camel, plain_snake, snake};
use super::schema::{Branch, Builtin, Member, Schema, TypeDef, TypeKind, TypeRef};

/// A union is a plain enum if the discriminator is all there is in the base; otherwise a struct with an enum in it.
pub(super) fn union(out: &mut String, ty: &TypeDef, base: &[Member], tag: (&str, &str), branches: &[Branch]) {
    let (discriminator, tag_type) = tag;
    let others: Vec<Member> = base
        .iter()
        .filter(|member| member.name != discriminator)
        .cloned()
        .collect();
    let name = &ty.name;
    let plain = others.is_empty();
    let variants_name = if plain { name.clone() } else { format!("{name}Variant") };
    if plain {
        variants(out, name, &ty.doc.text, tag, branches);
    } else {
        let doc = format!("What depends on `{discriminator}` in a [`{name}`].");
        variants(out, &variants_name, &doc, tag, branches);
        doc_comment(out, "", &ty.doc.text);
        let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub struct {name} {{");
        fields(out, name, &others);
        let _ = writeln!(
            out,
            "    /// `{discriminator}`, and what depends on it.\n    pub variant: {variants_name},\n}}"
        );
    }
    let mut decode = String::new();
    let mut encode = String::new();
    let variant = if plain { "self" } else { "self.variant" };
    for member in base {
        if member.name == discriminator {
            let _ = writeln!(
                decode,
                "        let tag: {tag_type} = fields.required({discriminator:?})?;"
            );
            let _ = writeln!(
                encode,
                "        object.member({discriminator:?}, &{variant}.discriminator());"
            );
        } else {
            let _ = writeln!(
                decode,
                "        let member_{} = {}?;",
                plain_snake(&member.name),
                decode_member(member)
            );
            encode_member(&mut encode, member);
        }
    }
    let branch = format!("{variants_name}::decode_branch(tag, fields)");
    let result = if plain {
        branch
    } else {
        let fields: String = others
            .iter()
            .map(|member| format!("{}: member_{}, ", snake(&member.name), plain_snake(&member.name)))
            .collect();
        format!("Ok(Self {{ {fields}variant: {branch}? }})")
    };
    let _ = write!(
        out,
        "impl visit::DecodeMembers for {name} {{
    fn decode_members(fields: &mut visit::Fields<'_>) -> Result<Self, Error> {{
{decode}        {result}
    }}
}}
impl visit::EncodeMembers for {name} {{
    fn encode_members(&self, object: &mut visit::ObjectWriter<'_>) {{
{encode}        {variant}.encode_branch(object);
    }}
}}
"
    );
}

/// The enum of a union's branches, with what reads and writes the members of each.
fn variants(out: &mut String, name: &str, doc: &str, (discriminator, tag): (&str, &str), branches: &[Branch]) {
    doc_comment(out, "", doc);
    let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub enum {name} {{");
    let mut tags = String::new();
    let mut decode = String::new();
    let mut encode = String::new();
    for branch in branches {
        let variant = camel(&branch.name);
        doc_comment(out, "    ", &branch.doc);
        let _ = match &branch.ty {
            Some(ty) => {
                let _ = writeln!(out, "    {variant}({}),", rust_type(ty));
                let _ = writeln!(tags, "            Self::{variant}(_) => {tag}::{variant},");
                let _ = writeln!(
                    decode,
                    "            {tag}::{variant} => visit::DecodeMembers::decode_members(fields).map(Self::{variant}),"
                );
                writeln!(
                    encode,
                    "            Self::{variant}(data) => visit::EncodeMembers::encode_members(data, object),"
                )
            }
            None => {
                let _ = writeln!(out, "    {variant},");
                let _ = writeln!(tags, "            Self::{variant} => {tag}::{variant},");
                let _ = writeln!(decode, "            {tag}::{variant} => Ok(Self::{variant}),");
                writeln!(encode, "            Self::{variant} => {{}}")
            }
        };
    }
    let _ = write!(
        out,
        "}}
impl {name} {{
    /// The value of `{discriminator}`.
    #[must_use]
    pub const fn discriminator(&self) -> {tag} {{
        match self {{
{tags}        }}
    }}

    fn decode_branch(tag: {tag}, fields: &mut visit::Fields<'_>) -> Result<Self, Error> {{
        match tag {{
{decode}        }}
    }}

    fn encode_branch(&self, object: &mut visit::ObjectWriter<'_>) {{
        match self {{
{encode}        }}
    }}
}}
"
    );
}

pub(super) fn alternate(out: &mut String, schema: &Schema, ty: &TypeDef, branches: &[Branch]) {
    let name = &ty.name;
    doc_comment(out, "", &ty.doc.text);
    let _ = writeln!(out, "#[derive(Clone, Debug, PartialEq)]\npub enum {name} {{");
    let mut decode = String::new();
    let mut encode = String::new();
    for branch in branches {
        let Some(ty) = &branch.ty else { continue };
        let variant = camel(&branch.name);
        doc_comment(out, "    ", &branch.doc);
        let rust = match json_pattern(schema, ty) {
            // An object may hold what it is the alternative of.
            OBJECT => format!("Box<{}>", rust_type(ty)),
            _ => rust_type(ty),
        };
        let _ = writeln!(out, "    {variant}({rust}),");
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

/// The pattern of JSON objects.
const OBJECT: &str = "serde_json::Value::Object(_)";

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
            _ => OBJECT,
        },
    }
}
