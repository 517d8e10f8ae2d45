//! A disk in memory, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::{BlockDriver, BlockError, BlockFuture, Extent, IoBuffer, Limits, Node, NodeConfig, WriteFlags, ZeroFlags};

/// A disk in memory, which grows when it is written to beyond its end.
#[derive(Default)]
pub(crate) struct MemoryDriver {
    bytes: Mutex<Vec<u8>>,
    /// What is never exceeded.
    pub(crate) capacity: Option<u64>,
    /// What requests it takes.
    pub(crate) limits: Limits,
}

impl MemoryDriver {
    /// A disk of these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Mutex::new(bytes),
            ..Self::default()
        }
    }

    /// A node over such a disk.
    pub(crate) fn node(name: &str, bytes: Vec<u8>) -> Arc<Node> {
        Node::new(name, Box::new(Self::new(bytes)), NodeConfig::default())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a range of which a part may lie beyond the end.
    fn part(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        &bytes[start..(start.saturating_add(len)).min(bytes.len())]
    }

    fn put(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        let end = offset + data.len() as u64;
        if self.capacity.is_some_and(|capacity| end > capacity) {
            return Err(Errno::ENOSPC.into());
        }
        let mut bytes = self.lock();
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        if bytes.len() < start + data.len() {
            bytes.resize(start + data.len(), 0);
        }
        bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl BlockDriver for MemoryDriver {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn length(&self) -> u64 {
        self.lock().len() as u64
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        let bytes = self.lock();
        let part = Self::part(&bytes, offset, into.len());
        into.copy_from(part);
        into.slice(part.len()..into.len()).fill(0);
        Box::pin(async { Ok(()) })
    }

    fn write(&self, offset: u64, from: IoBuffer, _flags: WriteFlags) -> BlockFuture<'_, ()> {
        let result = self.put(offset, &from.to_vec());
        Box::pin(async { result })
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, _flags: ZeroFlags) -> BlockFuture<'_, ()> {
        let result = usize::try_from(bytes)
            .map_err(|_| Errno::EFBIG.into())
            .and_then(|bytes| self.put(offset, &vec![0; bytes]));
        Box::pin(async { result })
    }

    fn discard(&self, _offset: u64, _bytes: u64) -> BlockFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        Box::pin(async move { Ok(Extent::stored(bytes, offset)) })
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        let result = match usize::try_from(length) {
            Ok(length) if self.capacity.is_none_or(|capacity| length as u64 <= capacity) => {
                self.lock().resize(length, 0);
                Ok(())
            }
            _ => Err(Errno::ENOSPC.into()),
        };
        Box::pin(async { result })
    }
}
