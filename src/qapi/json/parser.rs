//! Values from tokens.

use std::iter::Peekable;

use serde_json::{Map, Value};

use super::lexer::{Kind, Token};
use super::text;
use crate::qapi::Error;

/// The value that `tokens` make. Brackets in them are balanced or end too early, so that the depth of recursion is
/// what the stream allows.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Value, Error> {
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
    };
    parser.value()
}

/// The error of input that is not JSON.
pub(super) fn error(reason: &str) -> Error {
    Error::generic(format!("JSON parse error, {reason}"))
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn value(&mut self) -> Result<Value, Error> {
        let token = self.tokens.next().ok_or_else(|| error("premature EOI"))?;
        match token.kind {
            Kind::Punct(b'{') => self.object(),
            Kind::Punct(b'[') => self.array(),
            Kind::String => text::string(&token.text).map(Value::String),
            Kind::Integer => text::integer(&token.text),
            Kind::Float => text::float(&token.text),
            Kind::Keyword => keyword(&token.text),
            Kind::Punct(_) | Kind::Stray | Kind::TooLong => Err(error("expecting value")),
        }
    }

    /// The members after `{`.
    fn object(&mut self) -> Result<Value, Error> {
        let mut members = Map::new();
        if self.take_if(b'}')? {
            return Ok(Value::Object(members));
        }
        loop {
            let Value::String(key) = self.value()? else {
                return Err(error("key is not a string in object"));
            };
            if !self.take_if(b':')? {
                return Err(error("missing : in object pair"));
            }
            let value = self.value()?;
            if members.insert(key, value).is_some() {
                return Err(error("duplicate key"));
            }
            if self.take_if(b'}')? {
                return Ok(Value::Object(members));
            }
            if !self.take_if(b',')? {
                return Err(error("expected separator in dict"));
            }
        }
    }

    /// The items after `[`.
    fn array(&mut self) -> Result<Value, Error> {
        let mut items = Vec::new();
        if self.take_if(b']')? {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.take_if(b']')? {
                return Ok(Value::Array(items));
            }
            if !self.take_if(b',')? {
                return Err(error("expected separator in list"));
            }
        }
    }

    fn take_if(&mut self, punct: u8) -> Result<bool, Error> {
        let next = self.tokens.peek().ok_or_else(|| error("premature EOI"))?;
        let found = next.kind == Kind::Punct(punct);
        if found {
            self.tokens.next();
        }
        Ok(found)
    }
}

fn keyword(text: &[u8]) -> Result<Value, Error> {
    match text {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        other => {
            let other = String::from_utf8_lossy(other);
            Err(error(&format!("invalid keyword '{other}'")))
        }
    }
}
