//! The image as a driver of a node.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::super::{BlockDriver, BlockFuture, Extent, IoBuffer, Limits, Node, WriteFlags, ZeroFlags};
use super::image::Qcow2;

impl BlockDriver for Qcow2 {
    fn name(&self) -> &'static str {
        "qcow2"
    }

    fn length(&self) -> u64 {
        self.size()
    }

    fn limits(&self) -> Limits {
        let cluster = NonZeroU32::new(self.geometry.cluster_size() as u32);
        Limits {
            zeroes_alignment: NonZeroU32::new(self.geometry.subcluster_size() as u32),
            discard_alignment: cluster,
            ..Limits::default()
        }
    }

    fn read(&self, offset: u64, into: IoBuffer) -> BlockFuture<'_, ()> {
        Box::pin(async move { self.read_guest(offset, &into).await })
    }

    fn write(&self, offset: u64, from: IoBuffer, flags: WriteFlags) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            self.begin_write(offset, from.len() as u64).await?;
            self.write_guest(offset, &from).await?;
            if flags.fua { self.flush_all().await } else { Ok(()) }
        })
    }

    fn write_zeroes(&self, offset: u64, bytes: u64, flags: ZeroFlags) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            self.begin_write(offset, bytes).await?;
            self.zero_guest(offset, bytes, flags.may_unmap).await?;
            if flags.fua { self.flush_all().await } else { Ok(()) }
        })
    }

    fn discard(&self, offset: u64, bytes: u64) -> BlockFuture<'_, ()> {
        Box::pin(async move {
            self.begin_write(offset, bytes).await?;
            self.discard_guest(offset, bytes).await
        })
    }

    fn flush(&self) -> BlockFuture<'_, ()> {
        Box::pin(self.flush_all())
    }

    fn status(&self, offset: u64, bytes: u64) -> BlockFuture<'_, Extent> {
        Box::pin(self.status_of(offset, bytes))
    }

    fn truncate(&self, length: u64) -> BlockFuture<'_, ()> {
        Box::pin(self.resize(length))
    }

    fn allocated(&self) -> Option<u64> {
        self.file.driver().allocated()
    }

    fn children(&self) -> Vec<(&'static str, Arc<Node>)> {
        let mut children = vec![("file", Arc::clone(&self.file))];
        if self.rules.data_file {
            children.push(("data-file", Arc::clone(&self.data)));
        }
        if let Some(backing) = &self.backing {
            children.push(("backing", Arc::clone(backing)));
        }
        children
    }

    fn close(&self) -> BlockFuture<'_, ()> {
        Box::pin(self.finish())
    }
}
