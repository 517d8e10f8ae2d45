//! Images in files and on block devices of the host.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, fdatasync, ftruncate, lseek64};

use super::{BlockDriver, BlockError, BlockFuture, Extent, IoBuffer, Limits, Pool, WriteFlags, ZeroFlags};

/// Alignment that every disk's direct I/O takes.
const DIRECT: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// What a user says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// The page cache is passed by: the file was opened with `O_DIRECT`.
    pub direct: bool,
}

/// The drivers `file` and `host_device`.
pub struct FileDriver {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    config: FileConfig,
    is_device: bool,
}

struct Shared {
    file: File,
    length: AtomicU64,
}

impl FileDriver {
    /// The driver over an open file, whose descriptor is of the mode that the node needs.
    ///
    /// # Errors
    /// It is neither a file nor a block device, or its length cannot be told.
    pub fn new(file: File, config: FileConfig, pool: &Arc<Pool>) -> Result<Self, BlockError> {
        let metadata = file.metadata()?;
        let is_device = metadata.file_type().is_block_device();
        let length = match is_device {
            true => lseek64(file.as_fd(), 0, Whence::SeekEnd)?.unsigned_abs(),
            false if metadata.is_file() => metadata.len(),
            false => return Err(Errno::EINVAL.into()),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                file,
                length: AtomicU64::new(length),
            }),
            pool: Arc::clone(pool),
            config,
            is_device,
        })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Errno> + Send + 'static,
    ) -> BlockFuture<'_, T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(self.pool.run(move || work(&shared)))
    }

    /// What the kernel said of a way to do something that not every file has.
    fn or_unsupported(result: Result<(), BlockError>) -> Result<(), BlockError> {
        match result {
            Err(BlockError::Io(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV)) => {
                Err(BlockError::Unsupported("fallocate".to_owned()))
            }
            result => result,
        }
    }
}

impl BlockDriver for FileDriver {
    fn name(&self) -> &'static str {
        if self.is_device { "host_device" } else { "file" }
    }

    fn length(&self) -> u64 {
        self.shared.length.load(Ordering::Acquire)
    }

    fn limits(&self) -> Limits {
        let unit = if self.config.direct { DIRECT } else { NonZeroU32::MIN };
        Limits {
            request_alignment: unit,
            memory_alignment: unit,
            ..Limits::default()
        }
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        self.run(move |shared| into.read_from(&shared.file, offset))
    }

    fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> BlockFuture<'_, ()> {
        self.run(move |shared| {
            from.write_to(&shared.file, offset, flags)?;
            shared.length.fetch_max(offset + from.len() as u64, Ordering::AcqRel);
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> BlockFuture<'_, ()> {
        let zeroed = self.run(move |shared| {
            let how = match flags.may_unmap {
                true => FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                false => FallocateFlags::FALLOC_FL_ZERO_RANGE,
            };
            let end = offset + bytes;
            let grows = end > shared.length.load(Ordering::Acquire);
            if flags.may_unmap && grows {
                return Err(Errno::EOPNOTSUPP);
            }
            fallocate(shared.file.as_fd(), how, signed(offset)?, signed(bytes)?)?;
            shared.length.fetch_max(end, Ordering::AcqRel);
            if flags.fua { fdatasync(&shared.file) } else { Ok(()) }
        });
        Box::pin(async { Self::or_unsupported(zeroed.await) })
    }

    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()> {
        let punched = self.run(move |shared| {
            let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(shared.file.as_fd(), how, signed(offset)?, signed(bytes)?)
        });
        Box::pin(async {
            match Self::or_unsupported(punched.await) {
                Err(BlockError::Unsupported(_)) => Ok(()),
                result => result,
            }
        })
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        self.run(|shared| fdatasync(&shared.file))
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        let is_device = self.is_device;
        self.run(move |shared| {
            if is_device {
                return Ok(Extent::stored(bytes, offset));
            }
            let data = seek(&shared.file, offset, Whence::SeekData)?;
            match data {
                None => Ok(Extent::zeroes(bytes)),
                Some(data) if data > offset => Ok(Extent::zeroes(bytes.min(data - offset))),
                Some(_) => {
                    let hole = seek(&shared.file, offset, Whence::SeekHole)?.unwrap_or(u64::MAX);
                    Ok(Extent::stored(bytes.min(hole.saturating_sub(offset).max(1)), offset))
                }
            }
        })
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        if self.is_device {
            let result = match length <= self.length() {
                true => Ok(()),
                false => Err(BlockError::Invalid("Cannot grow device files".to_owned())),
            };
            return Box::pin(async { result });
        }
        self.run(move |shared| {
            ftruncate(&shared.file, signed(length)?)?;
            shared.length.store(length, Ordering::Release);
            Ok(())
        })
    }

    fn allocated(&self) -> Option<u64> {
        let metadata = self.shared.file.metadata().ok()?;
        Some(metadata.blocks() * 512)
    }
}

/// Where data, or a hole, begin at `offset` or later. A file system that cannot tell says that all is data.
fn seek(file: &File, offset: u64, what: Whence) -> Result<Option<u64>, Errno> {
    let is_data = matches!(what, Whence::SeekData);
    match lseek64(file.as_fd(), signed(offset)?, what) {
        Ok(found) => Ok(Some(found.unsigned_abs())),
        // There is none up to the end of the file.
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL) if is_data => Ok(Some(offset)),
        Err(Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn signed(value: u64) -> Result<i64, Errno> {
    i64::try_from(value).map_err(|_| Errno::EFBIG)
}
