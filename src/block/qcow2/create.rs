//! New images.

use std::sync::Arc;

use super::super::{Node, Pool};
use super::compress::Compression;
use super::header::{LAZY_REFCOUNTS, autoclear, incompatible};
use super::{Geometry, Header, ImageError, OpenOptions, Qcow2, refcount};
use crate::block::BlockDriver;

/// What a new image is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes of the guest's disk.
    pub size: u64,
    /// 2 (`compat=0.10`) or 3 (`compat=1.1`).
    pub version: u32,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Bits of a refcount.
    pub refcount_bits: u64,
    /// Refcounts are written late.
    pub lazy_refcounts: bool,
    /// L2 entries tell of subclusters.
    pub extended_l2: bool,
    /// How clusters are compressed.
    pub compression: Compression,
    /// Name of the backing file.
    pub backing_file: Option<String>,
    /// Its format.
    pub backing_format: Option<String>,
    /// Name of the data file.
    pub data_file: Option<String>,
    /// The data file is a raw image.
    pub data_file_raw: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            size: 0,
            version: 3,
            cluster_size: 65536,
            refcount_bits: 16,
            lazy_refcounts: false,
            extended_l2: false,
            compression: Compression::Zlib,
            backing_file: None,
            backing_format: None,
            data_file: None,
            data_file_raw: false,
        }
    }
}

impl CreateOptions {
    /// Whether all that goes together.
    fn check(&self) -> Result<(), ImageError> {
        let wrong = |what: &str| Err(ImageError::Options(what.into()));
        if !self.cluster_size.is_power_of_two() || !(512..=2 << 20).contains(&self.cluster_size) {
            return wrong("Cluster size must be a power of two between 512 and 2048k");
        }
        if !self.refcount_bits.is_power_of_two() || self.refcount_bits > 64 {
            return wrong("Refcount width must be a power of two and may not exceed 64 bits");
        }
        if self.size % 512 != 0 {
            return wrong("Image size must be a multiple of 512 bytes");
        }
        if self.version < 3 {
            let needs = [
                (
                    self.refcount_bits != 16,
                    "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
                ),
                (
                    self.lazy_refcounts,
                    "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)",
                ),
                (
                    self.extended_l2,
                    "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)",
                ),
                (
                    self.compression != Compression::Zlib,
                    "Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)",
                ),
                (
                    self.data_file.is_some(),
                    "External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)",
                ),
            ];
            if let Some((_, what)) = needs.iter().find(|(asked, _)| *asked) {
                return wrong(what);
            }
        }
        if self.extended_l2 && self.cluster_size < 16384 {
            return wrong("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
        }
        if self.data_file_raw && self.backing_file.is_some() {
            return wrong("Backing file and data-file-raw cannot be used at the same time");
        }
        if self.data_file_raw && self.data_file.is_none() {
            return wrong("data-file-raw requires data-file");
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        Header {
            version: self.version,
            backing_file: self.backing_file.clone(),
            backing_format: self.backing_format.clone(),
            data_file: self.data_file.clone(),
            geometry: Geometry {
                cluster_bits: self.cluster_size.trailing_zeros(),
                refcount_order: self.refcount_bits.trailing_zeros(),
                extended: self.extended_l2,
            },
            size: 0,
            l1_entries: 0,
            l1: 0,
            reftable: self.cluster_size,
            reftable_clusters: 1,
            snapshots: 0,
            snapshot_table: 0,
            incompatible: flag(self.data_file.is_some(), incompatible::DATA_FILE)
                | flag(self.compression == Compression::Zstd, incompatible::COMPRESSION)
                | flag(self.extended_l2, incompatible::EXTENDED_L2),
            compatible: flag(self.lazy_refcounts, LAZY_REFCOUNTS),
            autoclear: flag(self.data_file_raw, autoclear::RAW_DATA_FILE),
            compression: self.compression,
            bitmaps: None,
        }
    }
}

/// Makes a file an image; what it had is lost. Guest data go to `data_file` if the options name one.
///
/// # Errors
/// The options do not go together, the image would be too large, or the file cannot be written.
pub async fn create(
    file: &Arc<Node>,
    data_file: Option<&Arc<Node>>,
    options: &CreateOptions,
    pool: Arc<Pool>,
) -> Result<(), ImageError> {
    options.check()?;
    let header = options.header();
    let Some(mut bytes) = header.encode() else {
        return Err(ImageError::Options("the names of other files are too long".into()));
    };
    // The header, the refcount table, and a refcount block for these three.
    let cluster = options.cluster_size as usize;
    bytes.resize(3 * cluster, 0);
    bytes[cluster..cluster + 8].copy_from_slice(&(2 * options.cluster_size).to_be_bytes());
    for index in 0..3 {
        refcount::set(&mut bytes[2 * cluster..], header.geometry.refcount_order, index, 1);
    }
    file.truncate(0).await?;
    file.write(
        0,
        super::super::IoBuffer::copy_of(&bytes),
        super::super::WriteFlags::default(),
    )
    .await?;
    file.flush().await?;
    if options.size == 0 {
        return Ok(());
    }
    let image = Qcow2::open(OpenOptions {
        data_file: data_file.cloned(),
        ..OpenOptions::new(Arc::clone(file), pool)
    })
    .await?;
    image.truncate(options.size).await?;
    image.close().await?;
    Ok(())
}
