//! What `query-qmp-schema` and `query-commands` answer.
//!
//! Type names are replaced by numbers in the order of first use, so that clients look for what a command takes and
//! returns and not for what its types are called; arrays are named after their elements. Types nothing uses are left
//! out.

use std::fmt::Write;

use super::schema::{Arch, Branch, Builtin, Data, EnumValue, Member, Schema, TypeKind, TypeRef};

/// The reply of `query-qmp-schema` on `arch`.
pub(crate) fn schema_info(schema: &Schema, arch: Arch) -> String {
    let mut writer = Writer {
        schema,
        types: Vec::new(),
        numbered: 0,
        entries: Vec::new(),
    };
    for command in schema.commands.iter().filter(|command| command.archs.contains(&arch)) {
        let arguments = writer.data(&command.data);
        let returns = match &command.returns {
            Some(ty) => writer.name(ty),
            None => writer.anonymous(&[]),
        };
        let oob = if command.allow_oob {
            r#", "allow-oob": true"#
        } else {
            ""
        };
        let detail = format!(r#""ret-type": "{returns}", "arg-type": "{arguments}"{oob}"#);
        writer.entry(&command.name, "command", &detail, &command.features);
    }
    for event in schema.events.iter().filter(|event| event.archs.contains(&arch)) {
        let data = writer.data(&event.data);
        writer.entry(
            &event.name,
            "event",
            &format!(r#""arg-type": "{data}""#),
            &event.features,
        );
    }
    let mut next = 0;
    while let Some((name, used)) = writer.types.get(next).cloned() {
        writer.type_entry(&name, &used);
        next += 1;
    }
    format!("[{}]", writer.entries.join(", "))
}

/// The reply of `query-commands` on `arch`.
pub(crate) fn command_list(schema: &Schema, arch: Arch) -> String {
    let commands: Vec<_> = schema
        .commands
        .iter()
        .filter(|command| command.archs.contains(&arch))
        .map(|command| format!(r#"{{"name": "{}"}}"#, command.name))
        .collect();
    format!("[{}]", commands.join(", "))
}

/// A type to be described.
#[derive(Clone)]
enum Used<'a> {
    /// One that the schema uses by name.
    Type(TypeRef),
    /// Members without a name: arguments or data.
    Anonymous(&'a [Member]),
}

struct Writer<'a> {
    schema: &'a Schema,
    /// What is used, with the name it goes by.
    types: Vec<(String, Used<'a>)>,
    /// How many names are numbers.
    numbered: usize,
    entries: Vec<String>,
}

impl<'a> Writer<'a> {
    /// The name under which `ty` is described.
    fn name(&mut self, ty: &TypeRef) -> String {
        let ty = plain(ty);
        let known = self.types.iter().find_map(|(name, used)| match used {
            Used::Type(other) if *other == ty => Some(name.clone()),
            _ => None,
        });
        if let Some(name) = known {
            return name;
        }
        let name = match &ty {
            TypeRef::Builtin(builtin) => builtin_name(*builtin).0.to_owned(),
            TypeRef::Array(element) => format!("[{}]", self.name(element)),
            TypeRef::Named(_) => self.number(),
        };
        self.types.push((name.clone(), Used::Type(ty)));
        name
    }

    fn data(&mut self, data: &'a Data) -> String {
        match data {
            Data::None => self.anonymous(&[]),
            Data::Inline(members) => self.anonymous(members),
            Data::Named(name) => self.name(&TypeRef::Named(name.clone())),
        }
    }

    /// The name of an object with just these members. Only the one without members is shared.
    fn anonymous(&mut self, members: &'a [Member]) -> String {
        let known = self.types.iter().find_map(|(name, used)| match used {
            Used::Anonymous(others) if others.is_empty() && members.is_empty() => Some(name.clone()),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let name = self.number();
            self.types.push((name.clone(), Used::Anonymous(members)));
            name
        })
    }

    fn number(&mut self) -> String {
        self.numbered += 1;
        (self.numbered - 1).to_string()
    }

    fn entry(&mut self, name: &str, meta: &str, detail: &str, features: &[String]) {
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(", {detail}")
        };
        self.entries.push(format!(
            r#"{{"name": "{name}", "meta-type": "{meta}"{detail}{}}}"#,
            features_text(features)
        ));
    }

    fn type_entry(&mut self, name: &str, used: &Used<'a>) {
        match used {
            Used::Anonymous(members) => {
                let members = self.members(members);
                self.entry(name, "object", &members, &[]);
            }
            Used::Type(TypeRef::Builtin(builtin)) => {
                let json_type = format!(r#""json-type": "{}""#, builtin_name(*builtin).1);
                self.entry(name, "builtin", &json_type, &[]);
            }
            Used::Type(TypeRef::Array(element)) => {
                let element = format!(r#""element-type": "{}""#, self.name(element));
                self.entry(name, "array", &element, &[]);
            }
            Used::Type(TypeRef::Named(ty)) => {
                if let Some(ty) = self.schema.find(ty) {
                    let (meta, detail) = self.definition(&ty.kind);
                    self.entry(name, meta, &detail, &ty.features);
                }
            }
        }
    }

    fn definition(&mut self, kind: &'a TypeKind) -> (&'static str, String) {
        match kind {
            TypeKind::Struct(members) => ("object", self.members(members)),
            TypeKind::Enum(values) => ("enum", enum_detail(values)),
            TypeKind::Union {
                base,
                discriminator,
                branches,
                ..
            } => {
                let members = self.members(base);
                let variants: Vec<_> = branches.iter().map(|branch| self.variant(branch)).collect();
                let detail = format!(
                    r#"{members}, "tag": "{discriminator}", "variants": [{}]"#,
                    variants.join(", ")
                );
                ("object", detail)
            }
            TypeKind::Alternate(branches) => {
                let types: Vec<_> = branches
                    .iter()
                    .filter_map(|branch| branch.ty.as_ref())
                    .map(|ty| format!(r#"{{"type": "{}"}}"#, self.name(ty)))
                    .collect();
                ("alternate", format!(r#""members": [{}]"#, types.join(", ")))
            }
        }
    }

    fn variant(&mut self, branch: &'a Branch) -> String {
        let ty = match &branch.ty {
            Some(ty) => self.name(ty),
            None => self.anonymous(&[]),
        };
        format!(r#"{{"case": "{}", "type": "{ty}"}}"#, branch.name)
    }

    fn members(&mut self, members: &[Member]) -> String {
        let mut texts = Vec::new();
        for member in members {
            let mut text = format!(r#"{{"name": "{}", "#, member.name);
            if member.optional {
                text.push_str(r#""default": null, "#);
            }
            let _ = write!(
                text,
                r#""type": "{}"{}}}"#,
                self.name(&member.ty),
                features_text(&member.features)
            );
            texts.push(text);
        }
        format!(r#""members": [{}]"#, texts.join(", "))
    }
}

/// All widths of integers look the same on the wire.
fn plain(ty: &TypeRef) -> TypeRef {
    match ty {
        TypeRef::Builtin(builtin) if builtin_name(*builtin).0 == "int" => TypeRef::Builtin(Builtin::Int),
        TypeRef::Array(element) => TypeRef::Array(Box::new(plain(element))),
        other => other.clone(),
    }
}

/// Name and JSON type.
fn builtin_name(builtin: Builtin) -> (&'static str, &'static str) {
    match builtin {
        Builtin::Str => ("str", "string"),
        Builtin::Number => ("number", "number"),
        Builtin::Bool => ("bool", "boolean"),
        Builtin::Null => ("null", "null"),
        Builtin::Any => ("any", "value"),
        Builtin::Int
        | Builtin::Int8
        | Builtin::Int16
        | Builtin::Int32
        | Builtin::Uint8
        | Builtin::Uint16
        | Builtin::Uint32
        | Builtin::Uint64
        | Builtin::Size => ("int", "int"),
    }
}

fn enum_detail(values: &[EnumValue]) -> String {
    let members: Vec<_> = values
        .iter()
        .map(|value| format!(r#"{{"name": "{}"{}}}"#, value.name, features_text(&value.features)))
        .collect();
    let names: Vec<_> = values.iter().map(|value| format!(r#""{}""#, value.name)).collect();
    format!(
        r#""members": [{}], "values": [{}]"#,
        members.join(", "),
        names.join(", ")
    )
}

fn features_text(features: &[String]) -> String {
    if features.is_empty() {
        return String::new();
    }
    let features: Vec<_> = features.iter().map(|feature| format!(r#""{feature}""#)).collect();
    format!(r#", "features": [{}]"#, features.join(", "))
}
