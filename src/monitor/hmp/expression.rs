//! Integer expressions in arguments, such as `0x1000+4*8` or `$pc`.

use serde_json::{Map, Value};

/// An expression was not one: what to tell.
pub(super) type Complaint = String;

/// Reads an expression at the start of `text`. Returns its value and what follows.
///
/// Numbers are decimal, `0x` hexadecimal or `0` octal, characters stand for their code, and arithmetic wraps at
/// 64 bits.
///
/// `$name` is a register; `registers` has the values of those there are.
pub(super) fn parse<'a>(text: &'a str, registers: &'a Map<String, Value>) -> Result<(i64, &'a str), Complaint> {
    let mut parser = Parser {
        rest: text.trim_start(),
        depth: 0,
        registers,
    };
    let value = parser.sum()?;
    Ok((value, parser.rest))
}

/// How deep parentheses and signs may nest.
const MAX_DEPTH: u32 = 64;

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
    registers: &'a Map<String, Value>,
}

impl Parser<'_> {
    /// Terms joined by `+` and `-`.
    fn sum(&mut self) -> Result<i64, Complaint> {
        let mut value = self.logic()?;
        loop {
            match self.operator("+-") {
                Some('+') => value = value.wrapping_add(self.logic()?),
                Some(_) => value = value.wrapping_sub(self.logic()?),
                None => return Ok(value),
            }
        }
    }

    /// Terms joined by `&`, `|` and `^`, which bind closer than `+`.
    fn logic(&mut self) -> Result<i64, Complaint> {
        let mut value = self.product()?;
        loop {
            match self.operator("&|^") {
                Some('&') => value &= self.product()?,
                Some('|') => value |= self.product()?,
                Some(_) => value ^= self.product()?,
                None => return Ok(value),
            }
        }
    }

    fn product(&mut self) -> Result<i64, Complaint> {
        let mut value = self.unary()?;
        loop {
            let Some(operator) = self.operator("*/%") else {
                return Ok(value);
            };
            let right = self.unary()?;
            value = match operator {
                '*' => value.wrapping_mul(right),
                _ if right == 0 => return Err("division by zero".into()),
                '/' => value.wrapping_div(right),
                _ => value.wrapping_rem(right),
            };
        }
    }

    fn unary(&mut self) -> Result<i64, Complaint> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression too deep".into());
        }
        let value = match self.operator("+-~(") {
            Some('+') => self.unary()?,
            Some('-') => self.unary()?.wrapping_neg(),
            Some('~') => !self.unary()?,
            Some(_) => {
                let value = self.sum()?;
                self.operator(")").ok_or("')' expected")?;
                value
            }
            None => self.number()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, Complaint> {
        let Some(first) = self.rest.chars().next() else {
            return Err("unexpected end of expression".into());
        };
        if first == '\'' {
            let mut characters = self.rest[1..].chars();
            let (Some(character), Some('\'')) = (characters.next(), characters.next()) else {
                return Err("character constant expected".into());
            };
            self.rest = characters.as_str().trim_start();
            return Ok(i64::from(u32::from(character)));
        }
        if first == '$' {
            return self.register();
        }
        if !first.is_ascii_digit() {
            return Err(format!("invalid char '{first}' in expression"));
        }
        let end = self
            .rest
            .find(|character: char| !character.is_ascii_alphanumeric())
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let parsed = match word.as_bytes() {
            [b'0', b'x' | b'X', ..] => u64::from_str_radix(&word[2..], 16),
            [b'0', _, ..] => u64::from_str_radix(&word[1..], 8),
            _ => word.parse(),
        };
        parsed
            .map(|number| number as i64)
            .map_err(|_| format!("invalid number '{word}' in expression"))
    }

    /// `$` and a name of letters, digits, `.` and `_`.
    fn register(&mut self) -> Result<i64, Complaint> {
        let name = &self.rest[1..];
        let is_of_name = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
        let end = name.find(|character| !is_of_name(character)).unwrap_or(name.len());
        let (name, rest) = name.split_at(end);
        self.rest = rest.trim_start();
        let value = self.registers.get(name).and_then(Value::as_u64);
        value.map(|value| value as i64).ok_or_else(|| "unknown register".into())
    }

    /// The next character, if it is one of `operators`.
    fn operator(&mut self, operators: &str) -> Option<char> {
        let next = self
            .rest
            .chars()
            .next()
            .filter(|character| operators.contains(*character))?;
        self.rest = self.rest[next.len_utf8()..].trim_start();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registers() -> Map<String, Value> {
        Map::from_iter([
            ("pc".to_owned(), json!(0xffff_fff0_u64)),
            ("cs.base".to_owned(), json!(u64::MAX)),
        ])
    }

    #[test]
    fn values() {
        for (text, value, rest) in [
            ("10+5*2", 20, ""),
            ("0x10", 16, ""),
            ("010 \"file\"", 8, "\"file\""),
            ("-(1 + ~2) 7", 2, "7"),
            ("'A'", 65, ""),
            ("6 % 4 / 2", 1, ""),
            ("1|6&3", 3, ""),
            ("$pc+16", 1 << 32, ""),
            ("$cs.base 1", -1, "1"),
            ("0xffffffffffffffff", -1, ""),
            ("-0x8000000000000000 / -1", i64::MIN, ""),
        ] {
            assert_eq!(parse(text, &registers()), Ok((value, rest)), "{text}");
        }
    }

    #[test]
    fn complaints() {
        let deep = "(".repeat(100_000);
        for (text, complaint) in [
            ("", "unexpected end of expression"),
            ("1 +", "unexpected end of expression"),
            ("10 /tmp/file", "invalid char 't' in expression"),
            ("1/0", "division by zero"),
            ("(1", "')' expected"),
            ("$nosuch", "unknown register"),
            ("$", "unknown register"),
            ("12z", "invalid number '12z' in expression"),
            ("'ab'", "character constant expected"),
            (deep.as_str(), "expression too deep"),
        ] {
            assert_eq!(parse(text, &registers()), Err(complaint.to_owned()));
        }
    }
}
