//! What an image asks of who reads it: features and their names, and how its clusters are compressed.

use super::{ImageError, VERSION2_LENGTH, VERSION3_LENGTH, incompatible, text, u32_at, u64_at};
use crate::block::qcow2::Compression;

/// The names QEMU gives to features, as it writes them to images: kind, bit, name.
pub(super) const FEATURE_NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];
/// Bytes of an entry in the table of names.
pub(super) const FEATURE_NAME: usize = 48;

/// What only version 3 has.
pub(super) struct Features {
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) refcount_order: u32,
    pub(super) header_length: usize,
}

impl Features {
    pub(super) fn parse(bytes: &[u8], version: u32, cluster_bits: u32) -> Result<Self, ImageError> {
        if version == 2 {
            return Ok(Self {
                incompatible: 0,
                compatible: 0,
                autoclear: 0,
                refcount_order: 4,
                header_length: VERSION2_LENGTH,
            });
        }
        let header_length = u32_at(bytes, 100) as usize;
        if header_length < VERSION3_LENGTH {
            return Err(ImageError::corrupt("qcow2 header too short", 100));
        }
        if header_length > 1 << cluster_bits {
            return Err(ImageError::corrupt("qcow2 header exceeds cluster size", 100));
        }
        let refcount_order = u32_at(bytes, 96);
        if refcount_order > 6 {
            let what = "Reference count entry width too large; may not exceed 64 bits";
            return Err(ImageError::corrupt(what, 96));
        }
        Ok(Self {
            incompatible: u64_at(bytes, 72),
            compatible: u64_at(bytes, 80),
            autoclear: u64_at(bytes, 88),
            refcount_order,
            header_length,
        })
    }

    pub(super) fn compression(&self, bytes: &[u8]) -> Result<Compression, ImageError> {
        let present = self.header_length > VERSION3_LENGTH;
        let kind = if present {
            bytes.get(VERSION3_LENGTH).copied().unwrap_or(0)
        } else {
            0
        };
        let flagged = self.incompatible & incompatible::COMPRESSION != 0;
        match (kind, flagged) {
            (0, false) => Ok(Compression::Zlib),
            (1, true) => Ok(Compression::Zstd),
            (0, true) => Err(ImageError::corrupt(
                "qcow2: Compression type incompatible feature bit must not be set",
                104,
            )),
            (_, false) => Err(ImageError::corrupt(
                "qcow2: Compression type incompatible feature bit must be set",
                104,
            )),
            (kind, true) => Err(ImageError::Compression(kind)),
        }
    }
}

/// The names of incompatible features: the image's own where it has them.
pub(super) fn feature_names(mask: u64, names: &[u8]) -> String {
    let mut unnamed = mask;
    let mut list = Vec::new();
    for entry in names.chunks_exact(FEATURE_NAME) {
        let bit = u32::from(entry[1]);
        if entry[0] == 0 && bit < 64 && unnamed & 1 << bit != 0 {
            let name = entry[2..].split(|byte| *byte == 0).next().unwrap_or_default();
            list.push(text(name));
            unnamed &= !(1 << bit);
        }
    }
    if unnamed != 0 {
        list.push(format!("Unknown incompatible feature: {unnamed:x}"));
    }
    list.join(", ")
}
