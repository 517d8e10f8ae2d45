//! The header of an image and its extensions.

mod features;

use super::compress::Compression;
use super::{Geometry, ImageError};
use features::{FEATURE_NAME, FEATURE_NAMES, Features, feature_names};

/// `QFI` and 0xfb.
pub(super) const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a header of version 2, and of what all versions have.
const VERSION2_LENGTH: usize = 72;
/// Least bytes of a header of version 3.
const VERSION3_LENGTH: usize = 104;
/// Largest L1 table, largest refcount table, most snapshots: QEMU's limits.
pub const MAX_L1_BYTES: u64 = 32 << 20;
/// See [`MAX_L1_BYTES`].
pub const MAX_REFTABLE_BYTES: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65536;
/// Longest name of a backing file.
const MAX_NAME: u32 = 1023;
const MAX_BITMAPS: u32 = 65535;
/// Largest directory of bitmaps.
const MAX_BITMAP_DIRECTORY: u64 = 64 << 20;

/// Bits of `incompatible_features`.
pub mod incompatible {
    /// Refcounts may be too low.
    pub const DIRTY: u64 = 1;
    /// Nothing may be written.
    pub const CORRUPT: u64 = 1 << 1;
    /// Guest data are in a file of their own.
    pub const DATA_FILE: u64 = 1 << 2;
    /// Compressed clusters are not deflated.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries tell of subclusters.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All that are known.
    pub const KNOWN: u64 = (1 << 5) - 1;
}

/// Bit of `compatible_features`: refcounts may be written late.
pub const LAZY_REFCOUNTS: u64 = 1;

/// Bits of `autoclear_features`.
pub mod autoclear {
    /// The bitmaps are what their directory says.
    pub const BITMAPS: u64 = 1;
    /// The data file is a raw image.
    pub const RAW_DATA_FILE: u64 = 1 << 1;
}

/// Types of extensions.
mod extension {
    pub(super) const END: u32 = 0;
    pub(super) const BACKING_FORMAT: u32 = 0xe279_2aca;
    pub(super) const FEATURE_NAMES: u32 = 0x6803_f857;
    pub(super) const BITMAPS: u32 = 0x2385_2875;
    pub(super) const ENCRYPTION: u32 = 0x0537_be77;
    pub(super) const DATA_FILE: u32 = 0x4441_5441;
}

/// Where the directory of persistent bitmaps is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapsExtension {
    /// Where the extension's data are in the file.
    pub position: u64,
    /// Bitmaps.
    pub count: u32,
    /// Bytes of the directory.
    pub directory_size: u64,
    /// Where it is.
    pub directory: u64,
}

/// A header. What this program does not know of it stays as it is in the file: fields are changed one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Name of the backing file.
    pub backing_file: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
    /// Name of the data file.
    pub data_file: Option<String>,
    /// Cluster size, width of refcounts, kind of L2 entries.
    pub geometry: Geometry,
    /// Bytes of the guest's disk.
    pub size: u64,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// Where the active L1 table is.
    pub l1: u64,
    /// Where the refcount table is.
    pub reftable: u64,
    /// Clusters of the refcount table.
    pub reftable_clusters: u32,
    /// Internal snapshots.
    pub snapshots: u32,
    /// Where the table of snapshots is.
    pub snapshot_table: u64,
    /// Bits in [`incompatible`].
    pub incompatible: u64,
    /// [`LAZY_REFCOUNTS`], and others.
    pub compatible: u64,
    /// Bits in [`autoclear`], and others.
    pub autoclear: u64,
    /// How clusters are compressed.
    pub compression: Compression,
    /// Persistent bitmaps.
    pub bitmaps: Option<BitmapsExtension>,
}

/// Places of fields that change while an image is in use.
pub mod field {
    /// `size`.
    pub const SIZE: u64 = 24;
    /// `l1_size` and `l1_table_offset`.
    pub const L1: u64 = 36;
    /// `refcount_table_offset` and `refcount_table_clusters`.
    pub const REFTABLE: u64 = 48;
    /// `incompatible_features`.
    pub const INCOMPATIBLE: u64 = 72;
    /// `autoclear_features`.
    pub const AUTOCLEAR: u64 = 88;
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

impl Header {
    /// How many bytes at the beginning of a file `parse` wants to see: the first cluster. `start` is at least the first 24
    /// bytes, if there are as many.
    #[must_use]
    pub fn length(start: &[u8]) -> usize {
        1 << u32_at(start, 20).clamp(9, 21)
    }

    /// Reads the header of an image, of which `bytes` are the first cluster, or all that there is of it.
    ///
    /// # Errors
    /// It is no image, one of a kind that is not supported, or one that cannot be right.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() < 8 || u32_at(bytes, 0) != MAGIC {
            return Err(ImageError::NotQcow2);
        }
        let version = u32_at(bytes, 4);
        if !(2..=3).contains(&version) {
            return Err(ImageError::Version(version));
        }
        let least = if version == 2 { VERSION2_LENGTH } else { VERSION3_LENGTH };
        if bytes.len() < least {
            return Err(ImageError::corrupt("qcow2 header too short", 0));
        }
        let cluster_bits = u32_at(bytes, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(ImageError::ClusterSize(cluster_bits));
        }
        let features = Features::parse(bytes, version, cluster_bits)?;
        let mut header = Self {
            version,
            backing_file: None,
            backing_format: None,
            data_file: None,
            geometry: Geometry {
                cluster_bits,
                refcount_order: features.refcount_order,
                extended: features.incompatible & incompatible::EXTENDED_L2 != 0,
            },
            size: u64_at(bytes, 24),
            l1_entries: u32_at(bytes, 36),
            l1: u64_at(bytes, 40),
            reftable: u64_at(bytes, 48),
            reftable_clusters: u32_at(bytes, 56),
            snapshots: u32_at(bytes, 60),
            snapshot_table: u64_at(bytes, 64),
            incompatible: features.incompatible,
            compatible: features.compatible,
            autoclear: features.autoclear,
            compression: Compression::Zlib,
            bitmaps: None,
        };
        let (backing, backing_len) = (u64_at(bytes, 8), u32_at(bytes, 16));
        if backing > header.geometry.cluster_size() {
            return Err(ImageError::corrupt("Invalid backing file offset", 8));
        }
        let names = header.extensions(bytes, features.header_length, backing)?;
        header.check_features(&names)?;
        header.compression = features.compression(bytes)?;
        match u32_at(bytes, 32) {
            0 => {}
            1 => return Err(ImageError::Encrypted("AES")),
            2 => return Err(ImageError::Encrypted("LUKS")),
            method => return Err(ImageError::Encryption(method)),
        }
        if backing != 0 {
            let room = bytes.len() as u64 - backing.min(bytes.len() as u64);
            if backing_len > MAX_NAME || u64::from(backing_len) > room {
                return Err(ImageError::corrupt("Backing file name too long", 16));
            }
            let name = &bytes[backing as usize..][..backing_len as usize];
            header.backing_file = (!name.is_empty()).then(|| text(name));
        }
        header.check_tables()?;
        Ok(header)
    }

    fn has(&self, feature: u64) -> bool {
        self.incompatible & feature != 0
    }

    /// Whether guest data are in a file of their own.
    #[must_use]
    pub fn has_data_file(&self) -> bool {
        self.has(incompatible::DATA_FILE)
    }

    /// Whether the data file is a raw image.
    #[must_use]
    pub fn is_data_file_raw(&self) -> bool {
        self.autoclear & autoclear::RAW_DATA_FILE != 0
    }

    /// Whether refcounts may be too low.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.has(incompatible::DIRTY)
    }

    /// Whether the image is known to be corrupt.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.has(incompatible::CORRUPT)
    }

    /// Least entries of an L1 table for a disk of `size` bytes.
    #[must_use]
    pub fn l1_entries_for(geometry: Geometry, size: u64) -> u64 {
        size.div_ceil(geometry.l1_span())
    }

    /// Takes what the extensions say; returns the names of features.
    fn extensions(&mut self, bytes: &[u8], start: usize, backing: u64) -> Result<Vec<u8>, ImageError> {
        let cluster = self.geometry.cluster_size() as usize;
        let end = if backing == 0 { cluster } else { backing as usize };
        let mut names = Vec::new();
        let mut at = start;
        // What is beyond the end of the file is zero, which ends the list.
        while at + 8 <= end && at + 8 <= bytes.len() {
            let (kind, length) = (u32_at(bytes, at), u32_at(bytes, at + 4) as usize);
            at += 8;
            if kind == extension::END {
                break;
            }
            if length > end - at || length > bytes.len().saturating_sub(at) {
                return Err(ImageError::corrupt("Header extension too large", at as u64 - 8));
            }
            let data = &bytes[at..at + length];
            match kind {
                extension::BACKING_FORMAT => self.backing_format = Some(text(data)),
                extension::DATA_FILE => self.data_file = Some(text(data)),
                extension::FEATURE_NAMES => names = data.to_vec(),
                // Without the feature nobody knows whether the extension is right.
                extension::BITMAPS if self.autoclear & autoclear::BITMAPS != 0 => {
                    self.bitmaps = Some(self.parse_bitmaps(data, at as u64)?);
                }
                extension::ENCRYPTION => return Err(ImageError::Encrypted("LUKS")),
                _ => {}
            }
            at += length.next_multiple_of(8);
        }
        Ok(names)
    }

    fn parse_bitmaps(&self, data: &[u8], position: u64) -> Result<BitmapsExtension, ImageError> {
        let found = BitmapsExtension {
            position,
            count: u32_at(data, 0),
            directory_size: u64_at(data, 8),
            directory: u64_at(data, 16),
        };
        let wrong = if data.len() != 24 {
            "bitmaps_ext: Invalid extension length"
        } else if u32_at(data, 4) != 0 {
            "bitmaps_ext: Reserved field is not zero"
        } else if found.count == 0 {
            "bitmaps_ext: found bitmaps extension with zero bitmaps"
        } else if found.count > MAX_BITMAPS {
            "bitmaps_ext: too many bitmaps"
        } else if !self.geometry.is_aligned(found.directory) || found.directory == 0 {
            "bitmaps_ext: invalid bitmap directory offset"
        } else if found.directory_size > MAX_BITMAP_DIRECTORY {
            "bitmaps_ext: bitmap directory is too large"
        } else {
            return Ok(found);
        };
        Err(ImageError::corrupt(wrong, position))
    }

    fn check_features(&self, names: &[u8]) -> Result<(), ImageError> {
        let unknown = self.incompatible & !incompatible::KNOWN;
        if unknown != 0 {
            return Err(ImageError::Features(feature_names(unknown, names)));
        }
        if self.is_data_file_raw() && !self.has_data_file() {
            return Err(ImageError::corrupt(
                "data-file-raw requires a data file",
                field::AUTOCLEAR,
            ));
        }
        if self.geometry.extended && self.geometry.subcluster_size() < 512 {
            return Err(ImageError::SubclusterSize(self.geometry.subcluster_size()));
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<(), ImageError> {
        let geometry = self.geometry;
        let misplaced = |offset: u64| !geometry.is_aligned(offset) || offset > i64::MAX as u64 - MAX_L1_BYTES;
        if self.reftable_clusters == 0 {
            return Err(ImageError::corrupt(
                "Image does not contain a reference count table",
                56,
            ));
        }
        if u64::from(self.reftable_clusters) << geometry.cluster_bits > MAX_REFTABLE_BYTES {
            return Err(ImageError::corrupt("Reference count table too large", 56));
        }
        if misplaced(self.reftable) || self.reftable == 0 {
            return Err(ImageError::corrupt("Reference count table offset invalid", 48));
        }
        if self.snapshots > MAX_SNAPSHOTS {
            return Err(ImageError::corrupt("Snapshot table too large", 60));
        }
        if self.snapshots != 0 && (misplaced(self.snapshot_table) || self.snapshot_table == 0) {
            return Err(ImageError::corrupt("Snapshot table offset invalid", 64));
        }
        if u64::from(self.l1_entries) * 8 > MAX_L1_BYTES {
            return Err(ImageError::corrupt("Active L1 table too large", 36));
        }
        if self.size > i64::MAX as u64 - geometry.l1_span() {
            return Err(ImageError::corrupt("Image is too big", 24));
        }
        if u64::from(self.l1_entries) < Self::l1_entries_for(geometry, self.size) {
            return Err(ImageError::corrupt("L1 table is too small", 36));
        }
        if self.l1_entries != 0 && (misplaced(self.l1) || self.l1 == 0) {
            return Err(ImageError::corrupt("Active L1 table offset invalid", 40));
        }
        Ok(())
    }

    /// The first bytes of a new image. Backing file, format and data file fit into a cluster together, or it is None.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![
            0;
            if self.version == 2 {
                VERSION2_LENGTH
            } else {
                VERSION3_LENGTH + 8
            }
        ];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_be_bytes());
        put(4, &self.version.to_be_bytes());
        put(20, &self.geometry.cluster_bits.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(36, &self.l1_entries.to_be_bytes());
        put(40, &self.l1.to_be_bytes());
        put(48, &self.reftable.to_be_bytes());
        put(56, &self.reftable_clusters.to_be_bytes());
        if self.version == 3 {
            put(72, &self.incompatible.to_be_bytes());
            put(80, &self.compatible.to_be_bytes());
            put(88, &self.autoclear.to_be_bytes());
            put(96, &self.geometry.refcount_order.to_be_bytes());
            put(100, &(VERSION3_LENGTH as u32 + 8).to_be_bytes());
            put(104, &[u8::from(self.compression == Compression::Zstd)]);
        }
        let mut add = |kind: u32, data: &[u8]| {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        };
        if let Some(format) = &self.backing_format {
            add(extension::BACKING_FORMAT, format.as_bytes());
        }
        if let Some(name) = &self.data_file {
            add(extension::DATA_FILE, name.as_bytes());
        }
        if self.version == 3 && self.geometry.cluster_size() > 1024 {
            let mut names = Vec::new();
            for (kind, bit, name) in FEATURE_NAMES {
                names.extend_from_slice(&[kind, bit]);
                names.extend_from_slice(name.as_bytes());
                names.resize(names.len().next_multiple_of(FEATURE_NAME), 0);
            }
            add(extension::FEATURE_NAMES, &names);
        }
        add(extension::END, &[]);
        if let Some(name) = &self.backing_file {
            let offset = bytes.len() as u64;
            bytes[8..16].copy_from_slice(&offset.to_be_bytes());
            bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        (bytes.len() as u64 <= self.geometry.cluster_size()).then_some(bytes)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
