//! Reading the parameters of `-numa` and `-smbios`, which are texts.

use serde_json::{Map, Value};

use crate::qapi::QmpError;
use crate::qapi::text::{self, NumberError};

/// A parameter that is missing, unknown or no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It must be given.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// It is not of this form.
    #[error("Parameter '{name}' expects {what}")]
    Expects {
        /// The parameter.
        name: &'static str,
        /// What it takes.
        what: &'static str,
    },
    /// The option has none of this name.
    #[error("Invalid parameter '{0}'")]
    Unknown(String),
}

impl QmpError for FieldError {}

/// The parameters of one option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map }
    }

    /// The text given last.
    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.texts(name).last()
    }

    /// All texts given, in order.
    pub(crate) fn texts(self, name: &str) -> impl Iterator<Item = &'a str> {
        let (list, single) = match self.map.get(name) {
            Some(Value::Array(list)) => (list.as_slice(), None),
            single => (&[][..], single),
        };
        list.iter().chain(single).filter_map(Value::as_str)
    }

    /// A text that must be there.
    pub(crate) fn required_text(self, name: &'static str) -> Result<&'a str, FieldError> {
        self.text(name).ok_or(FieldError::Missing(name))
    }

    /// A number that fits `T`, which messages call `kind`.
    pub(crate) fn number<T: TryFrom<u64>>(
        self,
        name: &'static str,
        kind: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(given) = self.text(name) else {
            return Ok(None);
        };
        let number = match text::parse_uint(given) {
            Ok(number) if !given.starts_with('-') => number,
            Err(NumberError::OutOfRange) => return Err(expects(name, kind)),
            _ => return Err(expects(name, "a uint64 value")),
        };
        T::try_from(number).map(Some).map_err(|_| expects(name, kind))
    }

    /// A number that must be there.
    pub(crate) fn required_number<T: TryFrom<u64>>(
        self,
        name: &'static str,
        kind: &'static str,
    ) -> Result<T, FieldError> {
        self.number(name, kind)?.ok_or(FieldError::Missing(name))
    }

    /// A number that may be negative.
    pub(crate) fn signed(self, name: &'static str) -> Result<Option<i64>, FieldError> {
        let number = self.text(name).map(text::parse_int).transpose();
        number.map_err(|_| expects(name, "an int64 value"))
    }

    /// Bytes; the text may end in one of `BKMGTPE`.
    pub(crate) fn size(self, name: &'static str) -> Result<Option<u64>, FieldError> {
        let size = self.text(name).map(|given| text::parse_size(given, 1)).transpose();
        size.map_err(|_| expects(name, "a size value"))
    }

    /// Numbers and ranges `0-3`, given once or several times.
    pub(crate) fn numbers(self, name: &'static str) -> Result<Vec<u16>, FieldError> {
        let mut numbers = Vec::new();
        for given in self.texts(name) {
            let (first, last) = given.split_once('-').unwrap_or((given, given));
            let range = (text::parse_uint(first), text::parse_uint(last));
            let (Ok(first), Ok(last)) = range else {
                return Err(expects(name, "a uint64 value or range"));
            };
            if first > last {
                return Err(expects(name, "a uint64 value or range"));
            }
            let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
                return Err(expects(name, "uint16_t"));
            };
            numbers.extend(first..=last);
        }
        Ok(numbers)
    }

    /// Refuses parameters that are none of `known`.
    pub(crate) fn only(self, known: &[&str]) -> Result<(), FieldError> {
        match self.map.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(FieldError::Unknown(name.clone())),
            None => Ok(()),
        }
    }
}

fn expects(name: &'static str, what: &'static str) -> FieldError {
    FieldError::Expects { name, what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_text_counts_and_lists_add_up() {
        let value = json!({"size": ["1M", "2M"], "cpus": ["0-1", "3"], "n": "0x10", "i": "-1"});
        let fields = Fields::new(value.as_object().unwrap());
        assert_eq!(fields.size("size"), Ok(Some(2 << 20)));
        assert_eq!(fields.numbers("cpus"), Ok(vec![0, 1, 3]));
        assert_eq!(fields.number::<u8>("n", "uint8_t"), Ok(Some(16)));
        assert_eq!(fields.number::<u8>("absent", "uint8_t"), Ok(None));
        assert_eq!(fields.signed("i"), Ok(Some(-1)));
        assert_eq!(fields.texts("cpus").count(), 2);
    }

    #[test]
    fn nonsense_is_named() {
        let value = json!({"size": "17E9", "cpus": "3-1", "all": "0-70000", "n": "300", "i": "-1", "x": "x"});
        let fields = Fields::new(value.as_object().unwrap());
        for (error, expected) in [
            (
                fields.size("size").unwrap_err(),
                "Parameter 'size' expects a size value",
            ),
            (
                fields.numbers("cpus").unwrap_err(),
                "Parameter 'cpus' expects a uint64 value or range",
            ),
            (fields.numbers("all").unwrap_err(), "Parameter 'all' expects uint16_t"),
            (
                fields.number::<u8>("n", "uint8_t").unwrap_err(),
                "Parameter 'n' expects uint8_t",
            ),
            (
                fields.number::<u8>("i", "uint8_t").unwrap_err(),
                "Parameter 'i' expects a uint64 value",
            ),
            (fields.signed("x").unwrap_err(), "Parameter 'x' expects an int64 value"),
            (fields.only(&["size"]).unwrap_err(), "Invalid parameter 'cpus'"),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
