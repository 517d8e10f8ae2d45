//! Listening on, and connecting to, the addresses of stream sockets, without blocking.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, connect, getpeername,
    getsockname, getsockopt, listen, setsockopt, socket, sockopt,
};
use rustix::net::{SocketFlags, accept_with};
use tokio::io::unix::AsyncFd;

use super::error::OpenError;
use super::options::{FdAddress, InetAddress, SocketAddress, UnixAddress};
use super::wire::set_nonblocking;
use super::{FdTable, raw_fd};

/// Room for the path in a Unix address, in bytes, a final zero included (`struct sockaddr_un`).
const UNIX_PATH_SIZE: usize = 108;
/// How often a client tries a Unix server that has too many clients waiting.
const CROWDED_INTERVAL: Duration = Duration::from_millis(10);

/// Sockets that listen on one address: several if a host name has several addresses.
#[derive(Debug)]
pub(super) struct Listener {
    sockets: Vec<AsyncFd<OwnedFd>>,
    /// The address as `query-chardev` shows it.
    pub(super) name: String,
    /// The file that was made for it.
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be listened on; the error names it.
    pub(super) async fn new(address: &SocketAddress, fds: &FdTable) -> Result<Self, OpenError> {
        match address {
            SocketAddress::Unix(unix) => {
                let path = &unix.path;
                let bound = bind_unix(unix)?;
                listen(&bound, Backlog::MAXALLOWABLE).map_err(|errno| OpenError::Listen {
                    path: path.clone(),
                    error: errno.into(),
                })?;
                let mut listener = Self::over(vec![bound], unix_option_name(unix))?;
                listener.file = (!unix.abstract_name).then(|| SocketFile::new(path)).flatten();
                Ok(listener)
            }
            SocketAddress::Inet(inet) => listen_inet(inet).await,
            SocketAddress::Fd(fd) => {
                let fd = socket_of(fd, fds)?;
                listen(&fd, Backlog::MAXALLOWABLE).map_err(|errno| OpenError::ListenFd(errno.into()))?;
                let name = local_name(&fd);
                Self::over(vec![fd], name)
            }
        }
    }

    fn over(sockets: Vec<OwnedFd>, name: String) -> Result<Self, OpenError> {
        let register = |socket: OwnedFd| {
            set_nonblocking(&socket)?;
            raw_fd::watch_or_close(socket)
        };
        let sockets = sockets.into_iter().map(register).collect::<io::Result<_>>();
        let sockets = sockets.map_err(OpenError::WatchListener)?;
        Ok(Self {
            sockets,
            name,
            file: None,
        })
    }

    /// The next client. Nothing is lost if the future is dropped.
    pub(super) async fn accept(&self) -> io::Result<OwnedFd> {
        std::future::poll_fn(|context| {
            for socket in &self.sockets {
                while let std::task::Poll::Ready(guard) = socket.poll_read_ready(context) {
                    match guard?.try_io(accept_one) {
                        Ok(accepted) => return std::task::Poll::Ready(accepted),
                        Err(_would_block) => {}
                    }
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Waits until a client waits.
    pub(super) async fn waiting(&self) {
        std::future::poll_fn(|context| {
            for socket in &self.sockets {
                while let std::task::Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(context) {
                    if is_readable(socket.get_ref()) {
                        return std::task::Poll::Ready(());
                    }
                    guard.clear_ready();
                }
            }
            std::task::Poll::Pending
        })
        .await;
    }
}

/// The file of a Unix socket, removed with it unless somebody else has put another one in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file at `path`; none if there is none.
    pub fn new(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let metadata = std::fs::symlink_metadata(&path).ok()?;
        Some(Self {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path);
        if now.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode)) {
            // Whoever removed it in this moment has done what is wanted.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Connects to `address`.
///
/// # Errors
/// Nobody listens there; the error names the address.
pub(super) async fn connect_to(address: &SocketAddress, fds: &FdTable) -> Result<OwnedFd, OpenError> {
    match address {
        SocketAddress::Fd(fd) => socket_of(fd, fds),
        SocketAddress::Unix(unix) => {
            let path = &unix.path;
            let address = unix_addr(unix)?;
            let connected = connect_one(&address, AddressFamily::Unix).await;
            connected.map_err(|error| OpenError::Connect {
                to: path.clone(),
                error,
            })
        }
        SocketAddress::Inet(inet) => {
            let mut last = Errno::EADDRNOTAVAIL.into();
            for address in resolve(inet, false).await? {
                match connect_one(&SockaddrStorage::from(address), family(&address)).await {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                }
            }
            Err(OpenError::Connect {
                to: format!("{}:{}", inet.host, inet.port),
                error: last,
            })
        }
    }
}

/// Binds a datagram socket to `local`, or to any port of the same family, and connects it to `remote`.
///
/// # Errors
/// An address does not exist or is in use.
pub(super) async fn datagram_socket(remote: &InetAddress, local: Option<&InetAddress>) -> Result<OwnedFd, OpenError> {
    let to = format!("{}:{}", remote.host, remote.port);
    let complaint = |errno: Errno| OpenError::Connect {
        to: to.clone(),
        error: errno.into(),
    };
    let remotes = resolve(remote, false).await?;
    let locals = match local {
        Some(local) => resolve(local, true).await?,
        None => Vec::new(),
    };
    let pair = remotes.iter().find_map(|remote| match local {
        None => Some((remote, None)),
        Some(_) => locals
            .iter()
            .find(|local| local.is_ipv4() == remote.is_ipv4())
            .map(|local| (remote, Some(local))),
    });
    let (remote, local) = pair.ok_or_else(|| complaint(Errno::EADDRNOTAVAIL))?;
    let open = || {
        let fd = new_socket(family(remote), SockType::Datagram)?;
        if let Some(local) = local {
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_raw_fd(), &SockaddrStorage::from(*local))?;
        }
        connect(fd.as_raw_fd(), &SockaddrStorage::from(*remote))?;
        Ok(fd)
    };
    open().map_err(complaint)
}

/// The local and the peer's address of a connected socket, as `query-chardev` shows them.
pub(super) fn connected_name(fd: &OwnedFd, protocol: &str, server: bool) -> String {
    let server = if server { ",server=on" } else { "" };
    let local = getsockname::<SockaddrStorage>(fd.as_raw_fd());
    if let Some(unix) = local.as_ref().ok().and_then(SockaddrStorage::as_unix_addr) {
        return format!("unix:{}{server}", unix_path(unix));
    }
    let peer = getpeername::<SockaddrStorage>(fd.as_raw_fd());
    let show = |address: nix::Result<SockaddrStorage>| address.map(|address| address.to_string()).unwrap_or_default();
    let protocol = if protocol.is_empty() { "tcp:" } else { protocol };
    format!("{protocol}{}{server} <-> {}", show(local), show(peer))
}

/// Whether the socket is one for network connections.
pub(super) fn is_inet(fd: &OwnedFd) -> bool {
    let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())
        .ok()
        .and_then(|address| address.family());
    matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6))
}

/// The address of an option as `query-chardev` shows it while nobody is connected.
pub(super) fn option_name(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Unix(unix) => unix_option_name(unix),
        SocketAddress::Inet(inet) => format!("{}:{}", inet.host, inet.port),
        SocketAddress::Fd(FdAddress::Inherited(number)) => format!("fd:{number}"),
        SocketAddress::Fd(FdAddress::Named(name)) => format!("fd:{name}"),
    }
}

fn unix_option_name(unix: &UnixAddress) -> String {
    let kind = match (unix.abstract_name, unix.tight) {
        (true, true) => ",abstract=on,tight=on",
        (true, false) => ",abstract=on",
        (false, _) => "",
    };
    format!("unix:{}{kind}", unix.path)
}

/// Takes the descriptor an option names, which must be a socket.
fn socket_of(address: &FdAddress, fds: &FdTable) -> Result<OwnedFd, OpenError> {
    let (fd, name) = match address {
        FdAddress::Inherited(number) => (fds.take_inherited(*number), number.to_string()),
        FdAddress::Named(name) => (Some(fds.take_named(name)?), name.clone()),
    };
    match fd {
        Some(fd) if getsockopt(&fd, sockopt::SockType).is_ok() => Ok(fd),
        _ => Err(OpenError::NotASocket(name)),
    }
}

fn bind_unix(unix: &UnixAddress) -> Result<OwnedFd, OpenError> {
    let path = &unix.path;
    let address = unix_addr(unix)?;
    if !unix.abstract_name {
        // What a predecessor left behind would be in the way. Anything but a socket is somebody else's.
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        match is_socket.then(|| std::fs::remove_file(path)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Unlink {
                    path: path.clone(),
                    error,
                });
            }
            _ => {}
        }
    }
    let bound =
        new_socket(AddressFamily::Unix, SockType::Stream).and_then(|fd| bind(fd.as_raw_fd(), &address).map(|()| fd));
    bound.map_err(|errno| OpenError::Bind {
        path: path.clone(),
        error: errno.into(),
    })
}

fn unix_addr(unix: &UnixAddress) -> Result<UnixAddr, OpenError> {
    let path = unix.path.as_bytes();
    // An abstract name has a zero in front of it, a path one behind it.
    if path.len() >= UNIX_PATH_SIZE {
        return Err(OpenError::LongPath {
            path: unix.path.clone(),
            limit: UNIX_PATH_SIZE,
        });
    }
    let address = if unix.abstract_name {
        let mut name = path.to_vec();
        if !unix.tight {
            name.resize(UNIX_PATH_SIZE - 1, 0);
        }
        UnixAddr::new_abstract(&name)
    } else {
        UnixAddr::new(path)
    };
    address.map_err(|errno| OpenError::BadPath {
        path: unix.path.clone(),
        error: errno.into(),
    })
}

/// The path of a Unix address; nothing for an abstract or unnamed one.
fn unix_path(unix: &UnixAddr) -> String {
    unix.path().map(|path| path.display().to_string()).unwrap_or_default()
}

fn local_name(fd: &OwnedFd) -> String {
    match getsockname::<SockaddrStorage>(fd.as_raw_fd()) {
        Ok(address) => match address.as_unix_addr() {
            Some(unix) => format!("unix:{}", unix_path(unix)),
            None => format!("tcp:{address}"),
        },
        Err(_) => "fd:".to_owned(),
    }
}

async fn listen_inet(inet: &InetAddress) -> Result<Listener, OpenError> {
    let addresses = resolve(inet, true).await?;
    let first = addresses.first().map_or(0, SocketAddr::port);
    let last = inet.to.unwrap_or(first).max(first);
    let mut failure = Errno::EADDRNOTAVAIL;
    for port in first..=last {
        match listen_on_all(&addresses, port) {
            Ok(sockets) => {
                let port = sockets.first().and_then(bound_port).unwrap_or(port);
                return Listener::over(sockets, format!("{}:{port}", shown_host(inet, &addresses)));
            }
            Err(errno) => failure = errno,
        }
    }
    Err(OpenError::NoFreePort(failure.into()))
}

/// One socket for each address, all on one port. Families this host does not have are left out.
fn listen_on_all(addresses: &[SocketAddr], port: u16) -> nix::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    let mut chosen = port;
    for address in addresses {
        let mut address = *address;
        address.set_port(chosen);
        let fd = match new_socket(family(&address), SockType::Stream) {
            Err(Errno::EAFNOSUPPORT) if addresses.len() > 1 => continue,
            result => result?,
        };
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        match bind(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Err(Errno::EADDRNOTAVAIL) if addresses.len() > 1 => continue,
            result => result?,
        }
        listen(&fd, Backlog::MAXALLOWABLE)?;
        // Port 0 is chosen by the kernel for the first socket and must be the same for the others.
        chosen = bound_port(&fd).unwrap_or(chosen);
        sockets.push(fd);
    }
    if sockets.is_empty() {
        Err(Errno::EADDRNOTAVAIL)
    } else {
        Ok(sockets)
    }
}

fn bound_port(fd: &OwnedFd) -> Option<u16> {
    let address = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok()?;
    let v4 = address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
    v4.or_else(|| address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port))
}

fn shown_host(inet: &InetAddress, addresses: &[SocketAddr]) -> String {
    if !inet.host.is_empty() {
        return inet.host.clone();
    }
    addresses
        .last()
        .map(|address| address.ip().to_string())
        .unwrap_or_default()
}

/// The addresses of a host name. Numbers need no name service.
async fn resolve(inet: &InetAddress, server: bool) -> Result<Vec<SocketAddr>, OpenError> {
    let fail = |why: &str| OpenError::Resolve {
        host: inet.host.clone(),
        port: inet.port.clone(),
        why: why.to_owned(),
    };
    let port: u16 = match inet.port.parse() {
        Ok(port) => port,
        Err(_) if server && inet.port.is_empty() => 0,
        Err(_) => return Err(fail("Servname not supported for ai_socktype")),
    };
    let found: Vec<SocketAddr> = if inet.host.is_empty() && server {
        vec![
            (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
            (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
        ]
    } else {
        let host = if inet.host.is_empty() { "localhost" } else { &inet.host };
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => found.collect(),
            Err(error) => {
                let text = error.to_string();
                return Err(fail(text.rsplit_once(": ").map_or(text.as_str(), |(_, why)| why)));
            }
        }
    };
    let (ipv4, ipv6) = families(inet.ipv4, inet.ipv6);
    let mut wanted: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| if address.is_ipv4() { ipv4 } else { ipv6 })
        .collect();
    wanted.dedup();
    if wanted.is_empty() {
        Err(fail("Address family for hostname not supported"))
    } else {
        Ok(wanted)
    }
}

/// Which families the two switches leave: asking for one alone leaves the other out.
fn families(ipv4: Option<bool>, ipv6: Option<bool>) -> (bool, bool) {
    (ipv4.unwrap_or(ipv6 != Some(true)), ipv6.unwrap_or(ipv4 != Some(true)))
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn new_socket(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

async fn connect_one(address: &impl SockaddrLike, family: AddressFamily) -> io::Result<OwnedFd> {
    let fd = new_socket(family, SockType::Stream)?;
    loop {
        match connect(fd.as_raw_fd(), address) {
            Ok(()) => return Ok(fd),
            Err(Errno::EINPROGRESS) => break,
            // So many wait already that a Unix server takes no more, which the kernel tells nobody the end of.
            Err(Errno::EAGAIN) => tokio::time::sleep(CROWDED_INTERVAL).await,
            Err(errno) => return Err(errno.into()),
        }
    }
    let fd = raw_fd::watch_or_close(fd)?;
    fd.writable().await?.retain_ready();
    match getsockopt(fd.get_ref(), sockopt::SocketError)? {
        0 => Ok(fd.into_inner()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn accept_one(socket: &AsyncFd<OwnedFd>) -> io::Result<OwnedFd> {
    Ok(accept_with(
        socket.get_ref(),
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    )?)
}

fn is_readable(fd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
