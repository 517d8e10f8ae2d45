//! A stream of JSON values, read as they trickle in.
//!
//! QMP input is a stream of values, not of lines. `lexer` cuts bytes into tokens, `stream` finds where a value ends,
//! `parser` makes the value, `text` reads strings and numbers. As an extension, strings may be in single quotes. All
//! errors have QEMU's texts.

mod lexer;
mod parser;
mod stream;
mod text;

pub use stream::{Limits, Stream, from_text};

#[cfg(test)]
mod tests;
