//! Where random bytes come from.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::libc::O_NONBLOCK;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::io::{Handle, Readable, run_blocking};

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

    /// A reader for what runs on this loop.
    pub(super) fn reader(&self, on: &Handle) -> io::Result<Reader> {
        let Self::File(file) = self else {
            return Ok(Reader {
                on: on.clone(),
                from: From::Builtin,
            });
        };
        // A loop watches a descriptor once; devices that share a source each have one.
        let own = Arc::new(file.try_clone()?);
        let kind = own.metadata()?.file_type();
        let from = if kind.is_file() || kind.is_block_device() {
            From::Stored(own)
        } else {
            match on.readable(Arc::clone(&own) as _) {
                Ok(readable) => From::Watched(own, readable),
                // What epoll says of files that never wait.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => From::Ready(own),
                Err(error) => return Err(error),
            }
        };
        Ok(Reader { on: on.clone(), from })
    }
}

/// Reads from a source.
pub(super) struct Reader {
    on: Handle,
    from: From,
}

enum From {
    Builtin,
    Ready(Arc<File>),
    Watched(Arc<File>, Readable),
    /// On a disk, which may be slow.
    Stored(Arc<File>),
}

impl Reader {
    /// Up to `len` bytes, at least one, once there are some.
    pub(super) async fn read(&mut self, len: usize) -> io::Result<Vec<u8>> {
        loop {
            let read = match &self.from {
                From::Builtin => builtin(len),
                From::Ready(file) | From::Watched(file, _) => read(file, len),
                From::Stored(file) => {
                    let file = Arc::clone(file);
                    let handed_off = run_blocking(move || read(&file, len)).await;
                    handed_off.unwrap_or_else(|error| Err(io::Error::other(error.desc)))
                }
            };
            match (read, &self.from) {
                (Err(error), From::Watched(_, readable)) if error.kind() == ErrorKind::WouldBlock => {
                    readable.wait().await?
                }
                (Ok(bytes), _) if bytes.is_empty() && len != 0 => self.on.sleep(PATIENCE).await,
                (Err(error), _) if error.kind() == ErrorKind::WouldBlock => self.on.sleep(PATIENCE).await,
                (Err(error), _) if error.kind() == ErrorKind::Interrupted => {}
                (result, _) => return result,
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
