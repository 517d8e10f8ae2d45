//! From JSON values to the schema's types.

use serde_json::{Map, Value};

use super::at::{At, Mode};
use super::fields::Fields;
use crate::qapi::{Error, text};

/// A type that can be read from a JSON value.
pub trait Decode: Sized {
    /// Reads `value`, which is at `at`.
    ///
    /// # Errors
    /// The value is not of this type; the text names `at`.
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error>;
}

/// A type whose members can be read from an object, alone or beside others.
pub trait DecodeMembers: Sized {
    /// Takes this type's members out of `fields`.
    ///
    /// # Errors
    /// The first member that is missing or not of its type.
    fn decode_members(fields: &mut Fields<'_>) -> Result<Self, Error>;
}

impl<T: DecodeMembers> Decode for T {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        let Value::Object(members) = value else {
            return Err(at.wrong_type("object"));
        };
        Fields::decode_all(members, at)
    }
}

impl<T: DecodeMembers> DecodeMembers for Box<T> {
    fn decode_members(fields: &mut Fields<'_>) -> Result<Self, Error> {
        T::decode_members(fields).map(Self::new)
    }
}

/// JSON's null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Null;

impl Decode for Null {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match value {
            Value::Null => Ok(Self),
            _ => Err(at.wrong_type("null")),
        }
    }
}

impl Decode for Value {
    fn decode(value: Value, _: &At<'_>) -> Result<Self, Error> {
        Ok(value)
    }
}

impl Decode for String {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match value {
            Value::String(text) => Ok(text),
            Value::Number(number) if at.mode() == Mode::Keyval => Ok(number.to_string()),
            Value::Bool(value) if at.mode() == Mode::Keyval => Ok(if value { "on" } else { "off" }.to_owned()),
            _ => Err(at.wrong_type("string")),
        }
    }
}

impl Decode for bool {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match (value, at.mode()) {
            (Value::Bool(value), _) => Ok(value),
            (Value::String(text), Mode::Keyval) => {
                text::parse_bool(&text).ok_or_else(|| at.unreadable("'on' or 'off'"))
            }
            _ => Err(at.wrong_type("boolean")),
        }
    }
}

impl Decode for f64 {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match (value, at.mode()) {
            (Value::Number(number), _) => number.as_f64().ok_or_else(|| at.wrong_type("number")),
            (Value::String(text), Mode::Keyval) => text
                .parse()
                .ok()
                .filter(|number: &Self| number.is_finite())
                .ok_or_else(|| at.unreadable("number")),
            _ => Err(at.wrong_type("number")),
        }
    }
}

impl Decode for i64 {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match (value, at.mode()) {
            (Value::Number(number), _) => number.as_i64().ok_or_else(|| at.wrong_type("integer")),
            (Value::String(text), Mode::Keyval) => text::parse_int(&text).map_err(|_| at.unreadable("integer")),
            _ => Err(at.wrong_type("integer")),
        }
    }
}

impl Decode for u64 {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match (value, at.mode()) {
            (Value::Number(number), _) => unsigned(&number).ok_or_else(|| at.wrong_type("integer")),
            (Value::String(text), Mode::Keyval) => text::parse_uint(&text).map_err(|_| at.unreadable("integer")),
            _ => Err(at.wrong_type("integer")),
        }
    }
}

/// A number of 64 bits. Clients written in C send large ones as negative numbers, which QEMU takes.
fn unsigned(number: &serde_json::Number) -> Option<u64> {
    number
        .as_u64()
        .or_else(|| number.as_i64().map(|negative| negative as u64))
}

macro_rules! narrow {
    ($($narrow:ty, $wide:ty, $name:literal;)*) => {
        $(impl Decode for $narrow {
            fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
                Self::try_from(<$wide>::decode(value, at)?).map_err(|_| at.out_of_range($name))
            }
        })*
    };
}

narrow! {
    i8, i64, "int8_t";
    i16, i64, "int16_t";
    i32, i64, "int32_t";
    u8, u64, "uint8_t";
    u16, u64, "uint16_t";
    u32, u64, "uint32_t";
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        decode_list(value, at, T::decode)
    }
}

impl Decode for Map<String, Value> {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, Error> {
        match value {
            Value::Object(members) => Ok(members),
            _ => Err(at.wrong_type("object")),
        }
    }
}

/// Reads an array, each item by `decode`.
///
/// # Errors
/// The value is not an array, or what `decode` says of the first bad item.
pub fn decode_list<T>(
    value: Value,
    at: &At<'_>,
    decode: impl Fn(Value, &At<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let Value::Array(items) = value else {
        return Err(at.wrong_type("array"));
    };
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| decode(item, &at.item(index)))
        .collect()
}

/// Reads the name of an enumeration's value.
///
/// # Errors
/// The value is not a string, or `from_wire` does not know it.
pub fn decode_enum<T>(value: Value, at: &At<'_>, from_wire: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
    let name = String::decode(value, at)?;
    from_wire(&name).ok_or_else(|| at.bad_value(&name))
}

/// Reads a number of bytes, which may have a suffix on the command line.
///
/// # Errors
/// The value is not a number of 64 bits.
pub fn decode_size(value: Value, at: &At<'_>) -> Result<u64, Error> {
    match (value, at.mode()) {
        (Value::String(text), Mode::Keyval) => text::parse_size(&text, 1).map_err(|_| at.unreadable("size")),
        (value, _) => u64::decode(value, at),
    }
}
