//! Why an image cannot be used.

use super::super::BlockError;

/// Why an image cannot be opened or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file does not begin like an image.
    #[error("Image is not in qcow2 format")]
    NotQcow2,
    /// Another version than 2 and 3.
    #[error("Unsupported qcow2 version {0}")]
    Version(u32),
    /// Clusters of 2^this bytes.
    #[error("Unsupported cluster size: 2^{0}")]
    ClusterSize(u32),
    /// Subclusters of so many bytes.
    #[error("Unsupported subcluster size: {0}")]
    SubclusterSize(u64),
    /// Features that this program must know to read the image.
    #[error("Unsupported qcow2 feature(s): {0}")]
    Features(String),
    /// Clusters are compressed in a way nobody knows.
    #[error("qcow2: unknown compression type: {0}")]
    Compression(u8),
    /// Guest data are encrypted like this.
    #[error("encrypted images ({0}) are not supported")]
    Encrypted(&'static str),
    /// Guest data are encrypted in a way nobody knows.
    #[error("Unsupported encryption method {0}")]
    Encryption(u32),
    /// It is marked corrupt.
    #[error("qcow2: Image is corrupt; cannot be opened read/write")]
    MarkedCorrupt,
    /// The header asks for a data file, and none was given.
    #[error("'data-file' is required for this image")]
    DataFileMissing,
    /// A data file was given, which the header does not ask for.
    #[error("'data-file' can only be set for images with an external data file")]
    DataFileUnexpected,
    /// A structure of the file cannot be right.
    #[error("{what}")]
    Corrupt {
        /// What is wrong with which.
        what: String,
        /// Where in the file.
        offset: u64,
    },
    /// What a user wants of a new image does not go together.
    #[error("{0}")]
    Options(String),
    /// A request to the file failed.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl ImageError {
    pub(super) fn corrupt(what: impl Into<String>, offset: u64) -> Self {
        Self::Corrupt {
            what: what.into(),
            offset,
        }
    }
}

impl From<ImageError> for BlockError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Block(error) => error,
            ImageError::Corrupt { what, offset } => Self::Corrupt {
                what,
                offset: Some(offset),
            },
            ImageError::NotQcow2 | ImageError::Options(_) | ImageError::DataFileMissing => {
                Self::Invalid(error.to_string())
            }
            ImageError::DataFileUnexpected => Self::Invalid(error.to_string()),
            ImageError::MarkedCorrupt => Self::Corrupt {
                what: error.to_string(),
                offset: None,
            },
            _ => Self::Unsupported(error.to_string()),
        }
    }
}
