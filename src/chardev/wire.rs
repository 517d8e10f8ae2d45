//! A connected stream socket without blocking, with the descriptors that come along.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::port::Chunk;
use super::raw_fd;
use crate::ipc::socket;

/// The most bytes one read takes.
const READ_SIZE: usize = 4 * 1024;

/// A connected stream socket.
#[derive(Debug)]
pub(super) struct SocketStream {
    fd: AsyncFd<OwnedFd>,
}

impl SocketStream {
    /// Takes over a connected socket.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        Ok(Self {
            fd: raw_fd::watch_or_close(fd)?,
        })
    }

    /// What comes next. A chunk without bytes is the end of the stream.
    ///
    /// A descriptor belongs to a byte of the chunk it comes in; the kernel does not say which.
    pub(super) async fn recv(&self) -> io::Result<Chunk> {
        self.fd.async_io(Interest::READABLE, receive).await
    }

    /// Sends all of `bytes`, waiting while the peer does not read.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self
                .fd
                .async_io(Interest::WRITABLE, |fd| {
                    Ok(send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
                })
                .await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

/// Makes reads and writes of the open file behind `fd` return rather than wait.
pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn receive(fd: &OwnedFd) -> io::Result<Chunk> {
    let (mut bytes, mut fds) = (vec![0; READ_SIZE], Vec::new());
    let received = socket::receive(fd, &mut bytes, &mut fds)?;
    if received.lost_fds {
        tracing::warn!("a client sent more descriptors than this process has room for");
    }
    bytes.truncate(received.bytes);
    Ok(Chunk { bytes, fds })
}
