//! Where random bytes come from.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::libc::O_NONBLOCK;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::io::{FileWatch, watch_file};

/// How long to wait at the end of a file that may grow, or of a pipe that nobody writes to.
const PATIENCE: Duration = Duration::from_secs(1);

/// A source of random bytes. Any number of devices may share one.
#[derive(Clone, Debug)]
pub enum EntropySource {
    /// The host's own generator.
    Builtin,
    /// A file, device or pipe.
    File(Arc<File>),
}

impl EntropySource {
    /// Opens a file, device or pipe. Never waits for a writer.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        Ok(Self::File(Arc::new(file)))
    }

    /// A reader for the loop that this is called on.
    pub(super) fn reader(&self) -> io::Result<Reader> {
        let Self::File(file) = self else {
            return Ok(Reader::Builtin);
        };
        // A loop watches a descriptor once; devices that share a source each have one.
        let own = file.try_clone()?;
        let kind = own.metadata()?.file_type();
        if kind.is_file() || kind.is_block_device() {
            return Ok(Reader::Stored(Arc::new(own)));
        }
        Ok(match watch_file(own)? {
            FileWatch::Watched(watched) => Reader::Watched(watched),
            FileWatch::Ready(file) => Reader::Ready(file),
        })
    }
}

/// Reads from a source.
pub(super) enum Reader {
    Builtin,
    Ready(File),
    Watched(AsyncFd<File>),
    /// On a disk, which may be slow.
    Stored(Arc<File>),
}

impl Reader {
    /// Up to `len` bytes, at least one, once there are some.
    pub(super) async fn read(&mut self, len: usize) -> io::Result<Vec<u8>> {
        loop {
            let read = match self {
                Self::Builtin => builtin(len),
                Self::Ready(file) => read(file, len),
                Self::Stored(file) => {
                    let file = Arc::clone(file);
                    let handed_off = tokio::task::spawn_blocking(move || read(&file, len));
                    handed_off.await.unwrap_or_else(|error| Err(io::Error::other(error)))
                }
                Self::Watched(file) => file.async_io(Interest::READABLE, |file| read(file, len)).await,
            };
            match read {
                Ok(bytes) if bytes.is_empty() && len != 0 => tokio::time::sleep(PATIENCE).await,
                Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(PATIENCE).await,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn builtin(len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    bytes.truncate(count);
    Ok(bytes)
}

fn read(mut file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let count = file.read(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
