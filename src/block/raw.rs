//! The driver `raw`: another node as it is, or a part of it.

use std::sync::Arc;

use super::{
    BlockDriver, BlockError, BlockFuture, Extent, IoBuffer, Limits, Node, Permissions, Use, WriteFlags, ZeroFlags,
};

/// The driver.
pub struct RawDriver {
    file: Arc<Node>,
    offset: u64,
    size: Option<u64>,
}

impl RawDriver {
    /// `file` from `offset` on, `size` bytes of it or all.
    ///
    /// # Errors
    /// The part does not lie within the node.
    pub fn new(file: &Arc<Node>, offset: u64, size: Option<u64>) -> Result<Self, BlockError> {
        let length = file.length();
        if offset > length {
            return Err(BlockError::Invalid(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({length})"
            )));
        }
        if let Some(size) = size.filter(|size| *size > length - offset) {
            return Err(BlockError::Invalid(format!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the  actual size of the \
                 containing file ({length})"
            )));
        }
        Ok(Self {
            file: Arc::clone(file),
            offset,
            size,
        })
    }

    /// Whether it is a part, and not all.
    fn is_part(&self) -> bool {
        self.offset != 0 || self.size.is_some()
    }

    /// Where in the file a request goes.
    fn place(&self, offset: u64, bytes: u64) -> Result<u64, BlockError> {
        let end = offset.checked_add(bytes);
        let out_of_range = || BlockError::OutOfRange {
            offset,
            bytes,
            length: self.length(),
        };
        if self.is_part() && end.is_none_or(|end| end > self.length()) {
            return Err(out_of_range());
        }
        offset.checked_add(self.offset).ok_or_else(out_of_range)
    }
}

impl BlockDriver for RawDriver {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn length(&self) -> u64 {
        let rest = self.file.length().saturating_sub(self.offset);
        self.size.map_or(rest, |size| size.min(rest))
    }

    fn limits(&self) -> Limits {
        self.file.limits()
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            let inside = self.length().saturating_sub(offset);
            let len = usize::try_from(inside).unwrap_or(usize::MAX).min(into.len());
            if self.is_part() && len < into.len() {
                into.slice(len..into.len()).fill(0);
                return self
                    .file
                    .read(self.place(offset, len as u64)?, into.slice(0..len))
                    .await;
            }
            self.file.read(self.offset + offset, into).await
        })
    }

    fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            let place = self.place(offset, from.len() as u64)?;
            self.file.write(place, from, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> BlockFuture<'_, ()> {
        Box::pin(async move { self.file.write_zeroes(self.place(offset, bytes)?, bytes, flags).await })
    }

    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()> {
        Box::pin(async move { self.file.discard(self.place(offset, bytes)?, bytes).await })
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        Box::pin(self.file.flush())
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        Box::pin(async move {
            let place = self.place(offset, bytes)?;
            let extent = self.file.status(place, bytes).await?;
            Ok(Extent {
                offset: extent.data.then_some(place),
                ..extent
            })
        })
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            if self.size.is_some() {
                return Err(BlockError::Unsupported("Cannot resize fixed-size raw disks".to_owned()));
            }
            let length = length.checked_add(self.offset);
            self.file.truncate(length.ok_or(nix::errno::Errno::EFBIG)?).await
        })
    }

    fn allocated(&self) -> Option<u64> {
        self.file.driver().allocated()
    }

    fn filename(&self) -> Option<String> {
        if self.is_part() {
            None
        } else {
            self.file.driver().filename()
        }
    }

    fn children(&self) -> Vec<(&'static str, Arc<Node>)> {
        vec![("file", Arc::clone(&self.file))]
    }

    fn use_of_child(&self, _role: &str, own: Use) -> Use {
        match self.is_part() {
            // Nobody makes the file shorter than the part.
            true => Use {
                shares: own.shares & !Permissions::RESIZE,
                ..own
            },
            false => own,
        }
    }
}
