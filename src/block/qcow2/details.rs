//! What an image tells of itself.

use super::bitmap::BitmapEntry;
use super::image::Qcow2;
use crate::block::ImageDetails;

/// What images of qcow2 tell beyond what others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Details {
    /// 2 or 3.
    pub version: u32,
    /// Bits of a refcount.
    pub refcount_bits: u32,
    /// Refcounts are written late.
    pub lazy_refcounts: bool,
    /// It is marked corrupt.
    pub is_corrupt: bool,
    /// Clusters have subclusters.
    pub extended_l2: bool,
    /// Clusters are compressed by zstd, and not by zlib.
    pub zstd: bool,
    /// The file that has the guest's data, as the image names it, and whether that is a raw image.
    pub data_file: Option<(String, bool)>,
    /// Bitmaps in it.
    pub bitmaps: Vec<BitmapEntry>,
}

impl Qcow2 {
    pub(super) fn details(&self) -> ImageDetails {
        let bitmaps = self.bitmaps();
        let header = self.tables().header.clone();
        let data_file = header.has_data_file().then(|| {
            let name = header.data_file.clone().unwrap_or_default();
            (name, header.is_data_file_raw())
        });
        ImageDetails {
            is_dirty: header.is_dirty(),
            cluster_size: Some(self.geometry.cluster_size()),
            snapshots: self.snapshots.clone(),
            qcow2: Some(Qcow2Details {
                version: header.version,
                refcount_bits: self.geometry.refcount_bits(),
                lazy_refcounts: header.compatible & super::header::LAZY_REFCOUNTS != 0,
                is_corrupt: header.is_corrupt(),
                extended_l2: self.geometry.extended,
                zstd: header.compression == super::Compression::Zstd,
                data_file,
                bitmaps,
            }),
            backing_file: header.backing_file,
            backing_format: header.backing_format,
        }
    }
}
