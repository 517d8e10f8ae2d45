//! The values of strings and numbers.

use serde_json::{Number, Value};

use super::parser::error;
use crate::qapi::Error;

/// The text of a string token, quotes removed and escapes resolved.
pub(super) fn string(token: &[u8]) -> Result<String, Error> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let Some(mut rest) = std::str::from_utf8(inner)
        .ok()
        .filter(|text| !text.contains(is_noncharacter))
    else {
        return Err(error("invalid UTF-8 sequence in string"));
    };
    let mut text = String::with_capacity(rest.len());
    while let Some(position) = rest.find('\\') {
        text.push_str(&rest[..position]);
        let (c, length) = escape(&rest[position..])?;
        text.push(c);
        rest = &rest[position + length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of the escape sequence that `text` starts with, and the bytes it takes.
fn escape(text: &str) -> Result<(char, usize), Error> {
    let c = match text.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&quoted @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(quoted),
        Some(b'u') => return unicode(text),
        _ => return Err(error("invalid escape sequence in string")),
    };
    Ok((c, 2))
}

/// The character of `\uXXXX`, or of two of them that make a surrogate pair.
fn unicode(text: &str) -> Result<(char, usize), Error> {
    let invalid = |length| {
        let shown: String = text.chars().take(length).collect();
        error(&format!("{shown} is not a valid Unicode character"))
    };
    let first = unit(text).ok_or_else(|| invalid(6))?;
    let second = text.get(6..).and_then(unit);
    let units = std::iter::once(first).chain(second);
    match char::decode_utf16(units).next() {
        Some(Ok(c)) if is_noncharacter(c) => Err(invalid(6 * c.len_utf16())),
        Some(Ok(c)) => Ok((c, 6 * c.len_utf16())),
        _ => Err(invalid(6)),
    }
}

/// Whether Unicode sets the code point aside for internal use.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// The number in `\uXXXX`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// The value of an integer token: signed, or unsigned where it fits only there, or else as near as may be.
pub(super) fn integer(token: &[u8]) -> Result<Value, Error> {
    let text = String::from_utf8_lossy(token);
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    match text.parse::<u64>() {
        Ok(number) => Ok(number.into()),
        Err(_) => float(token),
    }
}

/// The value of any number token.
pub(super) fn float(token: &[u8]) -> Result<Value, Error> {
    let text = String::from_utf8_lossy(token);
    let number = text.parse().ok().and_then(Number::from_f64);
    number
        .map(Value::Number)
        .ok_or_else(|| error(&format!("number '{text}' is out of range")))
}
