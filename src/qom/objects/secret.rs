//! `secret`: a password or key, given in place or in a file.

use std::path::PathBuf;

use cbc::cipher::{BlockDecryptMut, KeyIvInit};

use super::object;
use crate::qapi::{QmpError, base64};
use crate::qom::types::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::qom::values::Values;

const SECRET: [PropertyInfo; 5] = [
    PropertyInfo::new("data", PropertyKind::String, Default::None, "The secret itself"),
    PropertyInfo::new("file", PropertyKind::String, Default::None, "A file that holds it"),
    PropertyInfo::new(
        "format",
        PropertyKind::Enum("QCryptoSecretFormat", &["raw", "base64"]),
        Default::Str("raw"),
        "How it is written",
    ),
    PropertyInfo::new(
        "keyid",
        PropertyKind::String,
        Default::None,
        "The secret that decrypts it, by AES-256-CBC",
    ),
    PropertyInfo::new(
        "iv",
        PropertyKind::String,
        Default::None,
        "Initialization vector for that, in base64",
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
    /// Id of the secret that decrypts it; none if it is not encrypted.
    pub keyid: Option<String>,
    /// The initialization vector, in base64.
    pub iv: Option<String>,
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

/// A secret that is not given or written as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is given twice.
    #[error("'file' and 'data' are mutually exclusive")]
    TwoSources,
    /// It is not given.
    #[error("Either 'file' or 'data' must be provided")]
    NoSource,
    /// Characters that base64 has not.
    #[error("Base64 data contains invalid characters")]
    Characters,
    /// Base64 of an impossible length.
    #[error("Base64 data is not valid")]
    Base64,
    /// The key is no key of AES-256.
    #[error("Key should be {KEY_SIZE} bytes in length")]
    Key,
    /// An encrypted secret without an initialization vector.
    #[error("IV is required to decrypt secret")]
    NoVector,
    /// An initialization vector of the wrong size.
    #[error("IV should be {BLOCK_SIZE} bytes in length not {0}")]
    Vector(usize),
    /// What is encrypted is no number of whole blocks.
    #[error("Length {0} must be a multiple of block size {BLOCK_SIZE}")]
    Length(usize),
    /// What comes out is not padded, so that the key or the vector is another.
    #[error("Incorrect number of padding bytes ({0}) found on decrypted data")]
    Padding(u8),
}

impl QmpError for SecretError {}

/// Bytes of a key of AES-256.
const KEY_SIZE: usize = 32;
/// Bytes of a block of AES, and of the initialization vector.
const BLOCK_SIZE: usize = 16;

impl SecretConfig {
    /// Checks the values of a `secret`.
    ///
    /// # Errors
    /// Says that there is no source, or that there are two.
    pub fn from_values(values: &Values) -> Result<Self, SecretError> {
        let source = match (values.text("data"), values.text("file")) {
            (Some(data), None) => SecretSource::Data(data.to_owned()),
            (None, Some(file)) => SecretSource::File(PathBuf::from(file)),
            (Some(_), Some(_)) => return Err(SecretError::TwoSources),
            (None, None) => return Err(SecretError::NoSource),
        };
        let format = match values.text("format") {
            Some("base64") => SecretFormat::Base64,
            _ => SecretFormat::Raw,
        };
        Ok(Self {
            source,
            format,
            keyid: values.text("keyid").map(str::to_owned),
            iv: values.text("iv").map(str::to_owned),
        })
    }

    /// The secret that `written` stands for, with the key that `keyid` names if it names one.
    ///
    /// # Errors
    /// Says what is not base64, or why it cannot be decrypted.
    pub fn reveal(&self, written: Vec<u8>, key: Option<&[u8]>) -> Result<Vec<u8>, SecretError> {
        let Some(key) = key else {
            return self.format.decode(written);
        };
        let key: &[u8; KEY_SIZE] = key.try_into().map_err(|_| SecretError::Key)?;
        let iv = self.iv.as_ref().ok_or(SecretError::NoVector)?;
        let iv = decode_base64(iv.as_bytes())?;
        let iv: [u8; BLOCK_SIZE] = iv.as_slice().try_into().map_err(|_| SecretError::Vector(iv.len()))?;
        decrypt(key, &iv, self.format.decode(written)?)
    }
}

/// Decrypts whole blocks by AES-256-CBC and takes the padding of PKCS#7 off.
fn decrypt(key: &[u8; KEY_SIZE], iv: &[u8; BLOCK_SIZE], mut text: Vec<u8>) -> Result<Vec<u8>, SecretError> {
    if text.len() % BLOCK_SIZE != 0 {
        return Err(SecretError::Length(text.len()));
    }
    let mut cipher = cbc::Decryptor::<aes::Aes256>::new(key.into(), iv.into());
    for block in text.chunks_exact_mut(BLOCK_SIZE) {
        cipher.decrypt_block_mut(block.into());
    }
    let padding = text.last().copied().unwrap_or_default();
    if !(1..=BLOCK_SIZE).contains(&usize::from(padding)) {
        return Err(SecretError::Padding(padding));
    }
    text.truncate(text.len() - usize::from(padding));
    Ok(text)
}

fn decode_base64(text: &[u8]) -> Result<Vec<u8>, SecretError> {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\n".contains(byte);
    match text.iter().all(is_known) {
        true => base64::decode(text).ok_or(SecretError::Base64),
        false => Err(SecretError::Characters),
    }
}

impl SecretFormat {
    /// The bytes that `written` stands for.
    ///
    /// # Errors
    /// Says that it is not base64.
    fn decode(self, written: Vec<u8>) -> Result<Vec<u8>, SecretError> {
        match self {
            Self::Raw => Ok(written),
            Self::Base64 => decode_base64(&written),
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
            SecretConfig::from_values(&values).err().map(|error| error.to_string())
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

    fn config(format: SecretFormat, iv: Option<&str>) -> SecretConfig {
        SecretConfig {
            source: SecretSource::Data(String::new()),
            format,
            keyid: iv.map(|_| "key".to_owned()),
            iv: iv.map(str::to_owned),
        }
    }

    #[test]
    fn base64() {
        let decode = |text: &str| config(SecretFormat::Base64, None).reveal(text.as_bytes().to_vec(), None);
        assert_eq!(decode("Zm9v\nYmE=").unwrap(), b"fooba");
        assert_eq!(decode("Zg==").unwrap(), b"f");
        assert_eq!(decode("").unwrap(), b"");
        for wrong in ["Z", "Zg=", "Z===", "Zg==Zg=="] {
            assert_eq!(decode(wrong), Err(SecretError::Base64), "{wrong}");
        }
        for wrong in ["!!!", "Zm9v!mFy", "Zm9v YmE="] {
            assert_eq!(decode(wrong), Err(SecretError::Characters), "{wrong}");
        }
    }

    /// Made by `openssl enc -aes-256-cbc -K ... -iv ... -base64`.
    #[test]
    fn encrypted() {
        let key = b"01234567890123456789012345678901";
        let iv = "MDEyMzQ1Njc4OWFiY2RlZg==";
        let written = b"7UDTFlF8nswdzIJVjzvX6KbdAWn1ZHPMCzbMLYoaqrg=".to_vec();
        let secret = config(SecretFormat::Base64, Some(iv));
        assert_eq!(
            secret.reveal(written.clone(), Some(key)).unwrap(),
            b"correct horse battery"
        );
        let whole_block = b"98uT/mgBYXR8AZTmo1ur6rtWKQ+PaC0lRb00SMBKdLE=".to_vec();
        assert_eq!(secret.reveal(whole_block, Some(key)).unwrap(), b"0123456789abcdef");
        let fails = |secret: &SecretConfig, key: &[u8], written: &[u8]| {
            secret.reveal(written.to_vec(), Some(key)).unwrap_err().to_string()
        };
        assert_eq!(fails(&secret, b"short", &written), "Key should be 32 bytes in length");
        assert_eq!(
            fails(&secret, key, b"QUJD"),
            "Length 3 must be a multiple of block size 16"
        );
        assert!(fails(&secret, key, b"MDEyMzQ1Njc4OTAxMjM0NQ==").starts_with("Incorrect number of padding bytes ("),);
        assert_eq!(
            fails(&secret, key, b""),
            "Incorrect number of padding bytes (0) found on decrypted data"
        );
        let without = config(SecretFormat::Base64, None);
        assert_eq!(fails(&without, key, &written), "IV is required to decrypt secret");
        let short = config(SecretFormat::Base64, Some("QUJD"));
        assert_eq!(fails(&short, key, &written), "IV should be 16 bytes in length not 3");
        let odd = config(SecretFormat::Base64, Some("!"));
        assert_eq!(fails(&odd, key, &written), "Base64 data contains invalid characters");
    }
}
