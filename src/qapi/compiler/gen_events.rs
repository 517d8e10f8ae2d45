//! Events: one enum, with what it takes to send them on.

use std::fmt::Write;

use super::gen_types::doc_comment;
use super::names::{camel, snake};
use super::schema::{Data, Schema, Throttle};

/// The events of `schema`, if there are any.
pub(crate) fn generate(schema: &Schema) -> String {
    let events = &schema.events;
    let mut out = String::new();
    if events.is_empty() {
        return out;
    }
    let mut names = String::new();
    let mut decode = String::new();
    let mut encode = String::new();
    let mut throttle = String::new();
    out.push_str(
        "/// An event of this schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
",
    );
    for event in events {
        let variant = camel(&event.name);
        let payload = match &event.data {
            Data::None => None,
            Data::Inline(_) => Some(format!("{variant}Event")),
            Data::Named(name) => Some(name.clone()),
        };
        let ignored = payload.as_ref().map_or("", |_| "(_)");
        doc_comment(&mut out, "    ", &event.doc.text);
        let _ = match &payload {
            Some(ty) => writeln!(out, "    {variant}({ty}),"),
            None => writeln!(out, "    {variant},"),
        };
        let _ = writeln!(names, "            Self::{variant}{ignored} => {:?},", event.name);
        let _ = match payload {
            Some(_) => writeln!(
                decode,
                "            {:?} => visit::decode_arguments(data, visit::Policy::ACCEPT_ALL).map(Self::{variant}),",
                event.name
            ),
            None => writeln!(
                decode,
                "            {:?} => visit::no_arguments(data).map(|()| Self::{variant}),",
                event.name
            ),
        };
        if payload.is_some() {
            let _ = writeln!(
                encode,
                "            Self::{variant}(data) => visit::Encode::encode(data, out),"
            );
        } else {
            let _ = writeln!(encode, "            Self::{variant} => {{}}");
        }
        let _ = match &event.throttle {
            Throttle::None => Ok(()),
            Throttle::Together => writeln!(
                throttle,
                "            Self::{variant}{ignored} => Some({:?}.to_owned()),",
                event.name
            ),
            Throttle::By(member) => writeln!(
                throttle,
                "            Self::{variant}(data) => Some(format!(\"{} {{}}\", data.{})),",
                event.name,
                snake(member)
            ),
        };
    }
    let throttle = match events.iter().any(|event| event.throttle != Throttle::None) {
        false => "        None\n".to_owned(),
        true => format!("        match self {{\n{throttle}            _ => None,\n        }}\n"),
    };
    let _ = write!(
        out,
        "}}
impl Event {{
    /// Takes back what [`visit::WireEvent`] says of an event.
    ///
    /// # Errors
    /// There is no event of this name, or its data is not as the schema says.
    pub fn decode(name: &str, data: serde_json::Map<String, serde_json::Value>) -> Result<Self, Error> {{
        match name {{
{decode}            other => Err(Error::generic(format!(\"unknown event '{{other}}'\"))),
        }}
    }}
}}
impl visit::WireEvent for Event {{
    fn name(&self) -> &'static str {{
        match self {{
{names}        }}
    }}

    fn encode_data(&self, out: &mut Vec<u8>) {{
        match self {{
{encode}        }}
    }}

    fn throttle_key(&self) -> Option<String> {{
{throttle}    }}
}}
"
    );
    out
}
