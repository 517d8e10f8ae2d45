//! A file, pipe or terminal of the host, read and written without blocking the monitor where the kind allows it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::SFlag;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::raw_fd;
use super::wire::set_nonblocking;

/// The most bytes one read takes.
const READ_SIZE: usize = 4096;

/// An open file of any kind.
#[derive(Debug)]
pub(super) enum HostFile {
    /// A pipe, terminal or other stream that the kernel can wait for.
    Stream(AsyncFd<OwnedFd>),
    /// A regular file: always ready, as far as the kernel is concerned.
    Regular(OwnedFd),
}

impl HostFile {
    /// Takes over an open file.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = nix::sys::stat::fstat(&fd)?.st_mode & SFlag::S_IFMT.bits();
        if kind == SFlag::S_IFREG.bits() {
            return Ok(Self::Regular(fd));
        }
        set_nonblocking(&fd)?;
        match raw_fd::watch(fd) {
            Ok(stream) => Ok(Self::Stream(stream)),
            // The answer for files that are always ready, such as `/dev/null`.
            Err((fd, error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(Self::Regular(fd)),
            Err((_, error)) => Err(error),
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
            Self::Regular(fd) => nix::unistd::read(fd, &mut bytes)?,
        };
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Writes all of `bytes`, waiting while the reader of a stream is slow.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Stream(stream) => {
                    stream
                        .async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, bytes)?))
                        .await?
                }
                Self::Regular(fd) => match nix::unistd::write(fd, bytes) {
                    Err(Errno::EINTR) => 0,
                    result => result?,
                },
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
            Self::Regular(fd) => fd.as_fd(),
        }
    }
}
