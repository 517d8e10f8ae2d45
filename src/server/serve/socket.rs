//! Paths of sockets that the server makes: what is there already is not always its own.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};

use crate::chardev::SocketFile;
use crate::report;

/// Checks that a socket can be made at `path`: nothing is there, or a socket that nobody listens on any more.
///
/// # Errors
/// Says what is there.
pub(super) fn check_free(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{shown}: {}", report::reason(&error))),
        Ok(there) if !there.file_type().is_socket() => Err(format!("{shown}: exists and is no socket")),
        Ok(_) => match is_listened_on(path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(format!("{shown}: somebody listens there")),
            Err(error) => Err(format!("{shown}: {}", report::reason(&error))),
        },
    }
}

/// Listens at `path`, for this user alone. What a former server left there is replaced.
///
/// # Errors
/// Says what is in the way.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, Option<SocketFile>), String> {
    check_free(path)?;
    let failed = |error: io::Error| format!("{}: {}", path.display(), report::reason(&error));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, SocketFile::new(path)))
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(std::os::fd::AsRawFd::as_raw_fd(&client), &UnixAddr::new(path)?) {
        // Its queue is full: somebody is there, and busy.
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        // Another kind of socket is nobody's to replace.
        Err(Errno::EPROTOTYPE) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_apart() {
        let directory = std::env::temp_dir().join(format!("remuda-socket-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("s");
        assert_eq!(check_free(&path), Ok(()));
        std::fs::write(&path, "mine").unwrap();
        assert!(listen(&path).unwrap_err().contains("exists and is no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_file(&path).unwrap();
        let (listener, file) = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().contains("somebody listens"));
        drop(listener);
        assert_eq!(check_free(&path), Ok(()));
        drop(file);
        assert!(!path.exists());
        std::fs::remove_dir(&directory).unwrap();
    }
}
