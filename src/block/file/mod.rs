//! Images in files and on block devices of the host.

mod lock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, fdatasync, ftruncate, lseek64};

use super::{
    BlockDriver, BlockError, BlockFuture, Discards, Extent, IoBuffer, Limits, Pool, Use, WriteFlags, ZeroFlags,
};

/// Units that direct I/O may have, the smallest first. Every disk takes the last.
const UNITS: [NonZeroU32; 4] = [
    NonZeroU32::new(512).expect("not zero"),
    NonZeroU32::new(1024).expect("not zero"),
    NonZeroU32::new(2048).expect("not zero"),
    MOST,
];
const MOST: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// What a user says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// Its path, as it was given.
    pub filename: String,
    /// The page cache is passed by: the file was opened with `O_DIRECT`.
    pub direct: bool,
    /// Whether others are kept from using it; none for where that is possible.
    pub locking: Option<bool>,
}

/// The drivers `file` and `host_device`.
pub struct FileDriver {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    config: FileConfig,
    is_device: bool,
    /// What requests are multiples of.
    unit: NonZeroU32,
    /// What the locks say; none where there are no locks.
    locked: Option<Mutex<Use>>,
}

struct Shared {
    file: File,
    length: AtomicU64,
    discards: Mutex<Discards>,
}

impl FileDriver {
    /// The driver over an open file, whose descriptor is of the mode that the node needs. May wait for the disk.
    ///
    /// # Errors
    /// It is neither a file nor a block device, its length cannot be told, or it cannot be locked and shall be.
    pub fn new(file: File, config: FileConfig, pool: &Arc<Pool>) -> Result<Self, BlockError> {
        let metadata = file.metadata()?;
        let is_device = metadata.file_type().is_block_device();
        let length = match is_device {
            true => lseek64(file.as_fd(), 0, Whence::SeekEnd)?.unsigned_abs(),
            false if metadata.is_file() => metadata.len(),
            false => return Err(Errno::EINVAL.into()),
        };
        let can_lock = config.locking != Some(false) && lock::is_supported(&file);
        if config.locking == Some(true) && !can_lock {
            return Err(BlockError::Unsupported("Failed to lock byte 100".to_owned()));
        }
        Ok(Self {
            unit: if config.direct {
                direct_unit(&file)
            } else {
                NonZeroU32::MIN
            },
            locked: can_lock.then(|| Mutex::new(Use::NONE)),
            shared: Arc::new(Shared {
                file,
                length: AtomicU64::new(length),
                discards: Mutex::default(),
            }),
            pool: Arc::clone(pool),
            config,
            is_device,
        })
    }

    /// Whether it is a device, and not a file.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.is_device
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
        Limits {
            request_alignment: self.unit,
            memory_alignment: self.unit,
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
            let punched = fallocate(shared.file.as_fd(), how, signed(offset)?, signed(bytes)?);
            let mut discards = shared.discards.lock().unwrap_or_else(PoisonError::into_inner);
            match punched {
                Ok(()) => (discards.done, discards.bytes) = (discards.done + 1, discards.bytes + bytes),
                Err(_) => discards.failed += 1,
            }
            punched
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

    fn filename(&self) -> Option<String> {
        Some(self.config.filename.clone())
    }

    fn discards(&self) -> Option<Discards> {
        Some(*self.shared.discards.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_use(&self, to: Use) -> Result<(), BlockError> {
        let Some(locked) = &self.locked else { return Ok(()) };
        let mut locked = locked.lock().unwrap_or_else(PoisonError::into_inner);
        lock::change(&self.shared.file, *locked, to)?;
        *locked = to;
        Ok(())
    }

    fn allocated(&self) -> Option<u64> {
        let metadata = self.shared.file.metadata().ok()?;
        Some(metadata.blocks() * 512)
    }
}

/// The smallest unit in which a file opened for direct I/O can be read.
fn direct_unit(file: &File) -> NonZeroU32 {
    let can_read = |unit: &NonZeroU32| {
        let buffer = IoBuffer::zeroed(unit.get() as usize);
        buffer.read_from(file, 0).is_ok()
    };
    UNITS.into_iter().find(can_read).unwrap_or(MOST)
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
