//! Locks that keep programs from using an image at the same time as others (QEMU's among them).
//!
//! Each permission has two bytes of the file, far from each other: one is locked, for reading, by whoever takes the permission,
//! the other by whoever does not share it. The locks belong to the open file, so that they hold between nodes of one
//! process as well.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::block::{BlockError, Use};

/// Where the bytes begin of permissions that are taken.
const TAKEN: i64 = 100;
/// Where the bytes begin of permissions that are not shared.
const UNSHARED: i64 = 200;

/// Whether the file's file system has such locks.
pub(super) fn is_supported(file: &File) -> bool {
    let mut lock = range(libc::F_WRLCK, TAKEN);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok()
}

/// Changes the locks from what `from` says to what `to` says. After an error they are as before.
///
/// # Errors
/// Somebody else uses the file in a way that does not go together with it.
pub(super) fn change(file: &File, from: Use, to: Use) -> Result<(), BlockError> {
    set(file, to).and_then(|()| check(file, to)).inspect_err(|_| {
        release(file, from);
    })?;
    release(file, to);
    Ok(())
}

fn set(file: &File, wanted: Use) -> Result<(), BlockError> {
    for (number, name) in wanted.takes.each() {
        lock(file, TAKEN + i64::from(number)).map_err(|errno| failed(errno, name, ""))?;
    }
    for (number, name) in (!wanted.shares).each() {
        lock(file, UNSHARED + i64::from(number)).map_err(|errno| failed(errno, name, "shared "))?;
    }
    Ok(())
}

/// Looks whether somebody else does not share what is taken, or takes what is not shared.
fn check(file: &File, wanted: Use) -> Result<(), BlockError> {
    for (number, name) in wanted.takes.each() {
        ask(file, UNSHARED + i64::from(number)).map_err(|errno| failed(errno, name, ""))?;
    }
    for (number, name) in (!wanted.shares).each() {
        ask(file, TAKEN + i64::from(number)).map_err(|errno| failed(errno, name, "shared "))?;
    }
    Ok(())
}

/// Lets go of all locks but those of `kept`.
fn release(file: &File, kept: Use) {
    let permissions = [(TAKEN, !kept.takes), (UNSHARED, kept.shares)];
    for (start, unlocked) in permissions {
        for (number, _) in unlocked.each() {
            let lock = range(libc::F_UNLCK, start + i64::from(number));
            if let Err(errno) = fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
                tracing::warn!("an image's lock is kept: {}", errno.desc());
            }
        }
    }
}

fn lock(file: &File, at: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, at))).map(|_| ())
}

fn ask(file: &File, at: i64) -> Result<(), Errno> {
    let mut lock = range(libc::F_WRLCK, at);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    match i32::from(lock.l_type) {
        libc::F_UNLCK => Ok(()),
        _ => Err(Errno::EAGAIN),
    }
}

fn failed(errno: Errno, name: &str, shared: &str) -> BlockError {
    match errno {
        Errno::EAGAIN | Errno::EACCES => BlockError::Invalid(format!("Failed to get {shared}\"{name}\" lock")),
        other => BlockError::Io(other),
    }
}

fn range(kind: libc::c_int, at: i64) -> libc::flock {
    libc::flock {
        // The values are 0 to 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}
