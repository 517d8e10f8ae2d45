//! The image as a driver of a node.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::super::{
    BlockDriver, BlockFuture, Extent, ImageDetails, IoBuffer, Limits, Node, Permissions, Use, WriteFlags, ZeroFlags,
};
use super::image::Qcow2;

/// How an image uses its file, and the file with its data: nobody else changes those meanwhile.
#[must_use]
pub fn use_of_storage(read_only: bool) -> Use {
    let writes = Permissions::WRITE | Permissions::RESIZE;
    Use {
        takes: if read_only {
            Permissions::READ
        } else {
            Permissions::READ | writes
        },
        shares: !writes,
    }
}

/// How an image that is used like `own` uses what is behind it, which is only read.
fn use_of_backing(own: Use) -> Use {
    let kept = Permissions::READ | Permissions::WRITE_UNCHANGED;
    Use {
        takes: own.takes & Permissions::READ,
        shares: match own.shares.contains(Permissions::WRITE) {
            true => Permissions::ALL,
            false => kept,
        },
    }
}

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

    fn filename(&self) -> Option<String> {
        self.file.driver().filename().filter(|_| !self.is_described)
    }

    fn image(&self) -> ImageDetails {
        self.details()
    }

    fn use_of_child(&self, role: &str, own: Use) -> Use {
        match role {
            "backing" => use_of_backing(own),
            _ => use_of_storage(self.read_only),
        }
    }

    fn close(&self) -> BlockFuture<'_, ()> {
        Box::pin(self.finish())
    }
}
