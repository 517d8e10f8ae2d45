//! Memory that data are read into and written from.
#![expect(
    unsafe_code,
    reason = "the kernel and a guest write to it while we have it, which no reference allows"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::fdatasync;
use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, VolatileSlice};

use super::WriteFlags;
use crate::mem::{GuestRam, RamBlock};

/// Owned memory begins at a multiple of this, which is what direct I/O needs of memory on every disk.
const ALIGNMENT: usize = 4096;
/// Most segments of a system call (`IOV_MAX`).
const MAX_SEGMENTS: usize = 1024;

/// A list of pieces of memory, guest's or owned, which is used as one. Clones and slices are of the same memory and keep it
/// alive. A guest, or another clone, may change the bytes at any time: what is looked at twice may differ.
#[derive(Clone, Default)]
pub struct IoBuffer {
    segments: Vec<Segment>,
    len: usize,
}

#[derive(Clone)]
struct Segment {
    memory: Memory,
    /// `offset + len` is within the memory.
    offset: usize,
    len: usize,
}

#[derive(Clone)]
enum Memory {
    Guest(Arc<RamBlock>),
    Owned(Arc<Owned>),
}

/// Memory of our own.
struct Owned {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to the value alone, whichever thread has it, and is only reached by copies that expect it to
// change meanwhile.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn zeroed(len: usize) -> Self {
        // Only a length near the end of the address space has no layout, and that cannot be had either.
        let Ok(layout) = Layout::from_size_align(len.max(1), ALIGNMENT) else {
            handle_alloc_error(Layout::new::<u8>());
        };
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, layout },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it was made with this layout in `zeroed`, and nobody has a part of it: segments keep it alive.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl Segment {
    fn pointer(&self) -> *mut u8 {
        match &self.memory {
            Memory::Owned(owned) => owned.start.as_ptr().wrapping_add(self.offset),
            Memory::Guest(block) => block.mapping().as_ptr().wrapping_add(self.offset),
        }
    }

    fn volatile(&self) -> VolatileSlice<'_> {
        // SAFETY: the range is within the memory, which this segment keeps mapped, readable and writable: a guest's is of RAM
        // that can be written. Nobody has a reference into it.
        unsafe { VolatileSlice::new(self.pointer(), self.len) }
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self {
            memory: self.memory.clone(),
            offset: self.offset + range.start,
            len: range.len(),
        }
    }

    /// Whoever watches the guest's memory hears that `len` bytes were written.
    fn mark(&self, len: usize) {
        if let Memory::Guest(block) = &self.memory {
            block.watchers().mark_dirty(self.offset, len);
        }
    }

    fn vector(&self) -> libc::iovec {
        libc::iovec {
            iov_base: self.pointer().cast(),
            iov_len: self.len,
        }
    }
}

impl IoBuffer {
    /// `len` zero bytes, aligned for direct I/O.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let memory = Memory::Owned(Arc::new(Owned::zeroed(len)));
        let segments = vec![Segment { memory, offset: 0, len }];
        Self { segments, len }
    }

    /// A copy of bytes.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let buffer = Self::zeroed(bytes.len());
        buffer.copy_from(bytes);
        buffer
    }

    /// A guest's memory: pairs of address and bytes. None if a part of it is not RAM.
    #[must_use]
    pub fn of_guest(ram: &GuestRam, parts: impl IntoIterator<Item = (u64, u64)>) -> Option<Self> {
        let mut buffer = Self::default();
        for (addr, len) in parts {
            for (block, offset, len) in ram.pieces(addr, len)? {
                buffer.segments.push(Segment {
                    memory: Memory::Guest(block),
                    offset: usize::try_from(offset).ok()?,
                    len,
                });
                buffer.len = buffer.len.checked_add(len)?;
            }
        }
        Some(buffer)
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it, the same memory. What of the range lies beyond the end is left out.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (start, end) = (range.start.min(self.len), range.end.min(self.len));
        let mut buffer = Self::default();
        let mut at = 0;
        for segment in &self.segments {
            let (from, to) = (start.max(at), end.min(at + segment.len));
            if from < to {
                buffer.segments.push(segment.slice(from - at..to - at));
                buffer.len += to - from;
            }
            at += segment.len;
        }
        buffer
    }

    /// This, and another behind it.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.segments.extend_from_slice(&other.segments);
        self.len += other.len;
        self
    }

    /// Copies its first bytes out: as many as there are and `bytes` has room for.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        let mut rest = bytes;
        for segment in &self.segments {
            let (now, later) = rest.split_at_mut(segment.len.min(rest.len()));
            segment.volatile().copy_to(now);
            rest = later;
        }
    }

    /// A copy of its bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(&mut bytes);
        bytes
    }

    /// Writes bytes to its beginning: as many as there are and as it has room for.
    pub fn copy_from(&self, bytes: &[u8]) {
        let mut rest = bytes;
        for segment in &self.segments {
            let (now, later) = rest.split_at(segment.len.min(rest.len()));
            segment.volatile().copy_from(now);
            segment.mark(now.len());
            rest = later;
        }
    }

    /// Writes the bytes of another to its beginning, as far as there is room. They are not to overlap.
    pub fn copy_from_buffer(&self, other: &Self) {
        let mut at = 0;
        for segment in &other.segments {
            let mut from = 0;
            let target = self.slice(at..at + segment.len);
            for part in &target.segments {
                let source = segment.slice(from..from + part.len);
                source.volatile().copy_to_volatile_slice(part.volatile());
                part.mark(part.len);
                from += part.len;
            }
            at += segment.len;
        }
    }

    /// Sets all its bytes to one value.
    pub fn fill(&self, byte: u8) {
        const CHUNK: usize = 4096;
        let pattern = [byte; CHUNK];
        for segment in &self.segments {
            let slice = segment.volatile();
            for at in (0..segment.len).step_by(CHUNK) {
                // Within the slice, as the step is.
                let _ = slice.write(&pattern[..CHUNK.min(segment.len - at)], at);
            }
            segment.mark(segment.len);
        }
    }

    /// Whether all its bytes are 0 now.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        const CHUNK: usize = 4096;
        let mut bytes = [0; CHUNK];
        self.segments.iter().all(|segment| {
            (0..segment.len).step_by(CHUNK).all(|at| {
                let part = &mut bytes[..CHUNK.min(segment.len - at)];
                segment.slice(at..at + part.len()).volatile().copy_to(part);
                part.iter().all(|byte| *byte == 0)
            })
        })
    }

    /// Whether every piece begins at a multiple of `memory` and is a multiple of `length` long; both are powers of two.
    #[must_use]
    pub fn is_aligned(&self, memory: usize, length: usize) -> bool {
        self.segments
            .iter()
            .all(|segment| segment.pointer().addr() & (memory - 1) == 0 && segment.len & (length - 1) == 0)
    }

    /// Reads from a file. What is beyond its end reads as zeroes. Waits for the disk.
    pub(super) fn read_from(&self, file: &File, offset: u64) -> Result<(), Errno> {
        let done = self.transfer(offset, |vectors, at| {
            let count = vectors.len() as libc::c_int;
            // SAFETY: each vector is a segment's memory, which `self` keeps alive and writable until the call returns.
            unsafe { libc::preadv64(file.as_raw_fd(), vectors.as_ptr(), count, at) }
        });
        let done = done?;
        self.slice(0..done).mark_all();
        self.slice(done..self.len).fill(0);
        Ok(())
    }

    /// Writes to a file. Waits for the disk.
    pub(super) fn write_to(&self, file: &File, offset: u64, flags: WriteFlags) -> Result<(), Errno> {
        if !flags.fua {
            return self.write_as(file, offset, 0);
        }
        match self.write_as(file, offset, libc::RWF_DSYNC) {
            // Neither every kernel nor every file system knows the flag.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.write_as(file, offset, 0)?;
                fdatasync(file)
            }
            result => result,
        }
    }

    fn write_as(&self, file: &File, offset: u64, how: libc::c_int) -> Result<(), Errno> {
        let done = self.transfer(offset, |vectors, at| {
            let count = vectors.len() as libc::c_int;
            // SAFETY: as in `read_from`; the kernel only reads.
            unsafe { libc::pwritev2(file.as_raw_fd(), vectors.as_ptr(), count, at, how) }
        })?;
        // A device or a file system that takes no more, and does not say why.
        if done == self.len { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Calls until all is done, or nothing more comes. Returns how much was done.
    fn transfer(
        &self,
        offset: u64,
        mut call: impl FnMut(&[libc::iovec], libc::off_t) -> libc::ssize_t,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < self.len {
            let rest = self.slice(done..self.len);
            let vectors: Vec<_> = rest.segments.iter().take(MAX_SEGMENTS).map(Segment::vector).collect();
            let at = offset.checked_add(done as u64).and_then(|at| i64::try_from(at).ok());
            match Errno::result(call(&vectors, at.ok_or(Errno::EINVAL)?)) {
                Ok(0) => break,
                // Never more than was asked for, and never negative here.
                Ok(count) => done += count.unsigned_abs(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn mark_all(&self) {
        self.segments.iter().for_each(|segment| segment.mark(segment.len));
    }
}

impl fmt::Debug for IoBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoBuffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
