//! A pseudo-terminal as back end.
//!
//! Whether somebody has the terminal open is only known by asking: the kernel reports a hang-up on our end while nobody
//! has, but no event when that changes. So it is asked once a second, and whenever the guest sends something.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::OpenError;
use super::port::{BackPort, Chunk};
use super::raw_fd;

/// How often it is asked whether somebody has opened the terminal.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is asked whether the last bytes have been read.
const LAST_INTERVAL: Duration = Duration::from_millis(1);
/// The most bytes one read takes.
const READ_SIZE: usize = 4096;

/// A pseudo-terminal.
#[derive(Debug)]
pub(super) struct Pty {
    master: OwnedFd,
    path: String,
    link: Option<Link>,
}

/// A symbolic link to the terminal, removed with it.
#[derive(Debug)]
struct Link(PathBuf);

impl Pty {
    /// Makes a terminal in raw mode, and a link to it.
    ///
    /// # Errors
    /// There are no more terminals, or the link cannot be made.
    pub(super) fn open(link: Option<&str>) -> Result<Self, OpenError> {
        let (master, path) = open_terminal().map_err(|errno| OpenError::Pty(errno.into()))?;
        let link = match link {
            Some(link) => {
                std::os::unix::fs::symlink(&path, link).map_err(OpenError::PtyLink)?;
                Some(Link(link.into()))
            }
            None => None,
        };
        Ok(Self { master, path, link })
    }

    /// The path of the terminal.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Carries bytes whenever somebody has the terminal open.
    pub(super) async fn run(self, port: &mut BackPort) {
        let Self { master, path, link } = self;
        let name = format!("pty:{path}");
        port.input.rename(name.as_str());
        loop {
            wait_until_open(&master, port).await;
            port.input.opened(name.as_str());
            // The registration is as old as the opening, since a hang-up once reported is never forgotten.
            let Ok(watched) = master.try_clone().and_then(raw_fd::watch_or_close) else {
                tracing::warn!("cannot watch {path}");
                break;
            };
            let BackPort { input, output } = &mut *port;
            let inbound = async {
                while let Ok(bytes) = watched.async_io(Interest::READABLE, read_some).await {
                    input.data(Chunk { bytes, fds: Vec::new() }).await;
                }
            };
            let outbound = async {
                loop {
                    let bytes = output.recv().await;
                    if write_all(&watched, &bytes).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = inbound => {}
                () = outbound => {}
            }
            drop(watched);
            input.closed(name.as_str());
        }
        drop(link);
        port.output.discard().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Drops what the guest sends until somebody has opened the terminal.
async fn wait_until_open(master: &OwnedFd, port: &mut BackPort) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        // What is sent right after the opening must not be lost, so the next bytes are only taken if nobody is there.
        if is_open(master) {
            return;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = port.output.waiting() => {
                if !is_open(master) {
                    port.output.try_recv().await;
                }
            }
        }
    }
}

/// Waits until whoever has the terminal `path` open has read all that was written to it: what is unread when our end
/// closes is lost.
pub(super) async fn read_to_end(path: &str) {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(terminal) = open(path, flags, Mode::empty()) else {
        return;
    };
    while has_unread(&terminal) {
        tokio::time::sleep(LAST_INTERVAL).await;
    }
}

/// Whether something can be read from the terminal.
fn has_unread(terminal: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Whether somebody has the terminal open.
fn is_open(master: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(_) => fds[0]
            .revents()
            .is_some_and(|events| !events.contains(PollFlags::POLLHUP)),
        Err(_) => false,
    }
}

fn open_terminal() -> nix::Result<(OwnedFd, String)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    // Opening and closing the other end once also makes the kernel report from now on that nobody has it open.
    let terminal = open(
        Path::new(&path),
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut settings = tcgetattr(&terminal)?;
    cfmakeraw(&mut settings);
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &settings)?;
    Ok((master.into(), path))
}

fn read_some(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; READ_SIZE];
    let count = nix::unistd::read(fd, &mut bytes)?;
    if count == 0 {
        return Err(Errno::EIO.into());
    }
    bytes.truncate(count);
    Ok(bytes)
}

async fn write_all(watched: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = watched
            .async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, bytes)?))
            .await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn last_bytes_are_waited_for_until_they_are_read() {
        let pty = Pty::open(None).unwrap();
        read_to_end(pty.path()).await;
        let mut terminal = std::fs::File::open(pty.path()).unwrap();
        nix::unistd::write(&pty.master, b"last words").unwrap();
        for part in ["last ", "words"] {
            tokio::select! {
                biased;
                () = read_to_end(pty.path()) => panic!("there is still something to read"),
                () = tokio::task::yield_now() => {}
            }
            let mut bytes = [0; 5];
            terminal.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, part.as_bytes());
        }
        read_to_end(pty.path()).await;
    }
}
