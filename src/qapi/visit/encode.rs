//! From the schema's types to JSON text.

use std::io::Write;

use serde_json::{Map, Value};

use super::decode::Null;

/// A type that can be written as a JSON value.
pub trait Encode {
    /// Appends the JSON text.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A type whose members can be written into an object, alone or beside others.
pub trait EncodeMembers {
    /// Writes this type's members.
    fn encode_members(&self, object: &mut ObjectWriter<'_>);
}

impl<T: EncodeMembers> Encode for T {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::begin(out);
        self.encode_members(&mut object);
        object.end();
    }
}

/// An object that is being written.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Starts an object.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes a member whose name, as all in schemas and tables of properties, consists of plain characters.
    pub fn member<T: Encode + ?Sized>(&mut self, name: &str, value: &T) {
        self.key(name);
        value.encode(self.out);
    }

    /// Writes a member of any name.
    fn strange_member<T: Encode + ?Sized>(&mut self, name: &str, value: &T) {
        self.separate();
        encode_str(name, self.out);
        self.out.extend_from_slice(b": ");
        value.encode(self.out);
    }

    /// Writes a member if there is one.
    pub fn optional<T: Encode>(&mut self, name: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.member(name, value);
        }
    }

    /// Writes a member whose JSON text is at hand.
    pub fn raw(&mut self, name: &str, json: &[u8]) {
        self.key(name);
        self.out.extend_from_slice(json);
    }

    /// Ends the object.
    pub fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, name: &str) {
        debug_assert_eq!(first_strange(name), None, "{name}");
        self.separate();
        self.out.reserve(name.len() + 4);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\": ");
    }

    fn separate(&mut self) {
        if !self.first {
            self.out.extend_from_slice(b", ");
        }
        self.first = false;
    }
}

/// The JSON text of a value.
#[must_use]
pub fn encoded<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// What a command returns that returns nothing.
#[must_use]
pub fn encoded_nothing() -> Vec<u8> {
    b"{}".to_vec()
}

/// Appends `text` as a JSON string, all of it ASCII.
pub fn encode_str(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = first_strange(rest) {
        let (plain, strange) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = strange.chars();
        if let Some(c) = chars.next() {
            encode_escaped(c, out);
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Where the first byte is that does not stand for itself in a JSON string. Nearly every text has none, and eight bytes
/// are looked at in one go.
fn first_strange(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut start = 0;
    while let Some(word) = bytes.get(start..start + 8).and_then(|word| word.try_into().ok()) {
        if !is_plain(u64::from_ne_bytes(word)) {
            break;
        }
        start += 8;
    }
    let is_strange = |byte: &u8| !(b' '..=b'~').contains(byte) || *byte == b'"' || *byte == b'\\';
    let at = bytes[start..].iter().position(is_strange);
    at.map(|at| start + at)
}

/// Whether each of eight bytes stands for itself in a JSON string: printable ASCII, but neither quote nor backslash.
fn is_plain(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // A byte's highest bit: set where the byte is zero, or above one that is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let controls = word.wrapping_sub(0x20 * ONES) & !word;
    let odd = controls | word | zeros(word ^ (0x7f * ONES)) | zeros(word ^ (0x22 * ONES)) | zeros(word ^ (0x5c * ONES));
    odd & HIGH == 0
}

fn encode_escaped(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        other => {
            let mut units = [0; 2];
            for unit in other.encode_utf16(&mut units) {
                write_display(&format_args!("\\u{unit:04X}"), out);
            }
        }
    }
}

/// Appends what `value` prints.
fn write_display(value: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_str(self, out);
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_str(self, out);
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            true => out.extend_from_slice(b"true"),
            false => out.extend_from_slice(b"false"),
        }
    }
}

impl Encode for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        // JSON has no way to say infinity or not-a-number.
        match self.is_finite() {
            true => write_display(self, out),
            false => out.extend_from_slice(b"null"),
        }
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Encode for $integer {
            fn encode(&self, out: &mut Vec<u8>) {
                write_display(self, out);
            }
        })*
    };
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Encode for Null {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }
}

impl<T: EncodeMembers> EncodeMembers for Box<T> {
    fn encode_members(&self, object: &mut ObjectWriter<'_>) {
        (**self).encode_members(object);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            item.encode(out);
        }
        out.push(b']');
    }
}

impl Encode for Map<String, Value> {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::begin(out);
        for (name, value) in self {
            object.strange_member(name, value);
        }
        object.end();
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => Null.encode(out),
            Self::Bool(value) => value.encode(out),
            Self::Number(number) => write_display(number, out),
            Self::String(text) => encode_str(text, out),
            Self::Array(items) => items.encode(out),
            Self::Object(members) => members.encode(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_bytes_are_found_wherever_they_stand() {
        for byte in 0..=127_u8 {
            let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            for at in 0..20 {
                let mut text = vec![b'~'; 20];
                text[at] = byte;
                let text = String::from_utf8(text).unwrap();
                assert_eq!(first_strange(&text), (!plain).then_some(at), "{text:?}");
            }
        }
        assert_eq!(first_strange("0123456é"), Some(7));
        assert_eq!(first_strange(""), None);
    }
}
