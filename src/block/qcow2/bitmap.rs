//! The directory of persistent bitmaps.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::super::{BlockError, Node};
use super::ImageError;
use super::header::BitmapsExtension;
use super::image::Qcow2;
use super::open::read;

/// Bytes of an entry before its parts of variable length.
const FIXED: usize = 24;
/// Largest table of a bitmap, in entries: QEMU's limit.
const MAX_TABLE: u64 = 0x800_0000 / 8;

/// A bitmap is not in the file as it should be.
pub const IN_USE: u32 = 1;
/// The bitmap records what is written.
pub const AUTO: u32 = 1 << 1;

/// An entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapEntry {
    /// Where its table is.
    pub offset: u64,
    /// Entries of its table.
    pub entries: u64,
    /// [`IN_USE`], [`AUTO`] and others.
    pub flags: u32,
    /// A bit stands for 2^this bytes.
    pub granularity_bits: u8,
    /// Its name.
    pub name: String,
    /// Where the entry is in the directory.
    pub position: u64,
}

/// Reads a directory, which is complete.
///
/// # Errors
/// An entry cannot be right.
pub fn parse(bytes: &[u8], extension: BitmapsExtension) -> Result<Vec<BitmapEntry>, ImageError> {
    let wrong = |index: usize| {
        let what = format!("Bitmap directory entry {index} is malformed");
        ImageError::corrupt(what, extension.directory)
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let index = found.len();
        let fixed = bytes.get(at..at + FIXED).ok_or_else(|| wrong(index))?;
        let number = |from: usize, len: usize| fixed[from..from + len].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let (name_len, extra) = (number(18, 2) as usize, number(20, 4) as usize);
        let name_at = (at + FIXED).checked_add(extra).ok_or_else(|| wrong(index))?;
        let name = bytes.get(name_at..name_at + name_len).ok_or_else(|| wrong(index))?;
        let entry = BitmapEntry {
            offset: number(0, 8),
            entries: number(8, 4),
            flags: number(12, 4) as u32,
            granularity_bits: fixed[17],
            name: String::from_utf8_lossy(name).into_owned(),
            position: at as u64,
        };
        let placed = entry.offset % 512 == 0 && entry.offset < i64::MAX as u64 - MAX_TABLE * 8;
        if !placed || entry.entries > MAX_TABLE || entry.granularity_bits > 63 {
            return Err(wrong(index));
        }
        found.push(entry);
        at = (name_at + name_len).next_multiple_of(8);
    }
    if found.len() != extension.count as usize {
        return Err(wrong(found.len()));
    }
    Ok(found)
}

impl Qcow2 {
    /// What the guest sees is about to change for the first time. Nobody here keeps up the bitmaps that are to record that,
    /// so they are marked: whoever uses them sees that they do not tell all. Others stay as they are.
    pub(super) async fn mark_bitmaps(&self) -> Result<(), BlockError> {
        if !self.bitmaps_recorded.load(Ordering::Acquire) {
            return Ok(());
        }
        // Who comes second waits until it is on the disk.
        let _meta = self.meta.lock().await;
        if !self.bitmaps_recorded.load(Ordering::Acquire) {
            return Ok(());
        }
        let extension = self.tables().header.bitmaps;
        if let Some(extension) = extension {
            let mut entries = self.bitmaps();
            for entry in &mut entries {
                if entry.flags & (AUTO | IN_USE) == AUTO {
                    entry.flags |= IN_USE;
                    let at = extension.directory + entry.position + 12;
                    self.write_field(at, &entry.flags.to_be_bytes()).await?;
                }
            }
            self.file.flush().await?;
            *self.bitmaps.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        }
        self.bitmaps_recorded.store(false, Ordering::Release);
        Ok(())
    }

    /// The bitmaps as they are in the file.
    pub(super) fn bitmaps(&self) -> Vec<BitmapEntry> {
        self.bitmaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads the directory of bitmaps in a file.
///
/// # Errors
/// It cannot be read, or cannot be right.
pub(super) async fn read_directory(file: &Node, extension: BitmapsExtension) -> Result<Vec<BitmapEntry>, ImageError> {
    let room = file.length().saturating_sub(extension.directory);
    if extension.directory_size > room {
        let what = "Bitmap directory is beyond the end of the file";
        return Err(ImageError::corrupt(what, extension.directory));
    }
    let bytes = read(file, extension.directory, extension.directory_size).await?;
    parse(&bytes, extension)
}
