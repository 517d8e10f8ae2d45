//! What a guest moves through: sockets, programs, files, and descriptors that came from outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Whence, ftruncate, lseek};
use serde_json::Value;
use tokio::net::UnixStream;

use super::address::{Listener, connect_to};
use super::options::{InetAddress, SocketAddress, UnixAddress};
use super::{FdAddress, FdTable};
use crate::ipc::socket;
use crate::qapi::Error;
use crate::qapi::qmp::{FileMigrationArgs, MigrationAddress, SocketAddress as QmpAddress};
use crate::qapi::visit::{Policy, decode_arguments};
use crate::report::reason;

/// Opens what a guest leaves through: a `MigrationAddress` in JSON.
///
/// # Errors
/// Names what cannot be reached, opened or started.
pub async fn leave(address: &str, fds: &FdTable) -> Result<OwnedFd, Error> {
    match decode(address)? {
        MigrationAddress::Socket(QmpAddress::Fd(fd)) => Ok(fds.resolve(&fd.str)?),
        MigrationAddress::Socket(address) => Ok(connect_to(&socket_address(address), fds).await?),
        MigrationAddress::Exec(command) => start(&command.args),
        MigrationAddress::File(file) => open(&file, fds, OFlag::O_CREAT | OFlag::O_WRONLY),
    }
}

/// Opens what a guest arrives through, in the same form. Returns a socket over which the descriptor comes once the source is
/// there; a listening socket is closed when that is closed at the other end.
///
/// # Errors
/// Names what cannot be listened on, opened or started.
pub async fn arrive(address: &str, fds: &FdTable) -> Result<OwnedFd, Error> {
    let (ours, theirs) = StdStream::pair().map_err(|error| failed("a socket", &error))?;
    let ready = match decode(address)? {
        MigrationAddress::Socket(QmpAddress::Fd(fd)) => fds.resolve(&fd.str)?,
        MigrationAddress::Socket(address) => {
            let listener = Listener::new(&socket_address(address), fds).await?;
            ours.set_nonblocking(true).map_err(|error| failed("a socket", &error))?;
            let ours = UnixStream::from_std(ours).map_err(|error| failed("a socket", &error))?;
            tokio::task::spawn_local(hand_over(listener, ours));
            return Ok(theirs.into());
        }
        MigrationAddress::Exec(command) => start(&command.args)?,
        MigrationAddress::File(file) => open(&file, fds, OFlag::O_RDONLY)?,
    };
    socket::send(&ours, &[1], &[ready.as_fd()]).map_err(|error| failed("a socket", &error))?;
    Ok(theirs.into())
}

/// Waits for the source, unless nobody waits for it any more.
async fn hand_over(listener: Listener, to: UnixStream) {
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        _ = to.readable() => return,
    };
    match accepted {
        Ok(source) => {
            if let Err(error) = socket::send(&to, &[1], &[source.as_fd()]) {
                tracing::warn!(%error, "a guest that arrives cannot be handed over");
            }
        }
        // The other end sees that nobody will come.
        Err(error) => tracing::warn!(%error, "nobody can connect any more"),
    }
}

fn decode(address: &str) -> Result<MigrationAddress, Error> {
    match serde_json::from_str(address) {
        Ok(Value::Object(members)) => decode_arguments(members, Policy::ACCEPT_ALL),
        _ => Err(Error::generic("an address that cannot be understood")),
    }
}

fn socket_address(address: QmpAddress) -> SocketAddress {
    match address {
        QmpAddress::Inet(inet) => SocketAddress::Inet(InetAddress {
            host: inet.host,
            port: inet.port,
            to: inet.to,
            ipv4: inet.ipv4,
            ipv6: inet.ipv6,
        }),
        QmpAddress::Unix(unix) => SocketAddress::Unix(UnixAddress {
            path: unix.path,
            abstract_name: unix.r#abstract.unwrap_or(false),
            tight: unix.tight.unwrap_or(true),
        }),
        QmpAddress::Fd(fd) => SocketAddress::Fd(FdAddress::Named(fd.str)),
    }
}

/// Opens a file at the byte where the guest begins; what is there is cut off if it is to be written.
fn open(file: &FileMigrationArgs, fds: &FdTable, flags: OFlag) -> Result<OwnedFd, Error> {
    let FileMigrationArgs { filename, offset } = file;
    let fail = |error: &io::Error| failed(filename, error);
    let opened = fds.open_path(filename, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let opened = opened.map_err(|error| fail(&error))?;
    let at = i64::try_from(*offset).map_err(|error| fail(&io::Error::other(error)))?;
    if flags.contains(OFlag::O_WRONLY) {
        ftruncate(&opened, at).map_err(|errno| fail(&errno.into()))?;
    }
    lseek(&opened, at, Whence::SeekSet).map_err(|errno| fail(&errno.into()))?;
    Ok(opened)
}

/// Starts a program whose input and output are the other end of what is returned.
fn start(args: &[String]) -> Result<OwnedFd, Error> {
    let [program, args @ ..] = args else {
        return Err(Error::generic("Parameter 'args' expects a program"));
    };
    let fail = |error: io::Error| failed(program, &error);
    let (ours, theirs) = StdStream::pair().map_err(fail)?;
    let theirs = OwnedFd::from(theirs);
    let input = theirs.try_clone().map_err(fail)?;
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(theirs))
        .spawn();
    let mut child = child.map_err(fail)?;
    let waiting = std::thread::Builder::new().name("program".into());
    let waiting = waiting.spawn(move || match child.wait() {
        Ok(status) => tracing::debug!(%status, "a program through which a guest moved has ended"),
        Err(error) => tracing::warn!(%error, "a program through which a guest moved"),
    });
    waiting.map_err(fail)?;
    Ok(ours.into())
}

fn failed(what: &str, error: &io::Error) -> Error {
    Error::generic(format!("Failed to open '{what}': {}", reason(error)))
}
