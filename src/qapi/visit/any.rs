//! Values that the schema leaves open.

use serde_json::Value;

use super::at::At;
use super::decode::Decode;
use super::encode::{Encode, ObjectWriter};
use crate::qapi::Error;

/// The schema's `any`: whatever a client sent, or what is sent to one.
#[derive(Clone, Debug, PartialEq)]
pub enum Any {
    /// A value.
    Value(Value),
    /// An object that is text already: big replies are written only once.
    Object(Text),
}

/// The JSON text of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Any {
    /// An object with the members that `write` gives it.
    #[must_use]
    pub fn object(write: impl FnOnce(&mut ObjectWriter<'_>)) -> Self {
        // The usual object, the properties of a CPU, has some hundred members.
        let mut text = Vec::with_capacity(16 << 10);
        let mut object = ObjectWriter::begin(&mut text);
        write(&mut object);
        object.end();
        Self::Object(Text(text))
    }

    /// What a client sent; null if this is a reply that is text already.
    #[must_use]
    pub fn value(&self) -> &Value {
        match self {
            Self::Value(value) => value,
            Self::Object(_) => &Value::Null,
        }
    }
}

impl Default for Any {
    fn default() -> Self {
        Self::Value(Value::Null)
    }
}

impl From<Value> for Any {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl Decode for Any {
    fn decode(value: Value, _: &At<'_>) -> Result<Self, Error> {
        Ok(Self::Value(value))
    }
}

impl Encode for Any {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(value) => value.encode(out),
            Self::Object(Text(text)) => out.extend_from_slice(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::qapi::visit::encoded;

    #[test]
    fn text_and_value_look_the_same_to_a_client() {
        let text = Any::object(|object| {
            object.member("vendor", "AuthenticAMD");
            object.member("lm", &true);
        });
        let value = Any::from(json!({"vendor": "AuthenticAMD", "lm": true}));
        assert_eq!(encoded(&text), encoded(&value));
        assert_eq!(text.value(), &Value::Null);
    }
}
