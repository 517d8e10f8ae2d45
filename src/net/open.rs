//! Opening what a back end is made of. It may take its time, and belongs on no thread that others wait for.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::address;
use super::config::{Kind, NetdevConfig, StreamConfig, TapConfig};
use super::datagram::Datagram;
use super::stream::Peers;
use super::tap::{Tap, Wanted};
use super::{HostOffloads, NetError};
use crate::chardev::SocketFile;
use crate::qapi::qmp::SocketAddress;
use crate::report;

/// By which the kernel would move frames.
const VHOST: &str = "/dev/vhost-net";

/// What a back end is made of, opened.
pub struct Opened {
    pub(super) id: String,
    pub(super) driver: &'static str,
    pub(super) parts: Parts,
    /// What people are told of it.
    pub(super) info: String,
}

pub(super) enum Parts {
    Tap {
        queues: Vec<Tap>,
        /// What the host can do; none where frames have no header.
        offloads: Option<HostOffloads>,
    },
    Stream {
        peers: Peers,
        /// Clients hear of no peers.
        silent: bool,
    },
    Datagram(Arc<Datagram>),
}

impl Opened {
    /// Opens what `config` says, with the descriptors that it named.
    ///
    /// # Errors
    /// Names what cannot be opened, or a descriptor that is none of what is needed.
    pub fn new(config: &NetdevConfig, fds: Vec<OwnedFd>) -> Result<Self, NetError> {
        let mut fds = fds.into_iter();
        let (parts, info) = match &config.kind {
            Kind::Tap(tap) => open_tap(tap, fds.by_ref().take(tap.fds.len()).collect())?,
            Kind::Stream(stream) => open_stream(stream, fds.next())?,
            Kind::Datagram { local, remote } => open_datagram(local.as_ref(), remote.as_ref(), fds.next())?,
            Kind::Socket(_) => open_socket(fds.next())?,
        };
        Ok(Self {
            id: config.id.clone(),
            driver: config.driver(),
            parts,
            info,
        })
    }
}

fn open_tap(config: &TapConfig, fds: Vec<OwnedFd>) -> Result<(Parts, String), NetError> {
    let (queues, info) = match config.fds.is_empty() {
        false => {
            let info = format!("fd={}", config.fds.join(":"));
            let queues = fds.into_iter().map(|fd| Tap::of(fd, config.header));
            (queues.collect::<Result<Vec<_>, _>>()?, info)
        }
        true => open_by_name(config)?,
    };
    let Some(first) = queues.first() else {
        return Err(NetError::Incomplete("tap: there is no descriptor"));
    };
    if queues.iter().any(|queue| queue.has_header() != first.has_header()) {
        return Err(NetError::Contradiction("vnet_hdr not consistent across given tap fds"));
    }
    if let Some(bytes) = config.send_buffer.filter(|bytes| *bytes != 0) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        queues.iter().try_for_each(|queue| queue.set_send_buffer(bytes))?;
    }
    if config.vhost && config.vhost_fds.is_empty() {
        let opened = OpenOptions::new().read(true).write(true).open(VHOST);
        opened.map_err(|error| NetError::host(format!("Could not open '{VHOST}'"), error))?;
    }
    if config.vhost {
        report::warning("tap: vhost is not supported, frames are moved by this process");
    }
    let offloads = first.has_header().then(|| first.host_offloads());
    Ok((Parts::Tap { queues, offloads }, info))
}

fn open_by_name(config: &TapConfig) -> Result<(Vec<Tap>, String), NetError> {
    let mut name = config.ifname.clone();
    let mut queues = Vec::new();
    for _ in 0..config.queues {
        let wanted = Wanted {
            name: &name,
            several_queues: config.queues > 1,
            header: config.header,
        };
        let (tap, found) = Tap::open(&wanted)?;
        queues.push(tap);
        name = found;
    }
    Ok((queues, format!("ifname={name},script=no,downscript=no")))
}

fn open_stream(config: &StreamConfig, given: Option<OwnedFd>) -> Result<(Parts, String), NetError> {
    let name = address::name(&config.address);
    let peers = match (config.server, &config.address, given) {
        (true, address, given) => Peers::Server(address::listen(address, given)?),
        (false, SocketAddress::Fd(_), Some(fd)) => Peers::Given(fd, config.address.clone()),
        // As `socket` does, which has nothing to try again with.
        (false, address, _) if config.silent => {
            let connected = address::connect(address);
            let socket = connected.map_err(|error| NetError::host(format!("can't connect to {name}"), error))?;
            Peers::Given(socket, address.clone())
        }
        (false, address, _) => Peers::Client(address.clone(), config.reconnect),
    };
    let info = if config.server {
        format!("listening {name}")
    } else {
        name
    };
    let silent = config.silent;
    Ok((Parts::Stream { peers, silent }, info))
}

fn open_datagram(
    local: Option<&SocketAddress>,
    remote: Option<&SocketAddress>,
    given: Option<OwnedFd>,
) -> Result<(Parts, String), NetError> {
    if let Some(fd) = given {
        return connected_datagram(fd);
    }
    let (socket, file, destination) = address::datagram(local, remote)?;
    let end = |address: Option<&SocketAddress>| address.map_or_else(|| "-".to_owned(), address::name);
    let info = format!("{}/{}", end(local), end(remote)).replace("tcp:", "udp=");
    ready(socket, Some(destination), file, info)
}

/// A socket that somebody else has opened: a stream, or datagrams to one peer.
fn open_socket(given: Option<OwnedFd>) -> Result<(Parts, String), NetError> {
    let fd = given.ok_or(NetError::Incomplete("socket: there is no descriptor"))?;
    let kind = rustix::net::sockopt::socket_type(&fd);
    let kind = kind.map_err(|error| NetError::host("can't get socket option SO_TYPE", error))?;
    if kind == rustix::net::SocketType::DGRAM {
        return connected_datagram(fd);
    }
    let address = SocketAddress::Fd(crate::qapi::qmp::FdSocketAddress { str: String::new() });
    let peers = Peers::Given(fd, address);
    Ok((Parts::Stream { peers, silent: true }, "socket".to_owned()))
}

fn connected_datagram(fd: OwnedFd) -> Result<(Parts, String), NetError> {
    let failed = |error: io::Error| NetError::host("can't use the socket for datagrams", error);
    let kind = rustix::net::sockopt::socket_type(&fd).map_err(|error| failed(error.into()))?;
    if kind != rustix::net::SocketType::DGRAM {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    ready(fd, None, None, "fd".to_owned())
}

fn ready(
    socket: OwnedFd,
    destination: Option<address::Destination>,
    file: Option<SocketFile>,
    info: String,
) -> Result<(Parts, String), NetError> {
    let socket = Datagram::new(socket, destination, file);
    let socket = socket.map_err(|error| NetError::host("can't use the socket for datagrams", error))?;
    Ok((Parts::Datagram(socket), info))
}
