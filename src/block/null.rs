//! The driver `null-co`: a disk that keeps nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{BlockDriver, BlockFuture, Extent, IoBuffer, Pool, WriteFlags, ZeroFlags};

/// Bytes it has unless somebody says otherwise.
pub(super) const DEFAULT_SIZE: u64 = 1 << 30;

/// The driver.
pub struct NullDriver {
    /// Bytes it shows.
    size: AtomicU64,
    latency: Duration,
    read_zeroes: bool,
    pool: Arc<Pool>,
}

impl NullDriver {
    /// A disk of `size` bytes whose requests take `latency`. What is read is zeroes if `read_zeroes`, else nothing is.
    #[must_use]
    pub fn new(size: u64, latency: Duration, read_zeroes: bool, pool: &Arc<Pool>) -> Self {
        Self {
            size: AtomicU64::new(size),
            latency,
            read_zeroes,
            pool: Arc::clone(pool),
        }
    }

    fn done<T: Send + 'static>(&self, value: T) -> BlockFuture<'_, T> {
        let latency = self.latency;
        if latency.is_zero() {
            return Box::pin(async { Ok(value) });
        }
        Box::pin(self.pool.run(move || {
            std::thread::sleep(latency);
            Ok(value)
        }))
    }
}

impl BlockDriver for NullDriver {
    fn name(&self) -> &'static str {
        "null-co"
    }

    fn length(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read(&self, _offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        if self.read_zeroes {
            into.fill(0);
        }
        self.done(())
    }

    fn write(&self, _offset: u64, _from: IoBuffer, _flags: WriteFlags) -> BlockFuture<'_, ()> {
        self.done(())
    }

    fn write_zeroes(&self, _offset: u64, _bytes: u64, _flags: ZeroFlags) -> BlockFuture<'_, ()> {
        self.done(())
    }

    fn discard(&self, _offset: u64, _bytes: u64) -> BlockFuture<'_, ()> {
        self.done(())
    }

    /// There is nothing to wait for, whatever requests take: a node could not be removed that is given years.
    fn flush(&self) -> BlockFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        let extent = Extent {
            zero: self.read_zeroes,
            ..Extent::stored(bytes, offset)
        };
        Box::pin(async move { Ok(extent) })
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        self.size.store(length, Ordering::Release);
        self.done(())
    }

    fn filename(&self) -> Option<String> {
        Some("null-co://".to_owned())
    }
}
