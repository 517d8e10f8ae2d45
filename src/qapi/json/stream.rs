//! Where one value ends and the next begins.

use serde_json::Value;

use super::lexer::{Kind, Lexer, Token};
use super::parser;
use crate::qapi::Error;

/// How much one value may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its tokens together.
    pub bytes: usize,
    /// Tokens.
    pub tokens: usize,
    /// Objects and arrays inside one another.
    pub depth: usize,
}

impl Default for Limits {
    /// QEMU's: 64 MiB, 2 Mi tokens, 1024 deep.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            tokens: 2 << 20,
            depth: 1024,
        }
    }
}

/// Finds values in a stream of bytes. After bad input it goes on with the next thing that may start a value.
#[derive(Debug, Default)]
pub struct Stream {
    limits: Limits,
    lexer: Lexer,
    tokens: Vec<Token>,
    bytes: usize,
    open: Open,
}

/// Brackets that are open. Less than none if there is one too few.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    braces: isize,
    brackets: isize,
}

impl Open {
    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Punct(b'{') => self.braces += 1,
            Kind::Punct(b'}') => self.braces -= 1,
            Kind::Punct(b'[') => self.brackets += 1,
            Kind::Punct(b']') => self.brackets -= 1,
            _ => {}
        }
    }

    fn depth(self) -> usize {
        (self.braces + self.brackets).unsigned_abs()
    }

    /// Whether nothing is open, or something is closed that was not.
    fn is_over(self) -> bool {
        self.braces < 0 || self.brackets < 0 || (self.braces == 0 && self.brackets == 0)
    }
}

/// The one value that `text` holds.
///
/// # Errors
/// What is wrong with it, or that it holds none or several.
pub fn from_text(text: &str) -> Result<Value, Error> {
    let mut stream = Stream::default();
    let mut results = Vec::new();
    stream.feed(text.as_bytes(), |result| results.push(result));
    stream.finish(|result| results.push(result));
    let mut values = results.into_iter().collect::<Result<Vec<Value>, Error>>()?;
    match (values.pop(), values.is_empty()) {
        (Some(value), true) => Ok(value),
        (Some(_), false) => Err(Error::generic("Expecting at most one JSON value")),
        (None, _) => Err(Error::generic("Expecting a JSON value")),
    }
}

impl Stream {
    /// A stream whose values hold no more than `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Whether no object or array has begun that is not over.
    #[must_use]
    pub fn is_between_values(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Takes bytes and hands each value that ends in them, or what is wrong with it, to `found`.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Result<Value, Error>)) {
        for &byte in bytes {
            for token in self.lexer.push(byte, self.limits.bytes).into_iter().flatten() {
                if let Some(result) = self.take(token) {
                    found(result);
                }
            }
        }
    }

    /// There are no more bytes: hands what is left, which may be a value or the beginning of one, to `found`.
    pub fn finish(&mut self, mut found: impl FnMut(Result<Value, Error>)) {
        if let Some(result) = self.lexer.finish().and_then(|token| self.take(token)) {
            found(result);
        }
        if !self.tokens.is_empty() {
            let tokens = self.reset();
            found(parser::parse(tokens));
        }
    }

    /// Takes a token; the value that ends with it.
    fn take(&mut self, token: Token) -> Option<Result<Value, Error>> {
        if token.kind == Kind::Stray {
            self.reset();
            let text = String::from_utf8_lossy(&token.text);
            return Some(Err(parser::error(&format!("stray '{text}'"))));
        }
        self.open.count(token.kind);
        self.bytes += token.text.len().max(1);
        if let Some(error) = self.exceeded(token.kind) {
            self.reset();
            self.lexer.skip_line();
            return Some(Err(error));
        }
        self.tokens.push(token);
        if !self.open.is_over() {
            return None;
        }
        let tokens = self.reset();
        Some(parser::parse(tokens))
    }

    /// Which limit the value exceeds with a token of this kind.
    fn exceeded(&self, kind: Kind) -> Option<Error> {
        let what = if kind == Kind::TooLong || self.bytes > self.limits.bytes {
            "token size"
        } else if self.tokens.len() >= self.limits.tokens {
            "token count"
        } else if self.open.depth() > self.limits.depth {
            "nesting depth"
        } else {
            return None;
        };
        Some(Error::generic(format!("JSON {what} limit exceeded")))
    }

    /// Starts over; the tokens so far.
    fn reset(&mut self) -> Vec<Token> {
        self.bytes = 0;
        self.open = Open::default();
        std::mem::take(&mut self.tokens)
    }
}
