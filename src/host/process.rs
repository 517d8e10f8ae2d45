//! Processes: forking, and holding a process by a descriptor, which never means another one.
#![expect(unsafe_code, reason = "fork, _exit and close_range have no safe form")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getppid, kill_process, pidfd_open, pidfd_send_signal,
    waitid, waitpid,
};

/// Which side of a fork this process is.
#[derive(Debug)]
pub enum Fork {
    /// The parent, with the child.
    Parent(Process),
    /// The child.
    Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Another process: a child, or the parent of this one.
#[derive(Debug)]
pub struct Process {
    number: i32,
    fd: OwnedFd,
}

/// Forks this process.
///
/// # Errors
/// What the system said; also `EAGAIN` when this process has more than one thread, since a child would
/// inherit locks that nobody releases.
pub fn fork() -> io::Result<Fork> {
    if !has_one_thread() {
        return Err(Errno::EAGAIN.into());
    }
    // SAFETY: the process has a single thread, so no lock is held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Fork::Child),
        ForkResult::Parent { child } => {
            let pid = Pid::from_raw(child.as_raw()).ok_or(Errno::ESRCH)?;
            // Nobody waits for the child before it is held, so the number is still its own.
            let held = Process::hold(pid);
            if held.is_err() {
                // Nobody could tell it anything, nor hear of its end.
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
            held.map(Fork::Parent)
        }
    }
}

/// Whether this process has no thread but the calling one.
fn has_one_thread() -> bool {
    use std::os::unix::fs::MetadataExt;
    match unshare(CloneFlags::CLONE_THREAD) {
        // A process with one thread has nothing to unshare; one with more cannot.
        Ok(()) => true,
        // A container may forbid the call, and a user-mode emulator has threads of its own, which /proc does not count in
        // its guest. A directory of N subdirectories has N + 2 links.
        Err(_) => std::fs::metadata("/proc/self/task").is_ok_and(|task| task.nlink() == 3),
    }
}

/// Has the kernel send this process `signal` when the thread dies that forked it, and tells whether `parent` is still
/// there.
///
/// # Errors
/// What the system said.
pub fn watch_parent(parent: nix::unistd::Pid, signal: nix::sys::signal::Signal) -> io::Result<bool> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    Ok(nix::unistd::getppid() == parent)
}

/// Ends this process at once, without running anything that was registered for its end.
pub fn end_now(status: u8) -> ! {
    // SAFETY: nothing of this process runs afterwards.
    unsafe { nix::libc::_exit(i32::from(status)) }
}

/// Runs `work` in a child process that has no descriptor but the standard ones and `keep`, and ends with the status that
/// `work` returns. `keep` is closed in this process.
///
/// # Errors
/// As for [`fork`].
pub fn spawn<T: HoldsNoDescriptor>(
    keep: Vec<OwnedFd>,
    with: T,
    work: fn(Vec<OwnedFd>, T) -> u8,
) -> io::Result<Process> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            let run = || {
                // SAFETY: what else this copy of the process owns is not used again: `with` owns no descriptor, `work`
                // captures nothing, and this process ends here.
                match unsafe { close_all_but(&keep) } {
                    Ok(()) => work(keep, with),
                    Err(error) => {
                        crate::report::error(format!("cannot close descriptors: {}", crate::report::reason(&error)));
                        1
                    }
                }
            };
            // A panic must not get back into the caller's copy of its own code; it has said what it is about.
            end_now(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(101))
        }
    }
}

/// A type whose values own no descriptor.
///
/// # Safety
/// True of every value.
pub unsafe trait HoldsNoDescriptor {}

// SAFETY: a number.
unsafe impl HoldsNoDescriptor for nix::unistd::Pid {}
// SAFETY: as its parts.
unsafe impl<A: HoldsNoDescriptor, B: HoldsNoDescriptor> HoldsNoDescriptor for (A, B) {}

/// Closes every descriptor of this process but the standard ones and `keep`.
///
/// # Safety
/// No value that owns another descriptor is used or dropped afterwards.
unsafe fn close_all_but(keep: &[OwnedFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().filter(|number| *number > 2) {
        if first < number {
            // SAFETY: by this function's own contract.
            unsafe { close_range(first, number - 1) }?;
        }
        first = number + 1;
    }
    // SAFETY: by this function's own contract.
    unsafe { close_range(first, u32::MAX) }
}

/// Closes the descriptors from `first` to `last`.
///
/// # Safety
/// No value that owns one of them is used or dropped afterwards.
unsafe fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: a plain system call; what it closes is not used again, by this function's own contract.
    match unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Process {
    /// The process that forked this one; none if it is gone.
    #[must_use]
    pub fn parent() -> Option<Self> {
        let pid = getppid()?;
        let held = Self::hold(pid).ok()?;
        // A parent that is still the same has not ended in between, and its number was not given to another.
        (getppid() == Some(pid)).then_some(held)
    }

    fn hold(pid: Pid) -> io::Result<Self> {
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            number: pid.as_raw_nonzero().get(),
            fd,
        })
    }

    /// A process that another one has handed over: its number and its pidfd.
    #[must_use]
    pub fn from_parts(number: i32, fd: OwnedFd) -> Self {
        Self { number, fd }
    }

    /// Its number and its pidfd, to be handed to another process.
    #[must_use]
    pub fn into_parts(self) -> (i32, OwnedFd) {
        (self.number, self.fd)
    }

    /// The number that people know it by. Once it was waited for, another process may have it.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Asks it to end (`SIGTERM`). One that has ended already is as good.
    pub fn terminate(&self) {
        let _ = pidfd_send_signal(&self.fd, Signal::TERM);
    }

    /// Ends it (`SIGKILL`), stopped or not.
    pub fn kill(&self) {
        // It may have ended by itself in this instant.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Waits until it ends, for `limit` at most; tells whether it has.
    #[must_use]
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(_) if left.is_zero() => return false,
                Err(_) => {}
            }
        }
    }

    /// Waits for this child's end and lets the kernel forget it. None if it is no child of this process, or somebody
    /// else has waited for it.
    pub fn reap(&self) -> Option<Fate> {
        loop {
            match waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
                Ok(status) => {
                    let status = status?;
                    let exited = status.exit_status().map(Fate::Exited);
                    return exited.or_else(|| status.terminating_signal().map(Fate::Signaled));
                }
            }
        }
    }
}

/// The pidfd, which can be read from once the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "it ended with status {status}"),
            Self::Signaled(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(known) => write!(f, "it was ended by {known}"),
                Err(_) => write!(f, "it was ended by signal {signal}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_refuses_to_fork() {
        // The test harness runs this on a thread of its own.
        let error = fork().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EAGAIN as i32));
    }

    #[test]
    fn a_process_is_held_until_it_is_waited_for() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let held = Process::from_parts(pid.as_raw_nonzero().get(), fd);
        assert!(!held.wait_for_end(Duration::ZERO));
        held.kill();
        assert!(held.wait_for_end(Duration::from_secs(60)));
        assert_eq!(held.reap(), Some(Fate::Signaled(9)));
        assert_eq!(held.reap(), None);
        held.kill();
        held.terminate();
        assert!(child.wait().is_err(), "it was waited for already");
    }

    #[test]
    fn fates_are_told_in_words() {
        assert_eq!(Fate::Exited(3).to_string(), "it ended with status 3");
        assert_eq!(Fate::Signaled(9).to_string(), "it was ended by SIGKILL");
        assert_eq!(Fate::Signaled(35).to_string(), "it was ended by signal 35");
    }
}
