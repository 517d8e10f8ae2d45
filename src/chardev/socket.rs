//! Stream sockets as back end: one connection at a time.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::task::JoinHandle;

use super::FdTable;
use super::address::{self, Listener};
use super::error::OpenError;
use super::options::{SocketAddress, SocketOptions};
use super::port::{BackPort, FrontEnd, InputSender, OutputReceiver, Port};
use super::telnet::{self, Telnet};
use super::wire::SocketStream;
use crate::report;

/// A socket that listens, or is or will be connected.
#[derive(Debug)]
pub(super) struct SocketBackend {
    role: Role,
    options: SocketOptions,
    /// `query-chardev`'s file name while nobody is connected.
    idle_name: String,
}

#[derive(Debug)]
enum Role {
    Server(Listener),
    Client { first: Option<OwnedFd>, fds: FdTable },
}

impl SocketBackend {
    /// Listens, or connects. A client that would connect again later starts even if nobody listens yet.
    ///
    /// # Errors
    /// The address cannot be listened on or connected to.
    pub(super) async fn open(id: &str, options: SocketOptions, fds: &FdTable) -> Result<Self, OpenError> {
        let protocol = options.protocol();
        if options.server {
            let listener = Listener::new(&options.address, fds).await?;
            let idle_name = format!("disconnected:{protocol}{},server=on", listener.name);
            return Ok(Self {
                role: Role::Server(listener),
                options,
                idle_name,
            });
        }
        let idle_name = format!("disconnected:{protocol}{}", address::option_name(&options.address));
        let first = match address::connect_to(&options.address, fds).await {
            Ok(connected) => Some(connected),
            Err(error) if options.reconnect.is_some() => {
                fds.voice()
                    .error(format!("Unable to connect character device {id}: {error}"));
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            role: Role::Client {
                first,
                fds: fds.clone(),
            },
            options,
            idle_name,
        })
    }

    /// `query-chardev`'s file name at the start.
    pub(super) fn idle_name(&self) -> &str {
        &self.idle_name
    }

    /// Serves one connection after the other.
    pub(super) async fn run(self, port: &mut BackPort) {
        let Self {
            role,
            options,
            idle_name,
        } = self;
        port.input.rename(idle_name.as_str());
        match role {
            Role::Server(listener) => loop {
                let connected = tokio::select! {
                    connected = accept(&listener) => connected,
                    () = port.output.discard() => continue,
                };
                serve(connected, &options, &idle_name, port, Some(&listener)).await;
            },
            Role::Client { first, fds } => {
                let mut next = first;
                loop {
                    if let Some(connected) = next.take() {
                        serve(connected, &options, &idle_name, port, None).await;
                    }
                    next = Some(tokio::select! {
                        connected = connect_again(&options.address, options.reconnect, &fds) => connected,
                        () = port.output.discard() => continue,
                    });
                }
            }
        }
    }
}

/// The next client. A client that is gone before it is accepted is no reason to stop.
async fn accept(listener: &Listener) -> OwnedFd {
    /// How long to wait when the host is out of descriptors or memory.
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        match listener.accept().await {
            Ok(connected) => return connected,
            Err(error) => {
                tracing::warn!("cannot accept on {}: {}", listener.name, report::reason(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Tries to connect every `interval`; never, if there is none.
async fn connect_again(address: &SocketAddress, interval: Option<Duration>, fds: &FdTable) -> OwnedFd {
    let Some(interval) = interval else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(interval).await;
        match address::connect_to(address, fds).await {
            Ok(connected) => return connected,
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Carries bytes until the peer goes away.
async fn serve(
    connected: OwnedFd,
    options: &SocketOptions,
    idle_name: &str,
    port: &mut BackPort,
    listener: Option<&Listener>,
) {
    if options.nodelay && address::is_inet(&connected) {
        // A socket that cannot be told is slower, not wrong.
        let _ = setsockopt(&connected, sockopt::TcpNoDelay, &true);
    }
    let name = address::connected_name(&connected, options.protocol(), options.server);
    let stream = match SocketStream::new(connected) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!("cannot watch {name}: {}", report::reason(&error));
            return;
        }
    };
    if options.telnet && stream.send(telnet::GREETING).await.is_err() {
        return;
    }
    port.input.opened(name);
    let mut telnet = options.telnet.then(Telnet::default);
    let BackPort { input, output } = port;
    let outward = async {
        outbound(&stream, output, options.telnet).await;
        // What a peer said before it went can still be read.
        output.discard().await;
    };
    tokio::select! {
        () = inbound(&stream, input, telnet.as_mut()) => {}
        () = outward => {}
    }
    let generation = input.closed(idle_name);
    say_the_rest(&stream, input, output, options, generation, listener).await;
}

/// Until the peer closes its end or fails.
async fn inbound(stream: &SocketStream, input: &mut InputSender, mut telnet: Option<&mut Telnet>) {
    loop {
        let mut chunk = match stream.recv().await {
            Ok(chunk) if chunk.bytes.is_empty() => return,
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::debug!("read from character device socket: {}", report::reason(&error));
                return;
            }
        };
        if let Some(telnet) = telnet.as_deref_mut() {
            let (bytes, breaks) = telnet.filter(&chunk.bytes);
            (0..breaks).for_each(|_| input.broke());
            chunk.bytes = bytes;
        }
        if !chunk.bytes.is_empty() {
            input.data(chunk).await;
        }
    }
}

/// Until the peer takes no more.
async fn outbound(stream: &SocketStream, output: &mut OutputReceiver, telnet: bool) {
    loop {
        let bytes = output.recv().await;
        if send(stream, bytes, telnet).await.is_err() {
            return;
        }
    }
}

async fn send(stream: &SocketStream, bytes: Vec<u8>, telnet: bool) -> std::io::Result<()> {
    let bytes = if telnet { telnet::escape(&bytes) } else { bytes };
    stream.send(&bytes).await
}

/// A peer that has said all it wants may still read: it gets the answers of a front end that is not done with it, as
/// long as nobody else waits.
async fn say_the_rest(
    stream: &SocketStream,
    input: &InputSender,
    output: &mut OutputReceiver,
    options: &SocketOptions,
    generation: u64,
    listener: Option<&Listener>,
) {
    let somebody_waits = async {
        match (listener, options.reconnect) {
            (Some(listener), _) => listener.waiting().await,
            // The server may be there again.
            (None, Some(interval)) => tokio::time::sleep(interval).await,
            (None, None) => std::future::pending().await,
        }
    };
    tokio::pin!(somebody_waits);
    tokio::select! {
        biased;
        () = input.finished(generation) => {}
        () = outbound(stream, output, options.telnet) => return,
        () = &mut somebody_waits => return,
    }
    let last_words = async {
        while let Some(bytes) = output.try_recv().await {
            if send(stream, bytes, options.telnet).await.is_err() {
                return;
            }
        }
    };
    // A peer that does not read its last answers loses them to the next one.
    tokio::select! {
        biased;
        () = last_words => {}
        () = somebody_waits => {}
    }
}

/// A front end over one connection, and no character device: both end together. The task ends when the last of what is
/// sent has gone out, or cannot.
///
/// # Errors
/// The socket cannot be watched.
pub fn connection(name: &str, socket: OwnedFd) -> std::io::Result<(FrontEnd, JoinHandle<()>)> {
    let stream = SocketStream::new(socket)?;
    let (port, mut back) = Port::new(name, None);
    let front = port.attach().ok_or(std::io::ErrorKind::AddrInUse)?;
    let name = name.to_owned();
    let carrier = tokio::spawn(async move {
        back.input.opened(name.as_str());
        let BackPort { input, output } = &mut back;
        let outward = async {
            outbound(&stream, output, false).await;
            output.discard().await;
        };
        tokio::select! {
            () = inbound(&stream, input, None) => {}
            () = outward => {}
            () = port.abandoned() => {}
        }
        // Whoever has said all may still read.
        let generation = input.closed(name.as_str());
        tokio::select! {
            biased;
            () = input.finished(generation) => {}
            () = port.abandoned() => {}
            () = outbound(&stream, output, false) => return,
        }
        while let Some(bytes) = output.try_recv().await {
            if send(&stream, bytes, false).await.is_err() {
                return;
            }
        }
    });
    Ok((front, carrier))
}
