//! The descriptor over which a guest moves.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::{SFlag, fstat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Tells whoever waits at a channel to give up, for good. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    told: AtomicBool,
    event: EventFd,
}

impl Cancel {
    /// Nobody is told yet.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Inner {
            told: AtomicBool::new(false),
            event,
        })))
    }

    /// Tells.
    pub fn cancel(&self) {
        self.0.told.store(true, Ordering::Release);
        // The only error is that the counter is full, and then it is readable.
        let _ = self.0.event.write(1);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.told.load(Ordering::Acquire)
    }

    /// Waits for so long.
    ///
    /// # Errors
    /// It is told to give up.
    pub(super) fn sleep(&self, time: Duration) -> io::Result<()> {
        let limit = Timespec::try_from(time).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0.event, PollFlags::IN)], Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => self.check(),
            Err(errno) => Err(errno.into()),
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.is_cancelled() {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, Cancelled)),
            false => Ok(()),
        }
    }

    /// Waits until `fd` is ready.
    ///
    /// # Errors
    /// It is told to give up, or what the system said.
    pub fn wait(&self, fd: impl AsFd, wanted: PollFlags) -> io::Result<()> {
        loop {
            self.check()?;
            let mut fds = [PollFd::new(&fd, wanted), PollFd::new(&self.0.event, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().is_empty() => {}
                Ok(_) => return self.check(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Why an operation at a channel was given up.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

/// Whether an error is that of [`Cancel`].
pub(super) fn is_cancel(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}

/// A descriptor that is waited for until [`Cancel`] says otherwise: a socket, a pipe or a file.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    cancel: Cancel,
}

impl Channel {
    /// Takes over a descriptor. A write to it never waits in the kernel; that it is so for everybody who has the same open
    /// file is of no account to whoever handed it over for this.
    ///
    /// # Errors
    /// It is no descriptor that can be waited for.
    pub fn new(fd: OwnedFd, cancel: Cancel) -> io::Result<Self> {
        let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFREG {
            let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
            fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        Ok(Self { fd, cancel })
    }

    /// A second channel over the same descriptor.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            cancel: self.cancel.clone(),
        })
    }

    /// Nothing but its other end makes it give up from now on.
    ///
    /// # Errors
    /// It was told to give up before, or the process has no descriptor left.
    pub fn commit(&mut self) -> io::Result<()> {
        self.cancel.check()?;
        self.cancel = Cancel::new()?;
        Ok(())
    }

    /// What makes it give up.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Read for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.cancel.wait(&self.fd, PollFlags::IN)?;
            match rustix::io::read(&self.fd, &mut *bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.cancel.wait(&self.fd, PollFlags::OUT)?;
            match rustix::io::write(&self.fd, bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn whoever_waits_gives_up_when_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let cancel = Cancel::new().unwrap();
        let mut channel = Channel::new(ours.into(), cancel.clone()).unwrap();
        let reader = std::thread::spawn(move || {
            let error = channel.read(&mut [0; 8]).unwrap_err();
            (is_cancel(&error), channel.write(b"x").is_err())
        });
        cancel.cancel();
        assert_eq!(reader.join().unwrap(), (true, true));
        drop(theirs);
        assert!(is_cancel(&cancel.sleep(Duration::from_secs(60)).unwrap_err()));
    }

    #[test]
    fn what_was_committed_is_not_given_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let cancel = Cancel::new().unwrap();
        let mut channel = Channel::new(ours.into(), cancel.clone()).unwrap();
        channel.commit().unwrap();
        cancel.cancel();
        let reader = std::thread::spawn(move || {
            let mut byte = [0];
            channel.read_exact(&mut byte).map(|()| byte[0])
        });
        theirs.write_all(b"!").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), b'!');

        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(ours.into(), cancel).unwrap();
        assert!(is_cancel(&channel.commit().unwrap_err()));
    }

    #[test]
    fn the_end_of_the_other_side_is_told_from_giving_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(ours.into(), Cancel::new().unwrap()).unwrap();
        drop(theirs);
        assert_eq!(channel.read(&mut [0; 8]).unwrap(), 0);
        let error = channel.write(b"x").unwrap_err();
        assert!(!is_cancel(&error) && error.kind() == io::ErrorKind::BrokenPipe);
    }
}
