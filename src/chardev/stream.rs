//! Files, named pipes, standard input and output, and terminal devices as back end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::FdTable;
use super::error::OpenError;
use super::host_file::HostFile;
use super::port::{BackPort, Chunk};
use crate::report::{Voice, reason};

/// Whether a character device has standard input and output.
static STDIO_IN_USE: AtomicBool = AtomicBool::new(false);

/// A pair of open files, or one.
#[derive(Debug)]
pub(super) struct StreamBackend {
    name: &'static str,
    /// Where the output goes, for messages.
    path: String,
    input: Option<HostFile>,
    output: HostFile,
    /// What is undone at the end.
    restore: Option<Restore>,
    voice: Voice,
}

/// Standard input as it was before.
#[derive(Debug)]
struct Restore {
    input: OwnedFd,
    settings: Option<Termios>,
    flags: OFlag,
}

impl StreamBackend {
    /// A file, which may be a member of a set of descriptors.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) async fn file(
        output: &str,
        input: Option<&str>,
        append: bool,
        fds: &FdTable,
    ) -> Result<Self, OpenError> {
        let placement = if append { OFlag::O_APPEND } else { OFlag::O_TRUNC };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | placement;
        let input = match input {
            Some(path) => Some(open(fds, path, OFlag::O_RDONLY).await?),
            None => None,
        };
        Ok(Self {
            name: "file",
            path: output.to_owned(),
            input,
            output: open(fds, output, flags).await?,
            restore: None,
            voice: fds.voice(),
        })
    }

    /// Named pipes `PATH.in` and `PATH.out`; without them `PATH` for both directions.
    ///
    /// # Errors
    /// None of them exists.
    pub(super) async fn pipe(path: &str, fds: &FdTable) -> Result<Self, OpenError> {
        // Opened for both directions a pipe neither waits for its other end nor ends when that closes.
        let both = async |path: &str| open(fds, path, OFlag::O_RDWR).await;
        if let (Ok(input), Ok(output)) = (both(&format!("{path}.in")).await, both(&format!("{path}.out")).await) {
            return Ok(Self {
                name: "pipe",
                path: format!("{path}.out"),
                input: Some(input),
                output,
                restore: None,
                voice: fds.voice(),
            });
        }
        Self::both_ways("pipe", both(path).await?, path, fds)
    }

    /// A terminal device, set to raw mode.
    ///
    /// # Errors
    /// The device cannot be opened.
    pub(super) async fn serial(path: &str, fds: &FdTable) -> Result<Self, OpenError> {
        let device = open(fds, path, OFlag::O_RDWR).await?;
        if let Ok(mut settings) = tcgetattr(&device) {
            cfmakeraw(&mut settings);
            tcsetattr(&device, SetArg::TCSANOW, &settings).map_err(|errno| OpenError::SetUp {
                path: path.to_owned(),
                error: errno.into(),
            })?;
        }
        Self::both_ways("serial", device, path, fds)
    }

    /// Standard input and output. A terminal there passes on every key; with `signal` Ctrl-C still ends the emulator.
    ///
    /// # Errors
    /// Another character device has them, or they are not this guest's.
    pub(super) fn stdio(signal: bool, fds: &FdTable) -> Result<Self, OpenError> {
        if fds.is_one_among_many() {
            return Err(OpenError::StdioOfServer);
        }
        if STDIO_IN_USE.swap(true, Ordering::Relaxed) {
            return Err(OpenError::StdioInUse);
        }
        let opened = Restore::new(signal).and_then(|restore| {
            let input = HostFile::new(io::stdin().as_fd().try_clone_to_owned()?)?;
            let output = HostFile::new(io::stdout().as_fd().try_clone_to_owned()?)?;
            Ok(Self {
                name: "stdio",
                path: "standard output".to_owned(),
                input: Some(input),
                output,
                restore: Some(restore),
                voice: fds.voice(),
            })
        });
        opened.map_err(OpenError::Stdio)
    }

    fn both_ways(name: &'static str, file: HostFile, path: &str, fds: &FdTable) -> Result<Self, OpenError> {
        let input = file.as_fd().try_clone_to_owned().and_then(HostFile::new);
        let input = input.map_err(|error| cannot_open(path, error))?;
        Ok(Self {
            name,
            path: path.to_owned(),
            input: Some(input),
            output: file,
            restore: None,
            voice: fds.voice(),
        })
    }

    /// `query-chardev`'s file name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Carries bytes. The end of the input is not the end of the output.
    pub(super) async fn run(self, port: &mut BackPort) {
        port.input.opened(self.name);
        let BackPort { input, output } = port;
        let inbound = async {
            if let Some(file) = &self.input {
                while let Ok(bytes) = file.read().await {
                    if bytes.is_empty() {
                        break;
                    }
                    input.data(Chunk { bytes, fds: Vec::new() }).await;
                }
            }
        };
        let outbound = async {
            let mut fails = false;
            loop {
                let bytes = output.recv().await;
                let written = self.output.write_all(&bytes).await;
                match &written {
                    Err(error) if !fails => self.voice.warning(format!(
                        "cannot write to '{}': {}; what the guest prints is lost until that changes",
                        self.path,
                        reason(error)
                    )),
                    Ok(()) if fails => self.voice.warning(format!("'{}' can be written again", self.path)),
                    _ => {}
                }
                fails = written.is_err();
            }
        };
        tokio::join!(inbound, outbound);
        drop(self.restore);
    }
}

impl Restore {
    fn new(signal: bool) -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let flags = OFlag::from_bits_retain(nix::fcntl::fcntl(&input, nix::fcntl::FcntlArg::F_GETFL)?);
        let settings = tcgetattr(&input).ok();
        if let Some(mut raw) = settings.clone() {
            let output_flags = raw.output_flags;
            cfmakeraw(&mut raw);
            // Newlines keep their carriage return, for messages that are not the guest's.
            raw.output_flags = output_flags;
            raw.local_flags.set(LocalFlags::ISIG, signal);
            tcsetattr(&input, SetArg::TCSANOW, &raw)?;
        }
        Ok(Self { input, settings, flags })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(settings) = &self.settings {
            // A terminal that is gone needs no repair.
            let _ = tcsetattr(&self.input, SetArg::TCSANOW, settings);
        }
        let _ = nix::fcntl::fcntl(&self.input, nix::fcntl::FcntlArg::F_SETFL(self.flags));
        STDIO_IN_USE.store(false, Ordering::Relaxed);
    }
}

async fn open(fds: &FdTable, path: &str, flags: OFlag) -> Result<HostFile, OpenError> {
    let opened = HostFile::open(fds, path, flags).await;
    opened.map_err(|error| cannot_open(path, error))
}

fn cannot_open(path: &str, error: io::Error) -> OpenError {
    OpenError::File {
        path: path.to_owned(),
        error,
    }
}
