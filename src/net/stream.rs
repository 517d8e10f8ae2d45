//! Sockets that carry a stream of frames, each after its length in four bytes, the highest first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::sync::{Notify, watch};

use super::address::{self, Listener};
use super::{Frame, HEADER_LEN, MAX_FRAME};
use crate::io::{Handle, Readable, run_blocking};
use crate::qapi::qmp::SocketAddress;
use crate::report::reason;

/// Bytes of a length.
const LENGTH: usize = 4;
/// Bytes read at once.
const AT_ONCE: usize = 65_536;
/// How long to wait when the host is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// One peer at a time.
#[derive(Debug)]
pub struct Stream {
    now: watch::Sender<Option<Arc<Connection>>>,
    /// Rings when a connection is lost.
    lost: Notify,
}

/// A connection to a peer.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What came in and makes no whole frame yet.
    input: Mutex<Vec<u8>>,
    /// What the peer has not taken yet of a frame.
    output: Mutex<Vec<u8>>,
}

/// Where a stream's peers come from.
pub(super) enum Peers {
    /// This one, and no other.
    Given(OwnedFd, SocketAddress),
    /// Who connects here.
    Server(Listener),
    /// Who listens there; when the connection is lost, it is tried again after this time, if any.
    Client(SocketAddress, Option<Duration>),
}

/// What becomes of a stream.
pub(super) trait Observer: Send + Sync {
    /// There is a peer.
    fn connected(&self, address: SocketAddress);
    /// There is none any more.
    fn disconnected(&self);
    /// There is none, and this is what people are told of that.
    fn note(&self, text: String);
}

impl Stream {
    /// A stream without a peer.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            now: watch::Sender::new(None),
            lost: Notify::new(),
        })
    }

    /// Looks for peers, one after the other.
    pub(super) async fn run(self: Arc<Self>, on: Handle, mut peers: Peers, observer: impl Observer) {
        loop {
            let (next, after) = match peers {
                Peers::Given(socket, address) => (Some((socket, address)), None),
                Peers::Server(listener) => {
                    let next = accept(&on, &listener).await;
                    (next, Some(Peers::Server(listener)))
                }
                Peers::Client(address, again) => {
                    let wanted = address.clone();
                    let connected = run_blocking(move || address::connect(&wanted)).await;
                    let next = match connected.unwrap_or_else(|error| Err(io::Error::other(error.desc))) {
                        Ok(socket) => Some((socket, address.clone())),
                        Err(error) => {
                            observer.note(format!("error: {}", reason(&error)));
                            None
                        }
                    };
                    (next, again.map(|_| Peers::Client(address, again)))
                }
            };
            if let Some((socket, address)) = next {
                self.serve(socket, address, &observer).await;
            }
            match after {
                Some(after) => peers = after,
                None => return,
            }
            if let Peers::Client(_, Some(again)) = &peers {
                on.sleep(*again).await;
            }
        }
    }

    /// Returns when the peer is gone.
    async fn serve(&self, socket: OwnedFd, address: SocketAddress, observer: &impl Observer) {
        if let Err(error) = rustix::io::ioctl_fionbio(&socket, true) {
            return observer.note(format!("error: {}", reason(&error.into())));
        }
        let connection = Arc::new(Connection {
            socket,
            input: Mutex::default(),
            output: Mutex::default(),
        });
        observer.connected(address);
        self.now.send_replace(Some(connection));
        while self.now.borrow().is_some() {
            self.lost.notified().await;
        }
        observer.disconnected();
    }

    fn lose(&self, connection: &Arc<Connection>) {
        let is_it = |now: &mut Option<Arc<Connection>>| {
            let is_it = now.as_ref().is_some_and(|now| Arc::ptr_eq(now, connection));
            if is_it {
                *now = None;
            }
            is_it
        };
        if self.now.send_if_modified(is_it) {
            self.lost.notify_one();
        }
    }

    pub(super) fn receiver(self: &Arc<Self>, on: &Handle) -> StreamReceiver {
        StreamReceiver {
            on: on.clone(),
            now: self.now.subscribe(),
            stream: Arc::clone(self),
            current: None,
        }
    }

    pub(super) fn transmitter(self: &Arc<Self>, on: &Handle) -> StreamTransmitter {
        StreamTransmitter {
            on: on.clone(),
            stream: Arc::clone(self),
            current: None,
        }
    }
}

async fn accept(on: &Handle, listener: &Listener) -> Option<(OwnedFd, SocketAddress)> {
    let ready = listener.waiter().and_then(|waiter| on.readable(Arc::new(waiter)));
    let ready = match ready {
        Ok(ready) => ready,
        Err(error) => {
            tracing::warn!(%error, "cannot wait for a peer");
            on.sleep(PAUSE).await;
            return None;
        }
    };
    loop {
        match listener.accept() {
            Ok(accepted) => return Some(accepted),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready.wait().await.is_err() {
                    on.sleep(PAUSE).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                on.sleep(PAUSE).await;
            }
        }
    }
}

/// A connection, and how to wait for it.
type Current = Option<(Arc<Connection>, Readable)>;

/// Waits for a connection on behalf of a receiver or transmitter.
fn watched(on: &Handle, connection: Arc<Connection>) -> io::Result<Current> {
    let ready = on.readable(Arc::new(connection.socket.try_clone()?))?;
    Ok(Some((connection, ready)))
}

/// Where frames come in from a stream.
pub struct StreamReceiver {
    on: Handle,
    now: watch::Receiver<Option<Arc<Connection>>>,
    stream: Arc<Stream>,
    current: Current,
}

impl StreamReceiver {
    pub(super) async fn receive(&mut self, frame: &mut Frame) -> io::Result<()> {
        loop {
            let Some((connection, ready)) = &self.current else {
                let connected = self.now.wait_for(Option::is_some).await;
                let connected = connected.ok().and_then(|now| now.clone());
                let connection = connected.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                self.current = watched(&self.on, connection)?;
                continue;
            };
            match connection.next_frame(frame) {
                Ok(true) => return Ok(()),
                Ok(false) => ready.wait().await?,
                Err(error) => {
                    tracing::debug!(%error, "a stream of frames ends");
                    self.stream.lose(connection);
                    self.current = None;
                }
            }
        }
    }
}

impl Connection {
    /// Takes the next frame, if all of it has come.
    fn next_frame(&self, frame: &mut Frame) -> io::Result<bool> {
        let mut input = lock(&self.input);
        loop {
            if let Some(length) = input.first_chunk::<LENGTH>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length > MAX_FRAME - HEADER_LEN {
                    return Err(io::Error::other("the peer sent a frame that is too long"));
                }
                if let Some(payload) = input.get(LENGTH..LENGTH + length) {
                    frame.begin()[HEADER_LEN..HEADER_LEN + length].copy_from_slice(payload);
                    frame.end(HEADER_LEN + length);
                    input.drain(..LENGTH + length);
                    return Ok(true);
                }
            }
            let before = input.len();
            input.resize(before + AT_ONCE, 0);
            let read = rustix::io::read(self.socket.as_fd(), &mut input[before..]);
            input.truncate(before + read.unwrap_or(0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins with a frame.
    fn begin(&self, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut output = lock(&self.output);
        output.extend_from_slice(&length);
        output.extend_from_slice(payload);
    }

    /// Sends what is left of a frame. Returns whether that was all.
    fn flush(&self) -> io::Result<bool> {
        let mut output = lock(&self.output);
        while !output.is_empty() {
            match send(&self.socket, &output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(output.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// Where frames go into a stream.
pub struct StreamTransmitter {
    on: Handle,
    stream: Arc<Stream>,
    current: Current,
}

impl StreamTransmitter {
    /// While there is no peer, frames are lost.
    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let payload = frame.get(HEADER_LEN..).unwrap_or_default();
        let now = self.stream.now.borrow().clone();
        let Some(now) = now else {
            self.current = None;
            return Ok(());
        };
        if !self
            .current
            .as_ref()
            .is_some_and(|(current, _)| Arc::ptr_eq(current, &now))
        {
            self.current = watched(&self.on, Arc::clone(&now))?;
        }
        let Some((connection, ready)) = &self.current else {
            return Ok(());
        };
        // The end of a frame that somebody else has begun comes first.
        let result = match drained(connection, ready).await {
            Ok(()) => {
                connection.begin(payload);
                drained(connection, ready).await
            }
            Err(error) => Err(error),
        };
        result.inspect_err(|_| self.stream.lose(&now))
    }
}

/// Waits until the peer has taken what is left.
async fn drained(connection: &Connection, ready: &Readable) -> io::Result<()> {
    loop {
        if connection.flush()? {
            return Ok(());
        }
        ready.wait_writable().await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for StreamReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReceiver").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for StreamTransmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamTransmitter").finish_non_exhaustive()
    }
}
