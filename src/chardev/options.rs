//! What a character device is made from, however it was written down.

use std::time::Duration;

/// A character device to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevOptions {
    /// `id`, the label of `query-chardev`.
    pub id: String,
    /// Where the bytes go.
    pub backend: BackendOptions,
    /// `mux=on`: several front ends share it and are switched with Ctrl-A c.
    pub mux: bool,
    /// `logfile=`.
    pub log: Option<LogOptions>,
}

/// `logfile=` and `logappend=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A file, or `/dev/fdset/N`.
    pub path: String,
    /// Keep what the file has.
    pub append: bool,
}

/// Where the bytes of a character device go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendOptions {
    /// Nowhere.
    Null,
    /// A pseudo-terminal, with a symbolic link to it.
    Pty {
        /// Where the link is made.
        link: Option<String>,
    },
    /// A file.
    File {
        /// What the front end sends goes here; `/dev/fdset/N` is allowed.
        output: String,
        /// What the front end receives comes from here.
        input: Option<String>,
        /// Keep what the file has.
        append: bool,
    },
    /// Two named pipes, `PATH.in` and `PATH.out`, or one file for both directions.
    Pipe {
        /// The path.
        path: String,
    },
    /// Standard input and output of this process.
    Stdio {
        /// Ctrl-C ends the emulator rather than going to the guest.
        signal: bool,
    },
    /// A terminal device of the host.
    Serial {
        /// The device.
        path: String,
    },
    /// A buffer that keeps the newest bytes, read with `ringbuf-read`.
    Ringbuf {
        /// Its size in bytes, a power of two.
        size: u64,
    },
    /// A stream socket.
    Socket(SocketOptions),
    /// Datagrams.
    Udp {
        /// Where datagrams are sent to.
        remote: InetAddress,
        /// Where they are received, host and port empty for any.
        local: Option<InetAddress>,
    },
    /// A multiplexer over another character device.
    Mux {
        /// The `id` of the other one.
        base: String,
    },
}

/// A stream socket as back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Where.
    pub address: SocketAddress,
    /// Listen rather than connect.
    pub server: bool,
    /// A server that has the start wait for the first client.
    pub wait: bool,
    /// Small writes are sent at once (TCP).
    pub nodelay: bool,
    /// Speak the telnet protocol.
    pub telnet: bool,
    /// A client that connects again after so long.
    pub reconnect: Option<Duration>,
}

/// The address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// TCP.
    Inet(InetAddress),
    /// A Unix socket.
    Unix(UnixAddress),
    /// A descriptor: the number of an inherited one, or a name of `getfd`.
    Fd(FdAddress),
}

/// A descriptor named by an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdAddress {
    /// From the command line: an inherited number.
    Inherited(i32),
    /// From QMP: a name.
    Named(String),
}

/// A TCP or UDP address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InetAddress {
    /// Host name or address; empty for every address of this host.
    pub host: String,
    /// Port number as text; empty for any.
    pub port: String,
    /// A server takes the first free port up to this one.
    pub to: Option<u16>,
    /// Whether IPv4 may be used; both unset mean either.
    pub ipv4: Option<bool>,
    /// Whether IPv6 may be used.
    pub ipv6: Option<bool>,
}

/// A Unix socket address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixAddress {
    /// The path, or the abstract name.
    pub path: String,
    /// The name is in the kernel's own name space rather than a file.
    pub abstract_name: bool,
    /// An abstract name ends where `path` does, without zeros behind it.
    pub tight: bool,
}

/// The prefixes the file name of a socket has in `query-chardev`.
impl SocketOptions {
    /// `disconnected:` is not part of it.
    pub(super) fn protocol(&self) -> &'static str {
        match (&self.address, self.telnet) {
            (SocketAddress::Inet(_), true) => "telnet:",
            (SocketAddress::Inet(_), false) => "tcp:",
            (SocketAddress::Unix(_) | SocketAddress::Fd(_), _) => "",
        }
    }
}
