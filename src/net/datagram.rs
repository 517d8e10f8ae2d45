//! Sockets that carry each frame as a datagram.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{SendFlags, send, sendto};

use super::address::Destination;
use super::{Frame, HEADER_LEN};
use crate::chardev::SocketFile;
use crate::io::{Handle, Readable};

/// The socket.
#[derive(Debug)]
pub struct Datagram {
    socket: OwnedFd,
    /// Where datagrams go; none if the socket is connected.
    destination: Option<Destination>,
    _file: Option<SocketFile>,
}

impl Datagram {
    /// A socket that does not block.
    pub(super) fn new(
        socket: OwnedFd,
        destination: Option<Destination>,
        file: Option<SocketFile>,
    ) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Arc::new(Self {
            socket,
            destination,
            _file: file,
        }))
    }

    pub(super) fn receiver(&self, on: &Handle) -> io::Result<DatagramReceiver> {
        let socket = Arc::new(self.socket.try_clone()?);
        Ok(DatagramReceiver {
            ready: on.readable(Arc::clone(&socket) as _)?,
            socket,
        })
    }

    pub(super) fn transmitter(self: &Arc<Self>, on: &Handle) -> io::Result<DatagramTransmitter> {
        Ok(DatagramTransmitter {
            ready: on.readable(Arc::new(self.socket.try_clone()?))?,
            socket: Arc::clone(self),
        })
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(match &self.destination {
            None => send(&self.socket, data, flags)?,
            Some(Destination::Inet(address)) => sendto(&self.socket, data, flags, address)?,
            Some(Destination::Unix(address)) => sendto(&self.socket, data, flags, address)?,
        })
    }
}

/// Where datagrams come in.
pub struct DatagramReceiver {
    socket: Arc<OwnedFd>,
    ready: Readable,
}

impl DatagramReceiver {
    pub(super) async fn receive(&mut self, frame: &mut Frame) -> io::Result<()> {
        loop {
            match rustix::io::read(self.socket.as_fd(), &mut frame.begin()[HEADER_LEN..]) {
                // Nobody sends an empty frame.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    frame.end(HEADER_LEN + len);
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.ready.wait().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where datagrams go.
pub struct DatagramTransmitter {
    socket: Arc<Datagram>,
    ready: Readable,
}

impl DatagramTransmitter {
    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let payload = frame.get(HEADER_LEN..).unwrap_or_default();
        loop {
            match self.socket.send(payload) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.wait_writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl std::fmt::Debug for DatagramReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramReceiver").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DatagramTransmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramTransmitter").finish_non_exhaustive()
    }
}
