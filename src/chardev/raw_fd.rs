//! Descriptors: taking ownership of numbers, and waiting for what is owned.
#![expect(unsafe_code, reason = "who owns a descriptor number is beyond the type system")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::io::unix::AsyncFd;

/// Takes over descriptor `number` and closes it on exec.
///
/// The caller vouches that nothing else in this process owns the number: it was inherited from the parent process
/// or just received from the kernel. The result is none if the number is not an open descriptor.
pub(super) fn adopt(number: RawFd) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: the number is not -1, and the borrow ends before ownership is taken. Should the number not be open,
    // `fcntl` answers EBADF and nothing else happens.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: the number is open, as `fcntl` just told, and by this function's contract nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets the runtime wait until `fd` can be read or written. The descriptor comes back with an error.
pub(super) fn watch(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>, (OwnedFd, io::Error)> {
    // SAFETY: an `OwnedFd` names the same open file from its creation to its drop, and it moves into the `AsyncFd`,
    // which hands out shared references only as long as nobody asks for `get_mut`, which nobody does.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(tokio::io::unix::AsyncFdRegisterError::into_parts)
}

/// As [`watch`], where an error is no reason to keep the descriptor.
pub(super) fn watch_or_close(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(fd).map_err(|(_, error)| error)
}
