//! Images for nodes where there is no worker process.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use crate::block::{OpenMode, Opener};
use crate::chardev::{ChardevRegistry, ImageMode};
use crate::qapi::Error;

/// Opens them in this process.
pub(super) struct OwnFiles(pub(super) ChardevRegistry);

impl Opener for OwnFiles {
    fn open(&self, path: &str, mode: OpenMode) -> Pin<Box<dyn Future<Output = Result<OwnedFd, Error>> + '_>> {
        let path = path.to_owned();
        let mode = ImageMode {
            write: mode.write,
            or_read: mode.or_read,
            direct: mode.direct,
        };
        Box::pin(async move { self.0.fds().open_image(&path, mode).await })
    }
}
