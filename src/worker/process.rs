//! Forking, daemonizing and the death of parents: the few calls that need `unsafe`.
#![expect(unsafe_code, reason = "fork and the adoption of descriptors have no safe form")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

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

/// Runs `work` in a child process with the write end of a pipe, and returns the child and the read end. The child keeps
/// no other descriptor but the standard ones and ends without running anything that this process registered for its end.
///
/// # Errors
/// As for [`fork`].
pub fn in_child(work: impl FnOnce(File)) -> nix::Result<(Pid, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match fork()? {
        Fork::Parent(pid) => Ok((pid, reader)),
        Fork::Child => {
            close_all_but(&[writer.as_raw_fd()]);
            work(File::from(writer));
            // SAFETY: ends the process at once; nothing of the parent's state in this copy is used again.
            unsafe { nix::libc::_exit(0) }
        }
    }
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

/// The promise of a daemon to tell its waiting parent how its start went.
#[derive(Debug)]
pub struct DaemonStatus {
    pipe: File,
}

impl DaemonStatus {
    /// Turns this process into a daemon of its own session. Returns in the daemon only: the calling process waits for
    /// [`DaemonStatus::ready`] and ends with status 0, or with 1 when the daemon ended without it.
    ///
    /// # Errors
    /// What the system said, in the calling process.
    pub fn daemonize() -> nix::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        if let Fork::Parent(_) = fork()? {
            drop(writer);
            let mut status = [1u8];
            let read = File::from(reader).read(&mut status).unwrap_or(0);
            std::process::exit(i32::from(read == 0 || status != [0]));
        }
        drop(reader);
        nix::unistd::setsid()?;
        if let Fork::Parent(_) = fork()? {
            // The session leader goes, so that the daemon can never get a controlling terminal.
            std::process::exit(0);
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        Ok(Self {
            pipe: File::from(writer),
        })
    }

    /// Lets the waiting parent end with status 0 and cuts this process off its terminal.
    ///
    /// # Errors
    /// What the system said.
    pub fn ready(mut self) -> std::io::Result<()> {
        detach_standard_streams()?;
        // The parent may have been killed meanwhile; the daemon goes on all the same.
        let _ = self.pipe.write_all(&[0]);
        Ok(())
    }
}

/// Moves to `/` and points the standard streams at `/dev/null`.
///
/// # Errors
/// What the system said.
pub fn detach_standard_streams() -> std::io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    nix::unistd::dup2_stderr(null.as_fd())?;
    Ok(())
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
