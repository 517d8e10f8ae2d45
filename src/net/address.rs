//! Addresses of sockets, and how they are opened. All of this may take its time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};

use rustix::net::SocketAddrUnix;

use super::NetError;
use crate::chardev::SocketFile;
use crate::qapi::qmp::{InetSocketAddress, SocketAddress, UnixSocketAddress};

/// Bytes of a Unix address, a final zero included (`struct sockaddr_un`).
const UNIX_LEN: usize = 108;

/// A socket that waits for peers.
#[derive(Debug)]
pub(super) enum Listener {
    Inet(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed with it.
        _file: Option<SocketFile>,
    },
}

/// Where a datagram goes that names its destination.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    Inet(SocketAddr),
    Unix(SocketAddrUnix),
}

/// The name of an address as messages and `info network` have it.
pub(super) fn name(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Inet(inet) => format!("tcp:{}:{}", inet.host, inet.port),
        SocketAddress::Unix(unix) => format!("unix:{}", unix.path),
        SocketAddress::Fd(fd) => format!("fd:{}", fd.str),
    }
}

/// Listens on an address; one that is open already is `given`.
pub(super) fn listen(address: &SocketAddress, given: Option<OwnedFd>) -> Result<Listener, NetError> {
    let failed = |error| NetError::host(format!("can't bind {}", name(address)), error);
    let listener = match address {
        SocketAddress::Inet(inet) => Listener::Inet(listen_inet(inet).map_err(failed)?),
        SocketAddress::Unix(unix) => {
            let is_file = !unix.r#abstract.unwrap_or(false);
            if is_file {
                remove_stale(&unix.path);
            }
            let listener = UnixListener::bind_addr(&unix_addr(unix).map_err(failed)?).map_err(failed)?;
            Listener::Unix {
                listener,
                _file: is_file.then(|| SocketFile::new(&unix.path)).flatten(),
            }
        }
        SocketAddress::Fd(_) => {
            let fd = given.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
            rustix::net::listen(&fd, 1).map_err(|error| failed(error.into()))?;
            match is_unix(&fd).map_err(failed)? {
                true => Listener::Unix {
                    listener: fd.into(),
                    _file: None,
                },
                false => Listener::Inet(fd.into()),
            }
        }
    };
    listener.set_nonblocking().map_err(failed)?;
    Ok(listener)
}

/// Connects to an address.
pub(super) fn connect(address: &SocketAddress) -> io::Result<OwnedFd> {
    match address {
        SocketAddress::Inet(inet) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in resolve(inet)? {
                match TcpStream::connect(address) {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(stream.into());
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        SocketAddress::Unix(unix) => Ok(UnixStream::connect_addr(&unix_addr(unix)?)?.into()),
        SocketAddress::Fd(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A datagram socket that is bound to `local`, and where its datagrams go.
pub(super) fn datagram(
    local: Option<&SocketAddress>,
    remote: Option<&SocketAddress>,
) -> Result<(OwnedFd, Option<SocketFile>, Destination), NetError> {
    let failed = |address: &SocketAddress, error| NetError::host(format!("can't bind {}", name(address)), error);
    match (local, remote) {
        (Some(here @ SocketAddress::Unix(local)), Some(SocketAddress::Unix(remote))) => {
            remove_stale(&local.path);
            let bound = unix_addr(local).and_then(|local| UnixDatagram::bind_addr(&local));
            let socket = bound.map_err(|error| failed(here, error))?;
            let file = SocketFile::new(&local.path);
            let there = destination(remote).map_err(|error| failed(here, error))?;
            Ok((socket.into(), file, Destination::Unix(there)))
        }
        (_, Some(there @ SocketAddress::Inet(remote))) => {
            let address = first_v4(remote).map_err(|error| failed(there, error))?;
            let socket = match local {
                _ if address.ip().is_multicast() => join(address, local).map_err(|error| failed(there, error))?,
                Some(here @ SocketAddress::Inet(local)) => {
                    let bound = first_v4(local).and_then(bind_udp);
                    bound.map_err(|error| failed(here, error))?
                }
                _ => return Err(NetError::Incomplete("dgram requires local= parameter")),
            };
            Ok((socket.into(), None, Destination::Inet(address)))
        }
        (None, None) => Err(NetError::Incomplete("dgram requires local= parameter")),
        (Some(_), None) => Err(NetError::Incomplete("remote= required with local=")),
        _ => Err(NetError::Contradiction("local= and remote= must be of the same type")),
    }
}

/// Whether a socket is of this host; else it is of a network.
pub(super) fn is_unix(fd: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_domain(fd)? == rustix::net::AddressFamily::UNIX)
}

impl Listener {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Inet(listener) => listener.set_nonblocking(true),
            Self::Unix { listener, .. } => listener.set_nonblocking(true),
        }
    }

    /// A descriptor to wait for peers with.
    pub(super) fn waiter(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Inet(listener) => listener.try_clone()?.into(),
            Self::Unix { listener, .. } => listener.try_clone()?.into(),
        })
    }

    /// The next peer that waits, with its address.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, SocketAddress)> {
        match self {
            Self::Inet(listener) => {
                let (stream, from) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok((stream.into(), inet(from)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                let path = listener.local_addr()?;
                let path = path.as_pathname().map(|path| path.to_string_lossy().into_owned());
                Ok((stream.into(), unix(path.unwrap_or_default())))
            }
        }
    }
}

/// An address by its numbers.
fn inet(address: SocketAddr) -> SocketAddress {
    SocketAddress::Inet(InetSocketAddress {
        host: address.ip().to_string(),
        port: address.port().to_string(),
        to: None,
        ipv4: None,
        ipv6: None,
    })
}

fn unix(path: String) -> SocketAddress {
    SocketAddress::Unix(UnixSocketAddress {
        path,
        r#abstract: None,
        tight: None,
    })
}

/// Where two sockets by which frames come and go find each other: `[host]:port`. Without a host that is any address of
/// this host.
pub(super) fn parse(what: &'static str, text: &str) -> Result<SocketAddress, NetError> {
    let wrong = |why: &str| NetError::Address {
        what,
        text: text.to_owned(),
        why: why.to_owned(),
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    port.parse::<u16>().map_err(|_| wrong("its port is no number"))?;
    Ok(SocketAddress::Inet(InetSocketAddress {
        host: if host.is_empty() { "0.0.0.0" } else { host }.to_owned(),
        port: port.to_owned(),
        to: None,
        ipv4: None,
        ipv6: None,
    }))
}

fn listen_inet(wanted: &InetSocketAddress) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve(wanted)? {
        let to = wanted.to.unwrap_or(address.port()).max(address.port());
        for port in address.port()..=to {
            match TcpListener::bind((address.ip(), port)) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn resolve(wanted: &InetSocketAddress) -> io::Result<Vec<SocketAddr>> {
    let port: u16 = wanted
        .port
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let host = if wanted.host.is_empty() { "::" } else { &wanted.host };
    let (v4, v6) = match (wanted.ipv4, wanted.ipv6) {
        (None, None) => (true, true),
        (Some(v4), None) => (v4, !v4),
        (None, Some(v6)) => (!v6, v6),
        (Some(v4), Some(v6)) => (v4, v6),
    };
    let all = (host, port).to_socket_addrs()?;
    Ok(all.filter(|address| if address.is_ipv4() { v4 } else { v6 }).collect())
}

/// QEMU's datagrams know IPv4 only.
fn first_v4(wanted: &InetSocketAddress) -> io::Result<SocketAddr> {
    let mut all = resolve(wanted)?.into_iter();
    all.find(SocketAddr::is_ipv4)
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// A socket that may share its address with others.
fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt::set_socket_reuseaddr};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// A member of a group, which hears itself as QEMU's does.
fn join(group: SocketAddr, local: Option<&SocketAddress>) -> io::Result<UdpSocket> {
    let IpAddr::V4(address) = group.ip() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let interface = match local {
        Some(SocketAddress::Inet(local)) => match first_v4(local)?.ip() {
            IpAddr::V4(interface) => interface,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        },
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let socket = bind_udp(group)?;
    socket.join_multicast_v4(&address, &interface)?;
    socket.set_multicast_loop_v4(true)?;
    if interface != Ipv4Addr::UNSPECIFIED {
        rustix::net::sockopt::set_ip_multicast_if(&socket, &interface)?;
    }
    Ok(socket)
}

fn unix_addr(wanted: &UnixSocketAddress) -> io::Result<UnixAddr> {
    if !wanted.r#abstract.unwrap_or(false) {
        return UnixAddr::from_pathname(&wanted.path);
    }
    UnixAddr::from_abstract_name(abstract_name(wanted))
}

fn destination(wanted: &UnixSocketAddress) -> io::Result<SocketAddrUnix> {
    Ok(match wanted.r#abstract.unwrap_or(false) {
        false => SocketAddrUnix::new(&wanted.path)?,
        true => SocketAddrUnix::new_abstract_name(&abstract_name(wanted))?,
    })
}

fn abstract_name(wanted: &UnixSocketAddress) -> Vec<u8> {
    let mut name = wanted.path.clone().into_bytes();
    if !wanted.tight.unwrap_or(true) {
        name.resize(UNIX_LEN - 1, 0);
    }
    name
}

/// Makes room for a socket where one lies that somebody left behind. Anything else stays, and is in the way.
fn remove_stale(path: &str) {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        // Binding says what is wrong.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_one_text() {
        let SocketAddress::Inet(any) = parse("listen", ":1234").unwrap() else {
            panic!("another kind");
        };
        assert_eq!((any.host.as_str(), any.port.as_str()), ("0.0.0.0", "1234"));
        let SocketAddress::Inet(six) = parse("connect", "[::1]:7").unwrap() else {
            panic!("another kind");
        };
        assert_eq!((six.host.as_str(), six.port.as_str()), ("::1", "7"));
        for (text, why) in [
            ("1234", "it has no port"),
            ("a:b", "its port is no number"),
            ("a:70000", "its port is no number"),
        ] {
            let error = parse("udp", text).unwrap_err().to_string();
            assert_eq!(error, format!("udp '{text}' is no address: {why}"));
        }
    }
}
