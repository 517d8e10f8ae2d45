//! What a driver does for its node.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;

use super::qcow2::{Qcow2Details, Snapshot};
use super::{BlockError, IoBuffer, Node, Use};

/// A request that is under way. Who drops it learns no result; it may still come to pass.
pub type BlockFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BlockError>> + Send + 'a>>;

/// How a write is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// It has reached the disk, and not only a cache, when it ends.
    pub fua: bool,
}

/// How zeroes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroFlags {
    /// The room they take may be given back.
    pub may_unmap: bool,
    /// As [`WriteFlags::fua`].
    pub fua: bool,
}

/// What a driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Offsets and lengths of reads and writes are multiples of this, a power of two; 1 is any. The node sees to that.
    pub request_alignment: NonZeroU32,
    /// Memory begins at multiples of this, a power of two. The node sees to that.
    pub memory_alignment: NonZeroU32,
    /// Most bytes of a read or write. The node sees to that.
    pub max_transfer: Option<NonZeroU32>,
    /// Zeroes are cheap in multiples of this (qcow2: a cluster).
    pub zeroes_alignment: Option<NonZeroU32>,
    /// Only multiples of this are discarded.
    pub discard_alignment: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_alignment: NonZeroU32::MIN,
            memory_alignment: NonZeroU32::MIN,
            max_transfer: None,
            zeroes_alignment: None,
            discard_alignment: None,
        }
    }
}

/// A run of bytes that are all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many; never 0 within the node, and no more than was asked about.
    pub bytes: u64,
    /// They are stored, and what is stored is to be read.
    pub data: bool,
    /// They read as zeroes.
    pub zero: bool,
    /// They are this node's own, and not those of a backing node.
    pub allocated: bool,
    /// Where they are in the child that stores them; of a driver over the host, in the file. None if compressed or not stored.
    pub offset: Option<u64>,
}

impl Extent {
    /// Bytes that are stored, uncompressed, from `offset` on.
    #[must_use]
    pub fn stored(bytes: u64, offset: u64) -> Self {
        Self {
            bytes,
            data: true,
            zero: false,
            allocated: true,
            offset: Some(offset),
        }
    }

    /// Zeroes that take no room.
    #[must_use]
    pub fn zeroes(bytes: u64) -> Self {
        Self {
            bytes,
            data: false,
            zero: true,
            allocated: true,
            offset: None,
        }
    }
}

/// What an image tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDetails {
    /// It was not closed in good order.
    pub is_dirty: bool,
    /// Bytes it is stored in.
    pub cluster_size: Option<u64>,
    /// The file behind it, as it names it.
    pub backing_file: Option<String>,
    /// The format of that.
    pub backing_format: Option<String>,
    /// Snapshots in it.
    pub snapshots: Vec<Snapshot>,
    /// What only images of qcow2 tell.
    pub qcow2: Option<Qcow2Details>,
}

/// Discards that a driver has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards {
    /// Those that were done.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Bytes of those that were done.
    pub bytes: u64,
}

/// The inner part of a node: a format over other nodes, or a protocol over something of the host.
///
/// Any number of requests may be under way at once, on any threads. The caller sees to it that offsets and lengths do not
/// overflow, that read-only drivers are not asked to write, and that [`Limits`] are kept. Reads beyond the end give zeroes.
/// Writes beyond it grow what can grow (`file` does; a format does not: it fails with [`BlockError::OutOfRange`]).
pub trait BlockDriver: Send + Sync {
    /// Its name in QMP: `file`, `raw`, `qcow2`.
    fn name(&self) -> &'static str;
    /// Bytes of the node now.
    fn length(&self) -> u64;
    /// What it takes.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// Fills the buffer with what is at `offset`.
    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()>;
    /// Writes the buffer to `offset`.
    fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> BlockFuture<'_, ()>;
    /// Makes bytes read as zeroes. [`BlockError::Unsupported`] where that is no cheaper than to write them: the node writes
    /// them then.
    fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> BlockFuture<'_, ()>;
    /// Nobody needs these bytes any more. What cannot be given back is kept, which is no error.
    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()>;
    /// What was written before this was asked for has reached the disk when it ends.
    fn flush(&self) -> BlockFuture<'_, ()>;
    /// What is at `offset`: a run of at most `bytes` (not 0).
    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent>;
    /// Makes the node that long. What is added reads as zeroes.
    fn truncate(&self, length: u64) -> BlockFuture<'_, ()>;
    /// Bytes that it takes on the host; none if nobody can tell.
    fn allocated(&self) -> Option<u64> {
        None
    }
    /// The nodes it is made of, by their roles: `file`, `backing`, `data-file`.
    fn children(&self) -> Vec<(&'static str, Arc<Node>)> {
        Vec::new()
    }
    /// The name that images of it have by themselves, such as a path; none if only a description does.
    fn filename(&self) -> Option<String> {
        None
    }
    /// What its image tells of itself.
    fn image(&self) -> ImageDetails {
        ImageDetails::default()
    }
    /// How it uses its child of this role when it is used like `own` itself.
    fn use_of_child(&self, role: &str, own: Use) -> Use {
        let _ = role;
        own
    }
    /// It is used like `to` from now on. After an error nothing has changed.
    ///
    /// # Errors
    /// Somebody else uses what it is made of in a way that does not go together with that.
    fn set_use(&self, to: Use) -> Result<(), BlockError> {
        let _ = to;
        Ok(())
    }
    /// Discards so far.
    fn discards(&self) -> Option<Discards> {
        None
    }
    /// Brings to the disk what it still holds, for the last time: no request follows, none is under way.
    fn close(&self) -> BlockFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
