//! `secret`: a password or key, given in place or in a file.

use std::path::PathBuf;

use super::object;
use crate::qapi::{Error, base64};
use crate::qom::types::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::qom::values::Values;

const SECRET: [PropertyInfo; 3] = [
    PropertyInfo::new("data", PropertyKind::String, Default::None, "The secret itself"),
    PropertyInfo::new("file", PropertyKind::String, Default::None, "A file that holds it"),
    PropertyInfo::new(
        "format",
        PropertyKind::Enum("QCryptoSecretFormat", &["raw", "base64"]),
        Default::Str("raw"),
        "How it is written",
    ),
];

/// `secret_common` and `secret`.
pub(super) static TYPES: &[TypeInfo] = &[
    object("secret_common", "object", true, "", &[]),
    object("secret", "secret_common", false, "A password or key", &SECRET),
];

/// What is asked of one secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretConfig {
    /// Where it comes from.
    pub source: SecretSource,
    /// How it is written.
    pub format: SecretFormat,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It was given in place.
    Data(String),
    /// It is in a file, to be read when the object is made.
    File(PathBuf),
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFormat {
    /// Byte by byte.
    Raw,
    /// In base64.
    Base64,
}

/// A secret that is not written as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not base64.
    #[error("Base64 data is not valid")]
    Base64,
}

impl SecretConfig {
    /// Checks the values of a `secret`.
    ///
    /// # Errors
    /// Says that there is no source, or that there are two.
    pub fn from_values(values: &Values) -> Result<Self, Error> {
        let source = match (values.text("data"), values.text("file")) {
            (Some(data), None) => SecretSource::Data(data.to_owned()),
            (None, Some(file)) => SecretSource::File(PathBuf::from(file)),
            (Some(_), Some(_)) => return Err(Error::generic("'file' and 'data' are mutually exclusive")),
            (None, None) => return Err(Error::generic("Either 'file' or 'data' must be provided")),
        };
        let format = match values.text("format") {
            Some("base64") => SecretFormat::Base64,
            _ => SecretFormat::Raw,
        };
        Ok(Self { source, format })
    }
}

impl SecretFormat {
    /// The secret that `written` stands for.
    ///
    /// # Errors
    /// Says that it is not base64.
    pub fn decode(self, written: Vec<u8>) -> Result<Vec<u8>, SecretError> {
        match self {
            Self::Raw => Ok(written),
            Self::Base64 => base64::decode(&written).ok_or(SecretError::Base64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qom::Registry;
    use serde_json::json;

    #[test]
    fn one_source() {
        let message = |given: &serde_json::Value| {
            let values = Registry::new()
                .values("secret", given.as_object().unwrap(), [])
                .unwrap();
            SecretConfig::from_values(&values).err().map(|error| error.desc)
        };
        assert_eq!(message(&json!({"format": "raw", "file": "/k"})), None);
        assert_eq!(
            message(&json!({})).as_deref(),
            Some("Either 'file' or 'data' must be provided")
        );
        assert_eq!(
            message(&json!({"data": "a", "file": "/k"})).as_deref(),
            Some("'file' and 'data' are mutually exclusive")
        );
    }

    #[test]
    fn base64() {
        let decode = |text: &str| SecretFormat::Base64.decode(text.as_bytes().to_vec());
        assert_eq!(decode("Zm9v\nYmE=").unwrap(), b"fooba");
        assert_eq!(decode("Zg==").unwrap(), b"f");
        assert_eq!(decode("").unwrap(), b"");
        for wrong in ["Z", "Zg=", "Z===", "Zg==Zg==", "Zm9v!mFy"] {
            assert_eq!(decode(wrong), Err(SecretError::Base64), "{wrong}");
        }
    }
}
