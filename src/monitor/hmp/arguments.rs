//! The arguments of a line, by what the command declares.

use serde_json::{Map, Value};

use super::expression;
use super::table::{Argument, Command, Kind};

/// Reads the arguments of `command`. Optional ones that are not given are left out. `registers` has the values that
/// expressions may name.
pub(super) fn parse(
    command: &Command,
    text: &str,
    registers: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut values = Map::new();
    let mut rest = text;
    for argument in command.arguments {
        if let Some(value) = next(command, argument, &mut rest, registers)? {
            values.insert(argument.name.to_owned(), value);
        }
    }
    match rest.trim().is_empty() {
        true => Ok(values),
        false => Err(format!(
            "{}: extraneous characters at the end of line",
            command.names.join("|")
        )),
    }
}

fn next(
    command: &Command,
    argument: &Argument,
    rest: &mut &str,
    registers: &Map<String, Value>,
) -> Result<Option<Value>, String> {
    *rest = rest.trim_start();
    match argument.kind {
        Kind::Flag(letter) => flag(letter, rest),
        Kind::Format => Ok(format(rest)),
        Kind::Index => match rest.strip_prefix('.') {
            Some(after) => {
                let (value, after) = expression::parse(after, registers)?;
                let value = value.into();
                *rest = &rest[rest.len() - after.len()..];
                Ok(Some(value))
            }
            None => Ok(None),
        },
        _ if rest.is_empty() && argument.optional => Ok(None),
        Kind::Number => {
            let (value, after) = expression::parse(rest, registers)?;
            let value = value.into();
            *rest = &rest[rest.len() - after.len()..];
            Ok(Some(value))
        }
        Kind::Switch => {
            let (value, after) = word(rest)?;
            *rest = after;
            match value.as_str() {
                "on" => Ok(Some(true.into())),
                "off" => Ok(Some(false.into())),
                _ => Err("Expected 'on' or 'off'".into()),
            }
        }
        Kind::Word | Kind::File | Kind::Rest if rest.is_empty() => {
            let expected = if matches!(argument.kind, Kind::File) {
                "filename"
            } else {
                "string"
            };
            Err(format!("{}: {expected} expected", command.names.join("|")))
        }
        Kind::Word | Kind::File => {
            let (value, after) = word(rest)?;
            *rest = after;
            Ok(Some(value.into()))
        }
        Kind::Rest => Ok(Some(std::mem::take(rest).trim_end().into())),
    }
}

/// `-x`, with `x` the only letter there can be.
fn flag(letter: char, rest: &mut &str) -> Result<Option<Value>, String> {
    let Some(after) = rest.strip_prefix('-') else {
        return Ok(None);
    };
    match after.strip_prefix(letter) {
        Some(after) if after.is_empty() || after.starts_with(char::is_whitespace) => {
            *rest = after;
            Ok(Some(true.into()))
        }
        _ => Err(format!("unsupported option -{}", after.chars().next().unwrap_or(' '))),
    }
}

/// `/x` right after the command.
fn format(rest: &mut &str) -> Option<Value> {
    let after = rest.strip_prefix('/')?;
    let end = after.find(char::is_whitespace).unwrap_or(after.len());
    let (letters, after) = after.split_at(end);
    *rest = after;
    Some(letters.into())
}

/// A word, or a text in quotes with `\n`, `\r` and quoted quotes.
fn word(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return Ok((word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Ok((value, characters.as_str())),
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some(same @ ('\\' | '\'' | '"')) => value.push(same),
                Some(other) => return Err(format!("unsupported escape code: '\\{other}'")),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("unterminated string".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(word("a b"), Ok(("a".into(), " b")));
        assert_eq!(word(r#""a \"b\"\n" c"#), Ok(("a \"b\"\n".into(), " c")));
        assert_eq!(word("\"a"), Err("unterminated string".into()));
        assert_eq!(word(r#""\x""#), Err(r"unsupported escape code: '\x'".into()));
    }
}
