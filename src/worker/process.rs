//! Forking, daemonizing and the death of parents: the few calls that need `unsafe`.
#![expect(unsafe_code, reason = "fork and the adoption of descriptors have no safe form")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid};

/// Which side of a fork this process is.
#[derive(Debug)]
pub enum Fork {
    /// The parent, with the child's process id.
    Parent(Pid),
    /// The child.
    Child,
}

/// Forks this process.
///
/// # Errors
/// What the system said; also `EAGAIN` when this process has more than one thread, since a child would
/// inherit locks that nobody releases.
pub fn fork() -> nix::Result<Fork> {
    if thread_count() != Some(1) {
        return Err(Errno::EAGAIN);
    }
    // SAFETY: the process has a single thread, so no lock is held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// The number of threads of this process, from `/proc/self/status`'s link count of `task`.
fn thread_count() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    // A directory of N subdirectories has N + 2 links.
    let links = std::fs::metadata("/proc/self/task").ok()?.nlink();
    links.checked_sub(2)
}

/// Has the kernel send this process `signal` when its parent dies, and tells whether the parent is still alive.
///
/// # Errors
/// What the system said.
pub fn die_with_parent(parent: Pid, signal: Signal) -> nix::Result<bool> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    Ok(nix::unistd::getppid() == parent)
}

/// Takes over a descriptor that was inherited by number.
///
/// # Errors
/// `EBADF` when the number is not an open descriptor.
pub fn adopt_fd(number: RawFd) -> nix::Result<OwnedFd> {
    if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(Errno::EBADF);
    }
    // SAFETY: the descriptor is open, and by the contract of the command line it was passed for this one use.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Closes every descriptor of this process but the standard ones and those in `keep`.
///
/// Descriptors that a caller's values still hold must be in `keep`, or those values must never be used again.
pub fn close_all_but(keep: &[RawFd]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        if !keep.contains(&number) {
            // The descriptor of the listing itself is closed already.
            let _ = nix::unistd::close(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_refuses_to_fork() {
        // The test harness runs this on a thread of its own.
        assert!(matches!(fork(), Err(Errno::EAGAIN)));
    }

    #[test]
    fn a_closed_number_is_not_adopted() {
        assert_eq!(adopt_fd(987_654).map(|_| ()), Err(Errno::EBADF));
    }
}
