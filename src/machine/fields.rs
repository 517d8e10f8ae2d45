//! Reading properties out of `-object`, `-device` and `-numa` entries, which hold texts when they came from the
//! `key=value` syntax and typed values when they came as JSON.

use serde_json::{Map, Value};

use crate::qapi::{Error, text};

/// One entry, and how messages call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map }
    }

    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.map.get(name).and_then(Value::as_str)
    }

    /// A text that must be there.
    pub(crate) fn required_text(self, name: &str) -> Result<&'a str, Error> {
        self.text(name)
            .ok_or_else(|| Error::generic(format!("Parameter '{name}' is missing")))
    }

    pub(crate) fn number(self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.map.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text::parse_uint(text).ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| invalid_type(name, "integer"))
    }

    /// A number that fits `T`.
    pub(crate) fn small<T: TryFrom<u64>>(self, name: &str) -> Result<Option<T>, Error> {
        let Some(number) = self.number(name)? else {
            return Ok(None);
        };
        T::try_from(number)
            .map(Some)
            .map_err(|_| Error::generic(format!("Parameter '{name}': {number} is out of range")))
    }

    /// Bytes; a text may end in one of `BKMGTPE`.
    pub(crate) fn size(self, name: &str) -> Result<Option<u64>, Error> {
        match self.map.get(name) {
            Some(Value::String(text)) => match text::parse_size(text, 1) {
                Ok(size) => Ok(Some(size)),
                Err(_) => Err(Error::generic(format!(
                    "Parameter '{name}' expects a non-negative number below 2^64"
                ))),
            },
            _ => self.number(name),
        }
    }

    /// Numbers: a JSON array, or ranges as `0-3` separated by commas or given several times.
    pub(crate) fn numbers(self, name: &str) -> Result<Vec<u32>, Error> {
        let wrong = || Error::generic(format!("Parameter '{name}' expects numbers or ranges of numbers"));
        let mut numbers = Vec::new();
        let values = match self.map.get(name) {
            None => return Ok(numbers),
            Some(Value::Array(values)) => values.iter().collect(),
            Some(value) => vec![value],
        };
        for value in values {
            match value {
                Value::Number(number) => {
                    let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
                    numbers.push(number.ok_or_else(wrong)?);
                }
                Value::String(text) => {
                    for range in text.split([',', ':']) {
                        numbers.extend(parse_range(range).ok_or_else(wrong)?);
                    }
                }
                _ => return Err(wrong()),
            }
        }
        Ok(numbers)
    }
}

fn parse_range(text: &str) -> Option<impl Iterator<Item = u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // A longer range than there could be CPUs or nodes is a mistake, and would only use up memory.
    (first <= last && last - first < 65_536).then_some(first..=last)
}

fn invalid_type(name: &str, expected: &str) -> Error {
    Error::generic(format!("Invalid parameter type for '{name}', expected: {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_typed_values_mean_the_same() {
        let text = json!({"size": "2M", "host-nodes": "0-1,3", "n": "0x10"});
        let typed = json!({"size": 2_097_152, "host-nodes": [0, 1, 3], "n": 16});
        for value in [text, typed] {
            let map = value.as_object().unwrap();
            let fields = Fields::new(map);
            assert_eq!(fields.size("size"), Ok(Some(2 << 20)));
            assert_eq!(fields.numbers("host-nodes"), Ok(vec![0, 1, 3]));
            assert_eq!(fields.number("n"), Ok(Some(16)));
            assert_eq!(fields.number("absent"), Ok(None));
        }
    }

    #[test]
    fn nonsense_is_named() {
        let value = json!({"size": "17E9", "cpus": "3-1", "n": 300});
        let fields = Fields::new(value.as_object().unwrap());
        assert!(fields.size("size").is_err());
        assert!(fields.numbers("cpus").is_err());
        assert_eq!(
            fields.small::<u8>("n").unwrap_err().desc,
            "Parameter 'n': 300 is out of range"
        );
    }
}
