//! The comma syntax: `value,key=value,flag`, with a doubled comma for a comma inside a value.

use serde_json::{Map, Value};

use super::error::Error;
use super::option::{Group, Parameter, ParameterKind};
use crate::qapi::text::{self, NumberError};

/// The parameters of one option in the order given, keys and value forms already checked against its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opts {
    pairs: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl Opts {
    /// Reads `text` by the rules of `group`.
    ///
    /// # Errors
    /// Names the parameter that does not exist or has a value of the wrong form.
    pub fn parse(text: &str, group: &Group) -> Result<Self, Error> {
        Self::parse_implying(text, group.implied, group)
    }

    /// The same, but the first value may stand for the key `implied`, whatever the group says.
    ///
    /// # Errors
    /// Names the parameter that does not exist or has a value of the wrong form.
    pub fn parse_implying(text: &str, implied: Option<&str>, group: &Group) -> Result<Self, Error> {
        let mut opts = Self::default();
        for (index, item) in split(text).into_iter().enumerate() {
            let (key, value) = match (item, implied) {
                (Item::Pair(key, value), _) => (key, value),
                (Item::Bare(value), Some(implied)) if index == 0 => (implied.to_owned(), value),
                (Item::Bare(flag), _) => opts.flag(&flag, group),
            };
            opts.pairs.push((key, value));
        }
        opts.checked(group)
    }

    /// Takes keys and values that were read elsewhere, as from a configuration file.
    ///
    /// # Errors
    /// Names the parameter that does not exist or has a value of the wrong form.
    pub fn from_pairs(pairs: Vec<(String, String)>, group: &Group) -> Result<Self, Error> {
        Self {
            pairs,
            warnings: Vec::new(),
        }
        .checked(group)
    }

    /// A key without value turns a boolean on, or off with `no` before it. QEMU warns of it except for `help`.
    fn flag(&mut self, flag: &str, group: &Group) -> (String, String) {
        let known = |name: &str| group.parameters.iter().any(|parameter| parameter.name == name);
        let (key, value) = match flag.strip_prefix("no") {
            Some(rest) if !known(flag) && known(rest) => (rest.to_owned(), "off"),
            _ => (flag.to_owned(), "on"),
        };
        if !text::is_help(flag) {
            self.warnings.push(format!(
                "short-form boolean option '{flag}' deprecated\nPlease use {key}={value} instead"
            ));
        }
        (key, value.to_owned())
    }

    fn checked(self, group: &Group) -> Result<Self, Error> {
        for (key, value) in &self.pairs {
            if group.parameters.is_empty() {
                break;
            }
            match group.parameters.iter().find(|parameter| parameter.name == key) {
                Some(parameter) => check_value(parameter, value)?,
                None if key == "id" => {}
                None if text::is_help(key) => {}
                None => return Err(Error::invalid_parameter(key)),
            }
        }
        if self.get("id").is_some_and(|id| !text::is_well_formed_id(id)) {
            return Err(Error::malformed_id());
        }
        Ok(self)
    }

    /// The same with `pairs` before everything else.
    ///
    /// # Errors
    /// Names the parameter that does not exist or has a value of the wrong form.
    pub fn prefixed(mut self, mut pairs: Vec<(String, String)>, group: &Group) -> Result<Self, Error> {
        pairs.append(&mut self.pairs);
        self.pairs = pairs;
        self.checked(group)
    }

    /// The last value given for `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values given for `key`, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The last value given for `key`, which its group declares boolean.
    #[must_use]
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(text::parse_bool)
    }

    /// The last value given for `key`, which its group declares a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|value| text::parse_uint(value).ok())
    }

    /// The last value given for `key`, which its group declares a size; a bare number counts `unit` bytes.
    ///
    /// # Errors
    /// Says that the size does not fit in 64 bits.
    pub fn size(&self, key: &str, unit: u64) -> Result<Option<u64>, Error> {
        self.get(key).map(|value| parse_size(key, value, unit)).transpose()
    }

    /// The value of `key`, read by `from_name`.
    ///
    /// # Errors
    /// Names the value that is none of the enumeration.
    pub fn choice<T>(&self, key: &str, from_name: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(given) = self.get(key) else {
            return Ok(None);
        };
        from_name(given)
            .map(Some)
            .ok_or_else(|| Error::invalid_value(key, given))
    }

    /// Whether help was asked for instead.
    #[must_use]
    pub fn wants_help(&self) -> bool {
        self.pairs.iter().any(|(key, _)| text::is_help(key))
    }

    /// Keys and values in the order given.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// A map of texts; a key given more than once holds its last value.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.clone(), Value::String(value.clone())))
            .collect()
    }

    /// A map of texts in which a key given more than once holds the array of its values.
    #[must_use]
    pub fn to_multimap(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in &self.pairs {
            let value = Value::String(value.clone());
            match map.get_mut(key) {
                None => {
                    map.insert(key.clone(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        map
    }

    /// What the user should know though nothing is wrong.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// One comma-separated part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// `key=value`.
    Pair(String, String),
    /// Text without `=`.
    Bare(String),
}

/// Splits at single commas. A doubled comma is a comma within a value; keys hold none.
pub(super) fn split(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let key_end = rest.find(['=', ',']).unwrap_or(rest.len());
        if rest[key_end..].starts_with('=') {
            let (value, after) = split_value(&rest[key_end + 1..]);
            items.push(Item::Pair(rest[..key_end].to_owned(), value));
            rest = after;
        } else {
            let (value, after) = split_value(rest);
            items.push(Item::Bare(value));
            rest = after;
        }
    }
    items
}

fn split_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some(comma) = rest.find(',') {
        value.push_str(&rest[..comma]);
        rest = &rest[comma + 1..];
        match rest.strip_prefix(',') {
            Some(after) => {
                value.push(',');
                rest = after;
            }
            None => return (value, rest),
        }
    }
    value.push_str(rest);
    (value, "")
}

fn check_value(parameter: &Parameter, value: &str) -> Result<(), Error> {
    match parameter.kind {
        ParameterKind::String => Ok(()),
        ParameterKind::Boolean => match text::parse_bool(value) {
            Some(_) => Ok(()),
            None => Err(Error::expects(parameter.name, "'on' or 'off'")),
        },
        ParameterKind::Number => match text::parse_uint(value) {
            Ok(_) => Ok(()),
            Err(NumberError::Malformed) => Err(Error::expects(parameter.name, "a number")),
            Err(NumberError::OutOfRange) => Err(Error::new(format!(
                "Value '{value}' is too large for parameter '{}'",
                parameter.name
            ))),
        },
        ParameterKind::Size => parse_size(parameter.name, value, 1).map(|_| ()),
    }
}

fn parse_size(key: &str, value: &str, unit: u64) -> Result<u64, Error> {
    text::parse_size(value, unit).map_err(|error| match error {
        NumberError::Malformed => Error::expects(key, "a non-negative number below 2^64").with_hint(
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
        ),
        NumberError::OutOfRange => Error::new(format!("Value '{value}' is out of range for parameter '{key}'")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Group = Group {
        name: "test",
        implied: Some("path"),
        parameters: &[
            Parameter::string("path", ""),
            Parameter::boolean("wait", ""),
            Parameter::boolean("nodelay", ""),
            Parameter::number("fd", ""),
            Parameter::size("size", ""),
        ],
    };

    #[test]
    fn implied_key_and_doubled_commas() {
        let opts = Opts::parse("a,,b,wait=off,fd=0x1f,path=c=d", &GROUP).unwrap();
        assert_eq!(opts.all("path").collect::<Vec<_>>(), ["a,b", "c=d"]);
        assert_eq!(opts.get("path"), Some("c=d"));
        assert_eq!(opts.boolean("wait"), Some(false));
        assert_eq!(opts.number("fd"), Some(31));
    }

    #[test]
    fn short_booleans_warn() {
        let opts = Opts::parse("x,nowait,nodelay", &GROUP).unwrap();
        assert_eq!(opts.boolean("wait"), Some(false));
        assert_eq!(opts.boolean("nodelay"), Some(true));
        assert_eq!(
            opts.warnings()[0],
            "short-form boolean option 'nowait' deprecated\nPlease use wait=off instead"
        );
    }

    #[test]
    fn wrong_values_name_the_parameter() {
        let message = |text| Opts::parse(text, &GROUP).unwrap_err().message;
        assert_eq!(message("x,bar=1"), "Invalid parameter 'bar'");
        assert_eq!(message("wait=maybe"), "Parameter 'wait' expects 'on' or 'off'");
        assert_eq!(message("fd=z"), "Parameter 'fd' expects a number");
        assert_eq!(
            message("size=12Z"),
            "Parameter 'size' expects a non-negative number below 2^64"
        );
        assert_eq!(message("size=16E"), "Value '16E' is out of range for parameter 'size'");
        assert_eq!(message("id=1a"), "Parameter 'id' expects an identifier");
    }

    #[test]
    fn repeated_keys_become_an_array() {
        let map = Opts::parse("a,fd=1,fd=2,fd=3", &GROUP).unwrap().to_multimap();
        assert_eq!(map["fd"], serde_json::json!(["1", "2", "3"]));
    }
}
