//! A back end at work, and how it is stopped without losing the port.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::FdTable;
use super::error::OpenError;
use super::host_file::HostFile;
use super::log::LogFile;
use super::options::{BackendOptions, ChardevOptions, LogOptions};
use super::port::BackPort;
use super::pty::Pty;
use super::ringbuf::Ringbuf;
use super::socket::SocketBackend;
use super::stream::StreamBackend;
use super::udp::UdpBackend;

use nix::fcntl::OFlag;

/// A back end whose files and sockets are open.
#[derive(Debug)]
pub(super) enum Backend {
    Null,
    Pty(Pty),
    Ringbuf(Ringbuf),
    Socket(SocketBackend),
    Stream(StreamBackend),
    Udp(UdpBackend),
}

impl Backend {
    /// Opens what the options name. A multiplexer is not a back end of its own.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub(super) async fn open(options: &ChardevOptions, fds: &FdTable) -> Result<Self, OpenError> {
        match &options.backend {
            BackendOptions::Null => Ok(Self::Null),
            BackendOptions::Pty { link } => Pty::open(link.as_deref()).map(Self::Pty),
            BackendOptions::File { output, input, append } => {
                let opened = StreamBackend::file(output, input.as_deref(), *append, fds).await;
                opened.map(Self::Stream)
            }
            BackendOptions::Pipe { path } => StreamBackend::pipe(path, fds).await.map(Self::Stream),
            BackendOptions::Stdio { signal } => StreamBackend::stdio(*signal, fds).map(Self::Stream),
            BackendOptions::Serial { path } => StreamBackend::serial(path, fds).await.map(Self::Stream),
            BackendOptions::Ringbuf { size } => Ringbuf::new(*size).map(Self::Ringbuf),
            BackendOptions::Socket(socket) => SocketBackend::open(&options.id, socket.clone(), fds)
                .await
                .map(Self::Socket),
            BackendOptions::Udp { remote, local } => UdpBackend::open(remote, local.as_ref()).await.map(Self::Udp),
            BackendOptions::Mux { .. } => Err(OpenError::Multiplexer),
        }
    }

    /// `query-chardev`'s file name at the start.
    pub(super) fn filename(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Pty(pty) => format!("pty:{}", pty.path()),
            Self::Ringbuf(_) => "ringbuf".into(),
            Self::Socket(socket) => socket.idle_name().into(),
            Self::Stream(stream) => stream.name().into(),
            Self::Udp(_) => "udp".into(),
        }
    }

    /// The terminal's path, of a pseudo-terminal.
    pub(super) fn pty(&self) -> Option<String> {
        match self {
            Self::Pty(pty) => Some(pty.path().into()),
            _ => None,
        }
    }

    /// The buffer, of a ring buffer.
    pub(super) fn ringbuf(&self) -> Option<Ringbuf> {
        match self {
            Self::Ringbuf(ringbuf) => Some(ringbuf.clone()),
            _ => None,
        }
    }

    async fn run(self, port: &mut BackPort) {
        match self {
            Self::Null => {
                port.input.opened("null");
                port.output.discard().await;
            }
            Self::Pty(pty) => pty.run(port).await,
            Self::Ringbuf(ringbuf) => ringbuf.run(port).await,
            Self::Socket(socket) => socket.run(port).await,
            Self::Stream(stream) => stream.run(port).await,
            Self::Udp(udp) => udp.run(port).await,
        }
    }
}

/// A back end at work. It ends with this value.
#[derive(Debug)]
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<BackPort>,
}

impl Running {
    pub(super) fn start(backend: Backend, mut port: BackPort) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stopped => {}
                () = backend.run(&mut port) => {}
            }
            port
        });
        Self { stop, task }
    }

    /// Ends the back end, closes what it had open, and returns the port; none if it panicked.
    pub(super) async fn stop(self) -> Option<BackPort> {
        drop(self.stop);
        self.task.await.ok()
    }
}

/// Opens the log of a character device.
///
/// # Errors
/// It cannot be opened.
pub(super) async fn open_log(options: Option<&LogOptions>, fds: &FdTable) -> Result<Option<LogFile>, OpenError> {
    let Some(LogOptions { path, append }) = options else {
        return Ok(None);
    };
    let placement = if *append { OFlag::O_APPEND } else { OFlag::O_TRUNC };
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | placement;
    let opened = HostFile::open(fds, path, flags).await;
    opened
        .map(|file| Some(LogFile::new(file, path, fds.voice())))
        .map_err(|error| {
            let path = path.clone();
            match path.starts_with(FdTable::SET_FOLDER) {
                true => OpenError::LogDescriptor {
                    path,
                    flags: flags.bits(),
                    error,
                },
                false => OpenError::Log { path, error },
            }
        })
}
