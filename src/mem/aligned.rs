//! Mappings that begin at a multiple of more than a page.
#![expect(unsafe_code, reason = "mmap into address space that was kept for it")]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vm_memory::FileOffset;
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};

use super::{RamMapping, Watchers};

/// Address space in which nothing but one mapping lies. Given back, with what lies in it, when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: the pointer stands for a range of addresses of the process, which are the same for every thread; the owner only
// gives them back.
unsafe impl Send for Reservation {}
// SAFETY: as above; nothing can be done with a shared reference.
unsafe impl Sync for Reservation {}

impl Reservation {
    fn new(len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        // SAFETY: the kernel chooses a range that is free, and nobody can touch it: it has no pages.
        let start = unsafe {
            mmap_anonymous(
                None,
                len,
                ProtFlags::PROT_NONE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }?;
        Ok(Self { start, len })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is this one's own, and the only mapping in it is dropped before it (`RamBlock`).
        let unmapped = unsafe { munmap(self.start, self.len.get()) };
        if let Err(errno) = unmapped {
            tracing::warn!("cannot unmap guest memory: {}", errno.desc());
        }
    }
}

/// Maps `size` bytes (not 0) of `file`, or of nothing, at a multiple of `align`, which is a power of two and a multiple of
/// the page size. The mapping is good for as long as the reservation lives.
pub(super) fn map(
    file: Option<FileOffset>,
    size: usize,
    protection: i32,
    flags: i32,
    align: usize,
) -> Result<(RamMapping, Reservation), MmapRegionError> {
    let all = size.checked_add(align).ok_or(Errno::ENOMEM);
    let reservation = all
        .map_err(io::Error::from)
        .and_then(Reservation::new)
        .map_err(MmapRegionError::Mmap)?;
    let start = reservation.start.as_ptr().cast::<u8>();
    // Less than `align` bytes after the start, so that `size` bytes from there on are within the reservation.
    let start = start.wrapping_add(start.align_offset(align));
    let (fd, offset) = match &file {
        Some(file) => (std::os::fd::AsRawFd::as_raw_fd(file.file()), file.start()),
        None => (-1, 0),
    };
    let offset = libc::off_t::try_from(offset).map_err(|_| MmapRegionError::InvalidOffsetLength)?;
    // SAFETY: the range from `start` on lies within the reservation, in which nothing else is mapped.
    let mapped = unsafe { libc::mmap(start.cast(), size, protection, flags | libc::MAP_FIXED, fd, offset) };
    if mapped == libc::MAP_FAILED {
        return Err(MmapRegionError::Mmap(io::Error::last_os_error()));
    }
    let builder = MmapRegionBuilder::new_with_bitmap(size, <Watchers as vm_memory::bitmap::NewBitmap>::with_len(size));
    // SAFETY: `start` and `size` are the mapping made above, and the caller keeps the reservation with it.
    let mut builder = unsafe { builder.with_raw_mmap_pointer(start) }
        .with_mmap_prot(protection)
        .with_mmap_flags(flags);
    if let Some(file) = file {
        builder = builder.with_file_offset(file);
    }
    Ok((builder.build()?, reservation))
}

#[cfg(test)]
mod tests {
    use super::super::RamBlock;
    use super::*;

    #[test]
    fn a_mapping_begins_where_it_is_to_and_goes_with_its_block() {
        const ALIGN: usize = 64 << 20;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let blocks: Vec<_> = ["a", "b"]
            .map(|id| RamBlock::aligned(id, None, 3 << 20, (protection, flags), ALIGN).unwrap())
            .into();
        for block in &blocks {
            assert_eq!(block.mapping().as_ptr().align_offset(ALIGN), 0);
            block.write((3 << 20) - 2, &[1, 2]).unwrap();
            assert!(block.write((3 << 20) - 1, &[1, 2]).is_err());
        }
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
        let place = format!("{:x}-", blocks[0].mapping().as_ptr().addr());
        assert!(maps().contains(&place));
        drop(blocks);
        assert!(!maps().contains(&place));
        let error = RamBlock::aligned("c", None, usize::MAX - 4095, (protection, flags), ALIGN).unwrap_err();
        assert!(matches!(error, MmapRegionError::Mmap(_)));
    }
}
