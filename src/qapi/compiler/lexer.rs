//! Tokens of a schema module: punctuation, single-quoted strings, booleans and doc comments.

use std::path::PathBuf;
use std::rc::Rc;

use super::error::{Place, SchemaError};

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// One of `{ } [ ] : ,`.
    Punct(char),
    /// A single-quoted string, quotes removed.
    Str(String),
    /// `true` or `false`.
    Bool(bool),
    /// The lines of a doc comment, without the leading `#` and the space after it.
    Doc(Vec<String>),
}

/// Cuts `text` into tokens, each with its place.
///
/// # Errors
/// A character that starts no token, a string or doc comment that does not end.
pub(crate) fn tokenize(text: &str, file: &Rc<PathBuf>) -> Result<Vec<(Token, Place)>, SchemaError> {
    let mut tokens = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let place = Place {
            file: Rc::clone(file),
            line: index + 1,
        };
        if line.trim_end() == "##" {
            tokens.push((Token::Doc(doc_comment(&mut lines, &place)?), place));
            continue;
        }
        tokenize_line(line, &place, &mut tokens)?;
    }
    Ok(tokens)
}

/// The lines up to the closing `##`.
fn doc_comment<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    start: &Place,
) -> Result<Vec<String>, SchemaError> {
    let mut doc = Vec::new();
    for (index, line) in lines {
        let line = line.trim_end();
        if line == "##" {
            return Ok(doc);
        }
        let Some(rest) = line.strip_prefix('#') else {
            let place = Place {
                line: index + 1,
                ..start.clone()
            };
            return Err(place.error("line of a doc comment must start with '#'"));
        };
        doc.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned());
    }
    Err(start.error("doc comment does not end"))
}

fn tokenize_line(line: &str, place: &Place, tokens: &mut Vec<(Token, Place)>) -> Result<(), SchemaError> {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(());
        };
        let (token, length) = match first {
            '#' => return Ok(()),
            '{' | '}' | '[' | ']' | ':' | ',' => (Token::Punct(first), 1),
            '\'' => {
                let inner = &rest[1..];
                let end = inner.find('\'').ok_or_else(|| place.error("string does not end"))?;
                let text = &inner[..end];
                if !text.chars().all(|c| c.is_ascii_graphic() && c != '\\') {
                    return Err(place.error(format!("string '{text}' holds a character that is not allowed")));
                }
                (Token::Str(text.to_owned()), end + 2)
            }
            't' if rest.starts_with("true") => (Token::Bool(true), 4),
            'f' if rest.starts_with("false") => (Token::Bool(false), 5),
            other => return Err(place.error(format!("stray '{other}'"))),
        };
        tokens.push((token, place.clone()));
        rest = &rest[length..];
    }
}
