//! A file, pipe or terminal of the host, opened, read and written without blocking the monitor.
//!
//! What the kernel can wait for is waited for. Opening a path, and a regular file, whose disk may be slow or far away, are
//! left to threads that may block.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire::set_nonblocking;
use super::{FdTable, raw_fd};
use crate::host::outside;

/// The most bytes one read takes.
const READ_SIZE: usize = 4096;
/// How often it is asked whether somebody reads a named pipe.
const INTERVAL: Duration = Duration::from_millis(10);

/// An open file of any kind.
#[derive(Debug)]
pub(super) enum HostFile {
    /// A pipe, terminal or other stream that the kernel can wait for.
    Stream(AsyncFd<OwnedFd>),
    /// A regular file: always ready, as far as the kernel is concerned, and blocking all the same.
    Regular(Arc<File>),
    /// A device that is always ready, such as `/dev/null`.
    Ready(OwnedFd),
}

impl HostFile {
    /// Takes over an open file.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = nix::sys::stat::fstat(&fd)?.st_mode & SFlag::S_IFMT.bits();
        if kind == SFlag::S_IFREG.bits() {
            return Ok(Self::Regular(Arc::new(fd.into())));
        }
        set_nonblocking(&fd)?;
        match raw_fd::watch(fd) {
            Ok(stream) => Ok(Self::Stream(stream)),
            // The answer for files that are always ready.
            Err((fd, error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(Self::Ready(fd)),
            Err((_, error)) => Err(error),
        }
    }

    /// Opens `path`, or the member of a set of descriptors that it names. A named pipe opened for writing waits for its
    /// reader; one opened for reading never ends. A guest of a server does not get what the server has open.
    ///
    /// # Errors
    /// What the system said, or that the file is the server's.
    pub(super) async fn open(fds: &FdTable, path: &str, flags: OFlag) -> io::Result<Self> {
        let mode = Mode::from_bits_truncate(0o666);
        if path.starts_with(FdTable::SET_FOLDER) {
            return Self::new(fds.open_path(path, flags, mode)?);
        }
        let shared = fds.is_one_among_many();
        loop {
            let name = path.to_owned();
            let opened = blocking(move || open_now(&name, flags, mode, shared)).await;
            match opened {
                Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) && lacks_reader(path, flags).await => {
                    tokio::time::sleep(INTERVAL).await;
                }
                opened => return Self::new(opened?),
            }
        }
    }

    /// What comes next; nothing at the end of the file.
    pub(super) async fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; READ_SIZE];
        let count = match self {
            Self::Stream(stream) => {
                stream
                    .async_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut bytes)?))
                    .await?
            }
            Self::Regular(file) => {
                let file = Arc::clone(file);
                return blocking(move || {
                    let count = (&*file).read(&mut bytes)?;
                    bytes.truncate(count);
                    Ok(bytes)
                })
                .await;
            }
            Self::Ready(fd) => nix::unistd::read(fd, &mut bytes)?,
        };
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Writes all of `bytes`, waiting while the reader of a stream is slow.
    ///
    /// # Errors
    /// What the system said: some of the bytes may have been written.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        if let Self::Regular(file) = self {
            let (file, bytes) = (Arc::clone(file), bytes.to_vec());
            return blocking(move || (&*file).write_all(&bytes)).await;
        }
        while !bytes.is_empty() {
            let written = match self {
                Self::Stream(stream) => {
                    let write = |fd: &OwnedFd| Ok(nix::unistd::write(fd, bytes)?);
                    stream.async_io(Interest::WRITABLE, write).await?
                }
                _ => nix::unistd::write(self, bytes)?,
            };
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => stream.get_ref().as_fd(),
            Self::Regular(file) => file.as_fd(),
            Self::Ready(fd) => fd.as_fd(),
        }
    }
}

/// Opens without waiting for the other end of a pipe; `shared` is whether the process has other guests too.
fn open_now(path: &str, flags: OFlag, mode: Mode, shared: bool) -> io::Result<OwnedFd> {
    let reads = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
    // Opened for both directions, a pipe does not end when its writers have gone.
    let flags = match reads && is_pipe(path) {
        true => flags | OFlag::O_RDWR,
        false => flags,
    };
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match shared {
        true => outside::open(Path::new(path), flags, mode),
        false => Ok(open(Path::new(path), flags, mode)?),
    }
}

/// Whether `path` is a named pipe that nobody reads, and so could not be opened with `flags`.
async fn lacks_reader(path: &str, flags: OFlag) -> bool {
    let path = path.to_owned();
    let pipe = blocking(move || Ok(is_pipe(&path))).await;
    flags & OFlag::O_ACCMODE == OFlag::O_WRONLY && pipe.unwrap_or(false)
}

fn is_pipe(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Does `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
