//! Datagrams as back end: each write of the front end is one datagram.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::address;
use super::error::OpenError;
use super::options::InetAddress;
use super::port::{BackPort, Chunk};
use super::raw_fd;
use crate::report::reason;

/// The largest datagram.
const DATAGRAM_SIZE: usize = 65536;

/// How long to wait after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// A datagram socket.
#[derive(Debug)]
pub(super) struct UdpBackend {
    socket: AsyncFd<OwnedFd>,
}

impl UdpBackend {
    /// A socket from `local`, or any port, to `remote`.
    ///
    /// # Errors
    /// An address does not exist or is in use.
    pub(super) async fn open(remote: &InetAddress, local: Option<&InetAddress>) -> Result<Self, OpenError> {
        let socket = address::datagram_socket(remote, local).await?;
        let socket = raw_fd::watch_or_close(socket).map_err(OpenError::WatchDatagrams)?;
        Ok(Self { socket })
    }

    /// Carries datagrams. One that is refused is lost, as datagrams are.
    pub(super) async fn run(self, port: &mut BackPort) {
        port.input.opened("udp");
        let BackPort { input, output } = port;
        let socket = &self.socket;
        let inbound = async {
            loop {
                let mut bytes = vec![0; DATAGRAM_SIZE];
                let received = socket.async_io(Interest::READABLE, |fd| {
                    Ok(recv(fd.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)?)
                });
                match received.await {
                    Ok(count) => {
                        bytes.truncate(count);
                        input.data(Chunk { bytes, fds: Vec::new() }).await;
                    }
                    // Nobody listens at the other end yet, or the network is down: that may change.
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let outbound = async {
            loop {
                let bytes = output.recv().await;
                let sent = socket.async_io(Interest::WRITABLE, |fd| {
                    Ok(send(fd.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)?)
                });
                if let Err(error) = sent.await {
                    tracing::debug!("send datagram: {}", reason(&error));
                }
            }
        };
        tokio::join!(inbound, outbound);
    }
}
