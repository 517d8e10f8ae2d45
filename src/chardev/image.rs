//! Disk images: opened here for a worker that may open nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::FdTable;
use crate::host::outside;
use crate::qapi::Error;
use crate::report::reason;

/// How an image is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageMode {
    /// It is written to.
    pub write: bool,
    /// If it cannot be written to, it is only read.
    pub or_read: bool,
    /// The host's cache is passed by.
    pub direct: bool,
}

impl FdTable {
    /// Opens an image, or finds the member of a set of descriptors that `path` names. A guest of a server does not get what
    /// the server has open.
    ///
    /// # Errors
    /// Names the image and says why it cannot be opened.
    pub async fn open_image(&self, path: &str, mode: ImageMode) -> Result<OwnedFd, Error> {
        let access = if mode.write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        let opened = match self.open_as(path, access, mode.direct).await {
            Err(error) if mode.write && mode.or_read && is_refusal(&error) => {
                self.open_as(path, OFlag::O_RDONLY, mode.direct).await
            }
            opened => opened,
        };
        opened.map_err(
            |error| match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::EINVAL if mode.direct => {
                    Error::generic(format!("Could not open '{path}': file system may not support O_DIRECT"))
                }
                _ => Error::generic(format!("Could not open '{path}': {}", reason(&error))),
            },
        )
    }

    async fn open_as(&self, path: &str, access: OFlag, direct: bool) -> io::Result<OwnedFd> {
        // A pipe, which is no image, has nobody wait for its other end.
        let mut flags = access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        flags.set(OFlag::O_DIRECT, direct);
        if path.starts_with(Self::SET_FOLDER) {
            return self.open_path(path, flags, Mode::empty());
        }
        let (path, shared) = (path.to_owned(), self.is_one_among_many());
        let opened = tokio::task::spawn_blocking(move || match shared {
            true => outside::open(Path::new(&path), flags, Mode::empty()),
            false => Ok(open(Path::new(&path), flags, Mode::empty())?),
        });
        opened.await.map_err(io::Error::other)?
    }
}

/// Whether a file is there and may only be read.
fn is_refusal(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
}
