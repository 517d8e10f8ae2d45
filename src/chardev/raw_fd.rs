//! Waiting for descriptors.
#![expect(
    unsafe_code,
    reason = "that a descriptor stays the same one is beyond the type system"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the runtime wait until `fd` can be read or written. The descriptor comes back with an error.
pub(crate) fn watch(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>, (OwnedFd, io::Error)> {
    // SAFETY: an `OwnedFd` names the same open file from its creation to its drop, and it moves into the `AsyncFd`,
    // which hands out shared references only as long as nobody asks for `get_mut`, which nobody does.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(tokio::io::unix::AsyncFdRegisterError::into_parts)
}

/// As [`watch`], where an error is no reason to keep the descriptor.
pub(super) fn watch_or_close(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(fd).map_err(|(_, error)| error)
}
