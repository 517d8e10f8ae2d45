//! Why there is no such descriptor or character device, in QEMU's words where it has some.

use std::io;

use crate::qapi::{ErrorClass, QmpError};
use crate::report::reason;

/// A descriptor that is not there, or cannot be kept as asked.
#[derive(Debug, thiserror::Error)]
pub enum FdError {
    /// None came with the command.
    #[error("No file descriptor supplied via SCM_RIGHTS")]
    NotSent,
    /// A name that would be taken for a number.
    #[error("Parameter 'fdname' expects a name not starting with a digit")]
    BadName,
    /// None is kept under this name, or in this set.
    #[error("File descriptor named '{0}' not found")]
    NotFound(String),
    /// The same, where one is to be used.
    #[error("File descriptor named '{0}' has not been found")]
    NoName(String),
    /// What begins like a number is none.
    #[error("Invalid file descriptor number '{0}'")]
    BadNumber(String),
    /// None of this number was inherited, or somebody has taken it.
    #[error("File descriptor '{0}' is not open or is in use already")]
    NotInherited(i32),
    /// `add-fd` names a set below zero.
    #[error("Parameter 'fdset-id' expects a non-negative value")]
    NegativeSet,
    /// `-add-fd` names standard input, output or error.
    #[error("fd cannot be a standard I/O stream")]
    Standard,
    /// `-add-fd` names a descriptor below zero.
    #[error("fd option is required and must be non-negative")]
    NegativeFdOption,
    /// `-add-fd` names a set below zero.
    #[error("set option is required and must be non-negative")]
    NegativeSetOption,
    /// `-add-fd` names a descriptor that was not inherited.
    #[error("fd is not valid or already in use")]
    NotDeclared,
    /// The process has no room for another one.
    #[error("error duplicating fd: {}", reason(.0))]
    Duplicate(io::Error),
    /// Every number is that of a set.
    #[error("No free fd set")]
    NoFreeSet,
}

impl QmpError for FdError {}

/// Options of a character device that are missing, unknown or contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// `-chardev` without `id=`.
    #[error("chardev: no id specified")]
    NoId,
    /// `-chardev` without a back end.
    #[error("chardev: \"{0}\" missing backend")]
    NoBackend(String),
    /// There is no back end of this name.
    #[error("'{0}' is not a valid char driver name")]
    NoSuchBackend(String),
    /// The same, and of an address, in QMP.
    #[error("Parameter 'type' does not accept value '{0}'")]
    NoSuchType(String),
    /// A virtual console would be shown somewhere.
    #[error("'vc' is not supported: there is no display for a virtual console")]
    NoDisplay,
    /// A back end lacks what it cannot be without; the text names both.
    #[error("{0}")]
    Required(&'static str),
    /// A member must be given.
    #[error("Parameter '{0}' is missing")]
    Missing(String),
    /// There is no such member.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// The value is of another JSON type.
    #[error("Invalid parameter type for '{name}', expected: {expected}")]
    WrongType {
        /// The key or member.
        name: String,
        /// The JSON type that it has.
        expected: &'static str,
    },
    /// The text is of another form.
    #[error("Parameter '{key}' expects {what}")]
    Expects {
        /// The key.
        key: String,
        /// The form.
        what: &'static str,
    },
    /// The size of a ring buffer is no size.
    #[error("Parameter 'size' expects a non-negative number below 2^64")]
    Size,
    /// A socket has two addresses.
    #[error("None or one of 'path', 'fd' or 'host' option required.")]
    SeveralAddresses,
    /// A descriptor's number is none.
    #[error("Unable to parse FD number {0}")]
    FdNumber(String),
    /// Datagrams go between addresses of the internet.
    #[error("datagrams need an address of type 'inet'")]
    NotInet,
    /// WebSocket is not spoken.
    #[error("'websocket' is not supported by socket character devices")]
    Websocket,
    /// No object is TLS credentials.
    #[error("No TLS credentials with id '{0}'")]
    NoTlsCredentials(String),
    /// Authorization of whom nobody has authenticated.
    #[error("'tls_authz' option requires 'tls_creds' option")]
    TlsAuthorization,
    /// A client has nobody to wait for.
    #[error("'wait' option is incompatible with socket in client connect mode")]
    ClientWaits,
    /// The interval is given in seconds and in milliseconds.
    #[error("'reconnect' and 'reconnect-ms' are mutually exclusive")]
    TwoIntervals,
    /// A server connects to nobody.
    #[error("'{0}' option is incompatible with socket in server listen mode")]
    ServerReconnects(&'static str),
}

impl QmpError for OptionError {}

impl OptionError {
    pub(super) fn wrong_type(name: &str, expected: &'static str) -> Self {
        Self::WrongType {
            name: name.to_owned(),
            expected,
        }
    }

    pub(super) fn expects(key: &str, what: &'static str) -> Self {
        Self::Expects {
            key: key.to_owned(),
            what,
        }
    }
}

/// A back end, or the log of a character device, that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The descriptor it is made of.
    #[error(transparent)]
    Fd(#[from] FdError),
    /// A file, device or pipe.
    #[error("Could not open '{path}': {}", reason(error))]
    File {
        /// Its path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// A terminal does not take its settings.
    #[error("Could not set up '{path}': {}", reason(error))]
    SetUp {
        /// Its path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The process has other guests too.
    #[error("standard input and output are the server's")]
    StdioOfServer,
    /// Another character device has standard input and output.
    #[error("cannot use stdio by multiple character devices")]
    StdioInUse,
    /// Standard input or output cannot be used.
    #[error("cannot use stdio: {}", reason(.0))]
    Stdio(io::Error),
    /// A multiplexer has no outside.
    #[error("a multiplexer cannot be switched to")]
    Multiplexer,
    /// The log is a member of a set that has none like it.
    #[error("Could not dup FD for {path} flags {flags:x}: {}", reason(error))]
    LogDescriptor {
        /// The set's path.
        path: String,
        /// How it was to be opened (`open(2)`).
        flags: i32,
        /// Why not.
        error: io::Error,
    },
    /// The log is a file that cannot be made.
    #[error("Could not create '{path}': {}", reason(error))]
    Log {
        /// Its path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// A socket for datagrams cannot be waited for.
    #[error("Unable to watch a datagram socket: {}", reason(.0))]
    WatchDatagrams(io::Error),
    /// A listening socket cannot be waited for.
    #[error("Unable to watch a listening socket: {}", reason(.0))]
    WatchListener(io::Error),
    /// There are no more pseudo-terminals.
    #[error("Failed to create PTY: {}", reason(.0))]
    Pty(io::Error),
    /// The link to a pseudo-terminal cannot be made.
    #[error("Failed to create PTY symlink: {}", reason(.0))]
    PtyLink(io::Error),
    /// The size of a ring buffer is no power of two.
    #[error("size of ringbuf chardev must be power of two")]
    OddRingbuf,
    /// There is no address space for so large a ring buffer.
    #[error("size of ringbuf chardev is too large")]
    LargeRingbuf,
    /// Nobody can be listened to at a path.
    #[error("Failed to listen on socket {path}: {}", reason(error))]
    Listen {
        /// The path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// Nobody can be listened to by a descriptor.
    #[error("Failed to listen on fd socket: {}", reason(.0))]
    ListenFd(io::Error),
    /// Nobody listens there.
    #[error("Failed to connect to '{to}': {}", reason(error))]
    Connect {
        /// The path, or host and port.
        to: String,
        /// Why not.
        error: io::Error,
    },
    /// The descriptor is something else.
    #[error("File descriptor '{0}' is not a socket")]
    NotASocket(String),
    /// What is at the path cannot be removed.
    #[error("Failed to unlink socket {path}: {}", reason(error))]
    Unlink {
        /// The path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The path cannot be had.
    #[error("Failed to bind socket to {path}: {}", reason(error))]
    Bind {
        /// The path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// An address has no room for such a path.
    #[error("UNIX socket path '{path}' is too long\nPath must be less than {limit} bytes")]
    LongPath {
        /// The path.
        path: String,
        /// What it must stay below, in bytes.
        limit: usize,
    },
    /// The path is none.
    #[error("UNIX socket path '{path}' is not valid: {}", reason(error))]
    BadPath {
        /// The path.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// All ports of the range are taken.
    #[error("Failed to find an available port: {}", reason(.0))]
    NoFreePort(io::Error),
    /// A host's name stands for no address.
    #[error("address resolution failed for {host}:{port}: {why}")]
    Resolve {
        /// The host.
        host: String,
        /// The port.
        port: String,
        /// What the resolver says.
        why: String,
    },
}

impl QmpError for OpenError {}

/// Something that cannot be done with a character device.
#[derive(Debug, thiserror::Error)]
pub enum ChardevError {
    /// Its options are wrong.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be added, as a command asked for.
    #[error("Failed to add chardev '{id}': {cause}")]
    Add {
        /// Its id.
        id: String,
        /// Why not.
        cause: Box<ChardevError>,
    },
    /// There is one of this id.
    #[error("Chardev with id '{0}' already exists")]
    Exists(String),
    /// There is none to remove, or to send a break to.
    #[error("Chardev '{0}' not found")]
    NotFound(String),
    /// There is none to replace.
    #[error("Chardev '{0}' does not exist")]
    DoesNotExist(String),
    /// There is none to use.
    #[error("chardev \"{0}\" not found")]
    NoChardev(String),
    /// There is none to read from or write to.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// There is none to multiplex.
    #[error("mux: base chardev {0} not found")]
    NoBase(String),
    /// Somebody uses it.
    #[error("Chardev '{0}' is busy")]
    Busy(String),
    /// The same, where it is to be used.
    #[error("chardev '{0}' is already in use")]
    InUse(String),
    /// A multiplexer is not replaced.
    #[error("Mux device hotswap not supported yet")]
    SwapOfMux,
    /// Its user would notice.
    #[error("Chardev user does not support chardev hotswap")]
    SwapOfUsed,
    /// A multiplexer has as many users as it can have.
    #[error("too many uses of multiplexed chardev '{id}' (maximum is {max})")]
    TooManyUsers {
        /// The multiplexer.
        id: String,
        /// How many users it can have.
        max: usize,
    },
    /// There is no line to the guest.
    #[error("cannot connect chardev '{id}' to its guest: {}", reason(error))]
    Line {
        /// The character device.
        id: String,
        /// Why not.
        error: io::Error,
    },
    /// Nothing is to be read.
    #[error("size must be greater than zero")]
    NoSize,
    /// What is to be written is not in base 64.
    #[error("Base64 data contains invalid characters")]
    Base64,
    /// Only ring buffers are read and written.
    #[error("{0} is not a ringbuf device")]
    NotARingbuf(String),
}

impl QmpError for ChardevError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoChardev(_) => ErrorClass::DeviceNotFound,
            Self::Add { cause, .. } => cause.class(),
            _ => ErrorClass::GenericError,
        }
    }
}
