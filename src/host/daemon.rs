//! Leaving the terminal: `-daemonize`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::process::{Fork, fork};

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
    pub fn daemonize() -> std::io::Result<Self> {
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
