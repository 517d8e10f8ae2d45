//! A node of the graph: a driver with a name, and what holds for every driver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, RwLock};

use super::{BlockDriver, BlockError, Extent, IoBuffer, Limits, WriteFlags, ZeroFlags};

/// Zeroes that are written as data go in pieces of this.
const ZEROES: u64 = 1 << 20;

/// What a node does with zeroes that are written as data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// Writes them as data.
    #[default]
    Off,
    /// Writes them as zeroes.
    On,
    /// Writes them as zeroes whose room may be given back.
    Unmap,
}

/// What a user may say of any node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Nobody writes to it.
    pub read_only: bool,
    /// Discarded bytes are given back (`discard=unmap`).
    pub unmap: bool,
    /// Flushes do nothing (`cache.no-flush`).
    pub no_flush: bool,
    /// See there.
    pub detect_zeroes: DetectZeroes,
}

/// A node. Requests to it have any offset and length.
pub struct Node {
    name: String,
    driver: Box<dyn BlockDriver>,
    config: NodeConfig,
    limits: Limits,
    in_flight: AtomicUsize,
    idle: Notify,
    /// Held for writing by who reads a block to change a part of it, for reading by everybody else who writes.
    blocks: RwLock<()>,
    highest: AtomicU64,
}

/// A request that is under way.
struct InFlight<'a>(&'a Node);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Node {
    /// A node that requests can be made to.
    #[must_use]
    pub fn new(name: impl Into<String>, driver: Box<dyn BlockDriver>, config: NodeConfig) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            limits: driver.limits(),
            driver,
            config,
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            blocks: RwLock::default(),
            highest: AtomicU64::new(0),
        })
    }

    /// Its name, unique in a graph.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its driver.
    #[must_use]
    pub fn driver(&self) -> &dyn BlockDriver {
        &*self.driver
    }

    /// What was said of it.
    #[must_use]
    pub fn config(&self) -> NodeConfig {
        self.config
    }

    /// Bytes now.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.driver.length()
    }

    /// What its driver takes without the node's help.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The byte behind the last that was ever written.
    #[must_use]
    pub fn highest_written(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Waits until no request is under way.
    pub async fn drain(&self) {
        loop {
            let idle = self.idle.notified();
            let mut idle = std::pin::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Fills the buffer. What is beyond the end reads as zeroes.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn read(&self, offset: u64, into: IoBuffer) -> Result<(), BlockError> {
        let _under_way = self.begin(offset, into.len() as u64)?;
        self.read_any(offset, into).await
    }

    /// Writes the buffer.
    ///
    /// # Errors
    /// The node is read-only, or what the driver said.
    pub async fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> Result<(), BlockError> {
        let _under_way = self.begin_write(offset, from.len() as u64)?;
        let zeroes = match self.config.detect_zeroes {
            DetectZeroes::Off => None,
            DetectZeroes::On => Some(false),
            DetectZeroes::Unmap => Some(self.config.unmap),
        };
        match zeroes {
            Some(may_unmap) if from.is_zero() => {
                let flags = ZeroFlags {
                    may_unmap,
                    fua: flags.fua,
                };
                self.zero_any(offset, from.len() as u64, flags).await?;
            }
            _ => self.write_any(offset, from, flags).await?,
        }
        Ok(())
    }

    /// Makes bytes read as zeroes.
    ///
    /// # Errors
    /// As those of [`Node::write`].
    pub async fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> Result<(), BlockError> {
        let _under_way = self.begin_write(offset, bytes)?;
        let may_unmap = flags.may_unmap && self.config.unmap;
        self.zero_any(offset, bytes, ZeroFlags { may_unmap, ..flags }).await
    }

    /// Gives bytes back, if the user wants that.
    ///
    /// # Errors
    /// As those of [`Node::write`].
    pub async fn discard(&self, offset: u64, bytes: u64) -> Result<(), BlockError> {
        let _under_way = self.begin_write(offset, bytes)?;
        if !self.config.unmap {
            return Ok(());
        }
        let unit = self.limits.discard_alignment.map_or(1, |unit| u64::from(unit.get()));
        let (start, end) = (offset.next_multiple_of(unit), (offset + bytes) / unit * unit);
        match start < end {
            true => self.driver.discard(start, end - start).await,
            false => Ok(()),
        }
    }

    /// Brings to the disk what was written before.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn flush(&self) -> Result<(), BlockError> {
        let _under_way = self.begin(0, 0)?;
        if self.config.no_flush || self.config.read_only {
            return Ok(());
        }
        self.driver.flush().await
    }

    /// What is at `offset`: a run of at most `bytes` (not 0).
    ///
    /// # Errors
    /// What the driver said.
    pub async fn status(&self, offset: u64, bytes: u64) -> Result<Extent, BlockError> {
        let _under_way = self.begin(offset, bytes)?;
        self.driver.status(offset, bytes).await
    }

    /// Makes it longer or shorter.
    ///
    /// # Errors
    /// The node is read-only, or what the driver said.
    pub async fn truncate(&self, length: u64) -> Result<(), BlockError> {
        let _under_way = self.begin_write(length, 0)?;
        self.driver.truncate(length).await
    }

    fn begin(&self, offset: u64, bytes: u64) -> Result<InFlight<'_>, BlockError> {
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= i64::MAX as u64);
        if !fits {
            return Err(BlockError::OutOfRange {
                offset,
                bytes,
                length: self.length(),
            });
        }
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(InFlight(self))
    }

    fn begin_write(&self, offset: u64, bytes: u64) -> Result<InFlight<'_>, BlockError> {
        if self.config.read_only {
            return Err(BlockError::ReadOnly);
        }
        let under_way = self.begin(offset, bytes)?;
        if bytes != 0 {
            self.highest.fetch_max(offset + bytes, Ordering::Relaxed);
        }
        Ok(under_way)
    }

    fn unit(&self) -> u64 {
        u64::from(self.limits.request_alignment.get())
    }

    /// Whether the driver takes this as it is.
    fn is_aligned(&self, offset: u64, buffer: &IoBuffer) -> bool {
        let unit = self.unit();
        let memory = self.limits.memory_alignment.get() as usize;
        offset % unit == 0
            && buffer.len() as u64 % unit == 0
            && (memory == 1 || buffer.is_aligned(memory, unit as usize))
    }

    /// Bytes of a request to the driver at most, a multiple of its unit.
    fn at_once(&self) -> usize {
        let unit = self.unit();
        let most = self.limits.max_transfer.map_or(u64::MAX, |most| u64::from(most.get()));
        usize::try_from((most / unit).max(1).saturating_mul(unit)).unwrap_or(usize::MAX)
    }

    async fn read_any(&self, offset: u64, into: IoBuffer) -> Result<(), BlockError> {
        if !self.is_aligned(offset, &into) {
            let unit = self.unit();
            let start = offset / unit * unit;
            let (head, len) = (offset - start, into.len() as u64);
            let whole = IoBuffer::zeroed(bytes_of((head + len).next_multiple_of(unit))?);
            self.read_pieces(start, &whole).await?;
            let head = bytes_of(head)?;
            into.copy_from_buffer(&whole.slice(head..head + into.len()));
            return Ok(());
        }
        self.read_pieces(offset, &into).await
    }

    async fn read_pieces(&self, offset: u64, into: &IoBuffer) -> Result<(), BlockError> {
        let step = self.at_once();
        if into.len() <= step {
            return self.driver.read(offset, into.clone()).await;
        }
        for at in (0..into.len()).step_by(step) {
            let piece = into.slice(at..at.saturating_add(step));
            self.driver.read(offset + at as u64, piece).await?;
        }
        Ok(())
    }

    async fn write_any(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> Result<(), BlockError> {
        let unit = self.unit();
        if self.is_aligned(offset, &from) {
            let _beside_others = self.beside_others().await;
            return self.write_pieces(offset, &from, flags).await;
        }
        let start = offset / unit * unit;
        let (head, len) = (offset - start, from.len() as u64);
        let whole = IoBuffer::zeroed(bytes_of((head + len).next_multiple_of(unit))?);
        let head = bytes_of(head)?;
        let target = whole.slice(head..head + from.len());
        if whole.len() == from.len() {
            // Only the memory is in the wrong place.
            target.copy_from_buffer(&from);
            let _beside_others = self.beside_others().await;
            return self.write_pieces(start, &whole, flags).await;
        }
        let _alone = self.blocks.write().await;
        self.read_edges(start, &whole, bytes_of(unit)?).await?;
        target.copy_from_buffer(&from);
        self.write_pieces(start, &whole, flags).await
    }

    /// Reads the first and the last block of what is to be changed.
    async fn read_edges(&self, start: u64, whole: &IoBuffer, unit: usize) -> Result<(), BlockError> {
        self.driver.read(start, whole.slice(0..unit)).await?;
        let last = whole.len() - unit;
        if last != 0 {
            let piece = whole.slice(last..whole.len());
            self.driver.read(start + last as u64, piece).await?;
        }
        Ok(())
    }

    /// Where every driver's write is of whole blocks, nobody changes a part of one.
    async fn beside_others(&self) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
        match self.unit() {
            1 => None,
            _ => Some(self.blocks.read().await),
        }
    }

    async fn write_pieces(&self, offset: u64, from: &IoBuffer, flags: WriteFlags) -> Result<(), BlockError> {
        let step = self.at_once();
        if from.len() <= step {
            return self.driver.write(offset, from.clone(), flags).await;
        }
        for at in (0..from.len()).step_by(step) {
            let piece = from.slice(at..at.saturating_add(step));
            self.driver.write(offset + at as u64, piece, flags).await?;
        }
        Ok(())
    }

    async fn zero_any(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> Result<(), BlockError> {
        let zeroed = {
            let _beside_others = self.beside_others().await;
            self.driver.write_zeroes(offset, bytes, flags).await
        };
        if !matches!(zeroed, Err(BlockError::Unsupported(_))) {
            return zeroed;
        }
        let zeroes = IoBuffer::zeroed(bytes_of(bytes.min(ZEROES))?);
        let mut at = 0;
        while at < bytes {
            let piece = zeroes.slice(0..bytes_of(bytes - at)?.min(zeroes.len()));
            let len = piece.len() as u64;
            self.write_any(offset + at, piece, WriteFlags { fua: flags.fua })
                .await?;
            at += len;
        }
        Ok(())
    }
}

fn bytes_of(bytes: u64) -> Result<usize, BlockError> {
    usize::try_from(bytes).map_err(|_| BlockError::Io(nix::errno::Errno::EFBIG))
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("driver", &self.driver.name())
            .finish_non_exhaustive()
    }
}
