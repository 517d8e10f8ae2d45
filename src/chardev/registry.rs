//! One guest's character devices by id.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::FdTable;
use super::error::ChardevError;
use super::guest::{ChardevEvent, GuestLine, LineKind};
use super::mux::{Mux, User};
use super::options::{BackendOptions, ChardevOptions};
use super::port::{BackPort, FrontEnd, Port};
use super::pty;
use super::ringbuf::Ringbuf;
use super::running::{Backend, Running, open_log};
use crate::qapi::base64;

/// How long the last output of a guest may take to get out.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The names of `query-chardev-backends`.
const BACKENDS: [&str; 11] = [
    "file", "memory", "mux", "null", "pipe", "pty", "ringbuf", "serial", "socket", "stdio", "udp",
];

/// One guest's character devices. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct ChardevRegistry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fds: FdTable,
    state: Mutex<State>,
    events: mpsc::UnboundedSender<ChardevEvent>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order they were made.
    devices: Vec<Device>,
    /// Ids of devices that are being opened.
    reserved: BTreeSet<String>,
}

#[derive(Debug)]
struct Device {
    id: String,
    kind: Kind,
    /// A server that the start waits for.
    wait: bool,
}

#[derive(Debug)]
enum Kind {
    Plain(Plain),
    Mux(Mux),
}

#[derive(Debug)]
struct Plain {
    port: Arc<Port>,
    /// None only while the back end is being replaced.
    running: Option<Running>,
    ringbuf: Option<Ringbuf>,
    /// The path of its terminal, of a pseudo-terminal.
    pty: Option<String>,
    guest: Option<GuestLine>,
}

/// What [`ChardevRegistry::add`] made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The path of a new pseudo-terminal. On the command line QEMU prints
    /// `char device redirected to PATH (label ID)`.
    pub pty: Option<String>,
}

/// A character device as `query-chardev` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevInfo {
    /// Its id.
    pub label: String,
    /// What it is connected to, such as `pty:/dev/pts/3`.
    pub filename: String,
    /// Whether the front end takes bytes.
    pub frontend_open: bool,
}

/// How bytes are written as text (`DataFormat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// As they are.
    #[default]
    Utf8,
    /// Base 64.
    Base64,
}

impl ChardevRegistry {
    /// An empty registry, and the events of the devices that [`Self::connect_guest`] gives to guests.
    #[must_use]
    pub fn new(fds: FdTable) -> (Self, mpsc::UnboundedReceiver<ChardevEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        (
            Self {
                inner: Arc::new(Inner {
                    fds,
                    state: Mutex::default(),
                    events,
                }),
            },
            receiver,
        )
    }

    /// The descriptors that `fd=` and `/dev/fdset/N` refer to.
    #[must_use]
    pub fn fds(&self) -> &FdTable {
        &self.inner.fds
    }

    /// Makes a character device. It must be called within a tokio runtime, as all that is `async` here.
    ///
    /// It does not wait for the first client of a server; [`Self::ready`] does.
    ///
    /// # Errors
    /// The id is taken, or the back end cannot be opened.
    pub async fn add(&self, options: ChardevOptions) -> Result<Added, ChardevError> {
        let _reserved = self.reserve(&options.id)?;
        if let BackendOptions::Mux { base } = &options.backend {
            self.add_mux(&options.id, base, &options).await?;
            return Ok(Added::default());
        }
        if !options.mux {
            return self.add_plain(&options).await;
        }
        let base = ChardevOptions {
            id: format!("{}-base", options.id),
            mux: false,
            ..options.clone()
        };
        let _base_reserved = self.reserve(&base.id)?;
        let added = self.add_plain(&base).await?;
        self.add_mux(
            &options.id,
            &base.id,
            &ChardevOptions {
                log: None,
                ..options.clone()
            },
        )
        .await?;
        Ok(added)
    }

    /// `chardev-add`: makes a character device from a `ChardevBackend` and, if it is a server that waits, waits for its
    /// first client.
    ///
    /// # Errors
    /// The id is taken, `backend` contradicts itself, or it cannot be opened.
    pub async fn qmp_add(&self, id: &str, backend: &Value) -> Result<Added, ChardevError> {
        self.check_free(id)?;
        let added = match ChardevOptions::from_backend(id, backend) {
            Ok(options) => self.add(options).await,
            Err(error) => Err(error.into()),
        };
        let added = added.map_err(|cause| ChardevError::Add {
            id: id.to_owned(),
            cause: Box::new(cause),
        })?;
        if let Some(waiting_for) = self.waiting_for(id) {
            self.fds()
                .voice()
                .info(format!("QEMU waiting for connection on: {waiting_for}"));
        }
        self.ready(id).await;
        Ok(added)
    }

    /// Removes a character device (`chardev-remove`), after what its guest has sent so far is passed on.
    ///
    /// # Errors
    /// It does not exist or is in use.
    pub async fn remove(&self, id: &str) -> Result<(), ChardevError> {
        let plain = {
            let mut state = self.lock();
            let index = state
                .devices
                .iter()
                .position(|device| device.id == id)
                .ok_or_else(|| ChardevError::NotFound(id.to_owned()))?;
            let busy = match &state.devices[index].kind {
                Kind::Mux(_) => true,
                Kind::Plain(plain) => plain.is_busy(),
            };
            if busy {
                return Err(ChardevError::Busy(id.to_owned()));
            }
            match state.devices.remove(index).kind {
                Kind::Plain(plain) => plain,
                Kind::Mux(_) => return Ok(()),
            }
        };
        plain.finish().await;
        Ok(())
    }

    /// Gives a character device another back end (`chardev-change`); its guest does not notice.
    ///
    /// # Errors
    /// It does not exist, its user cannot have it replaced, or the back end cannot be opened.
    pub async fn change(&self, options: ChardevOptions) -> Result<Added, ChardevError> {
        let id = options.id.clone();
        let missing = || ChardevError::DoesNotExist(id.clone());
        {
            let state = self.lock();
            match &state.find(&id).ok_or_else(missing)?.kind {
                Kind::Mux(_) => return Err(ChardevError::SwapOfMux),
                Kind::Plain(plain) if plain.guest.is_none() && plain.port.is_attached() => {
                    return Err(ChardevError::SwapOfUsed);
                }
                Kind::Plain(_) => {}
            }
        }
        let backend = Backend::open(&options, &self.inner.fds).await?;
        let log = open_log(options.log.as_ref(), &self.inner.fds).await?;
        let running = self
            .lock()
            .plain_mut(&id)
            .and_then(|plain| plain.running.take())
            .ok_or_else(missing)?;
        let mut port = running.stop().await.ok_or_else(missing)?;
        port.input.closed(backend.filename());
        port.output.set_log(log);
        let added = Added { pty: backend.pty() };
        let mut state = self.lock();
        let plain = state.plain_mut(&id).ok_or_else(missing)?;
        plain.ringbuf = backend.ringbuf();
        plain.pty = backend.pty();
        plain.running = Some(Running::start(backend, port));
        Ok(added)
    }

    /// Every character device (`query-chardev`).
    #[must_use]
    pub fn query(&self) -> Vec<ChardevInfo> {
        let state = self.lock();
        let show = |device: &Device| match &device.kind {
            Kind::Plain(plain) => ChardevInfo {
                label: device.id.clone(),
                filename: plain.port.filename(),
                frontend_open: plain.port.frontend_open(),
            },
            Kind::Mux(mux) => ChardevInfo {
                label: device.id.clone(),
                filename: "mux".into(),
                frontend_open: mux.is_used(),
            },
        };
        state.devices.iter().map(show).collect()
    }

    /// The back ends there are (`query-chardev-backends`).
    #[must_use]
    pub fn backends() -> &'static [&'static str] {
        &BACKENDS
    }

    /// Lets a front end in this process use a character device.
    ///
    /// # Errors
    /// It does not exist or is in use.
    pub async fn connect(&self, id: &str) -> Result<FrontEnd, ChardevError> {
        self.attach(id, User::Monitor).await
    }

    async fn attach(&self, id: &str, user: User) -> Result<FrontEnd, ChardevError> {
        let gone = self
            .lock()
            .plain_mut(id)
            .and_then(|plain| plain.guest.take_if(|line| line.is_hung_up()));
        if let Some(gone) = gone {
            gone.finish().await;
        }
        let mut state = self.lock();
        let device = state
            .find_mut(id)
            .ok_or_else(|| ChardevError::NoChardev(id.to_owned()))?;
        match &mut device.kind {
            Kind::Plain(plain) => plain.port.attach().ok_or_else(|| in_use(id)),
            Kind::Mux(mux) => mux.connect(user).ok_or_else(|| ChardevError::TooManyUsers {
                id: id.to_owned(),
                max: Mux::MAX_USERS,
            }),
        }
    }

    /// Lets a guest's device use a character device: the worker gets the descriptor, one end of a [`line`](super::line).
    /// Closing it gives the character device free.
    ///
    /// # Errors
    /// It does not exist or is in use, or there are no more descriptors.
    pub async fn connect_guest(&self, id: &str) -> Result<OwnedFd, ChardevError> {
        self.connect_line(id, LineKind::Stream).await
    }

    /// As [`Self::connect_guest`], for a device whose guest has not opened it.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_port(&self, id: &str) -> Result<OwnedFd, ChardevError> {
        self.connect_line(id, LineKind::Port).await
    }

    /// As [`Self::connect_guest`], for what is said to one client and means nothing to the next.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_conversation(&self, id: &str) -> Result<OwnedFd, ChardevError> {
        self.connect_line(id, LineKind::Conversation).await
    }

    async fn connect_line(&self, id: &str, kind: LineKind) -> Result<OwnedFd, ChardevError> {
        let front = self.attach(id, User::Guest).await?;
        let started = GuestLine::start(front, kind);
        let (line, fd) = started.map_err(|error| ChardevError::Line {
            id: id.to_owned(),
            error,
        })?;
        let mut state = self.lock();
        match state.find_mut(id).map(|device| &mut device.kind) {
            Some(Kind::Plain(plain)) => plain.guest = Some(line),
            Some(Kind::Mux(mux)) => mux.keep(line),
            None => {}
        }
        Ok(fd)
    }

    /// Takes a character device from its guest, after what the guest has sent so far is passed on. The worker sees the
    /// end of its socket.
    pub async fn disconnect_guest(&self, id: &str) {
        let (line, port) = {
            let mut state = self.lock();
            let Some(plain) = state.plain_mut(id) else { return };
            (plain.guest.take(), plain.port.clone())
        };
        if let Some(line) = line {
            flush(async {
                line.finish().await;
                port.flushed().await;
            })
            .await;
        }
    }

    /// Tells whether the guest has its end open, for `frontend-open`.
    pub fn set_frontend_open(&self, id: &str, open: bool) {
        if let Some(plain) = self.lock().plain_mut(id) {
            plain.port.set_frontend_open(open);
        }
    }

    /// What a server with `wait=on` that has no client yet waits for, as QEMU words it after
    /// `info: QEMU waiting for connection on: `.
    #[must_use]
    pub fn waiting_for(&self, id: &str) -> Option<String> {
        let state = self.lock();
        let device = state.find(id).filter(|device| device.wait)?;
        match &device.kind {
            Kind::Plain(plain) if !*plain.port.connected().borrow() => Some(plain.port.filename()),
            _ => None,
        }
    }

    /// Waits for the first client of a server with `wait=on`; returns at once for all others.
    pub async fn ready(&self, id: &str) {
        let connected = match self.lock().find(id) {
            Some(Device {
                wait: true,
                kind: Kind::Plain(plain),
                ..
            }) => plain.port.connected(),
            _ => return,
        };
        let mut connected = connected;
        // The device may be removed meanwhile, which ends the wait as well.
        let _ = connected.wait_for(|connected| *connected).await;
    }

    /// Waits until somebody is or was at the other side of a character device; returns at once for one that is not there.
    pub async fn connected(&self, id: &str) {
        let mut connected = match self.lock().find(id).map(|device| &device.kind) {
            Some(Kind::Plain(plain)) => plain.port.connected(),
            _ => return,
        };
        // The device may be removed meanwhile, which ends the wait as well.
        let _ = connected.wait_for(|connected| *connected).await;
    }

    /// Sends a break condition to the front end (`chardev-send-break`).
    ///
    /// # Errors
    /// The character device does not exist.
    pub fn send_break(&self, id: &str) -> Result<(), ChardevError> {
        let state = self.lock();
        let device = state.find(id).ok_or_else(|| ChardevError::NotFound(id.to_owned()))?;
        match &device.kind {
            Kind::Plain(plain) => plain.port.send_break(),
            Kind::Mux(mux) => mux.send_break(),
        }
        Ok(())
    }

    /// Takes up to `size` of the oldest bytes from a ring buffer (`ringbuf-read`). Bytes that are not UTF-8 come as
    /// replacement characters.
    ///
    /// # Errors
    /// The device does not exist or is none, or `size` is not positive.
    pub fn ringbuf_read(&self, id: &str, size: i64, format: DataFormat) -> Result<String, ChardevError> {
        let ringbuf = self.ringbuf(id)?;
        let size = usize::try_from(size).ok().filter(|size| *size > 0);
        let size = size.ok_or(ChardevError::NoSize)?;
        let bytes = ringbuf.read(size);
        Ok(match format {
            DataFormat::Utf8 => String::from_utf8_lossy(&bytes).into_owned(),
            DataFormat::Base64 => base64::encode(&bytes),
        })
    }

    /// Adds bytes to a ring buffer (`ringbuf-write`).
    ///
    /// # Errors
    /// The device does not exist or is none, or the text is not base 64.
    pub fn ringbuf_write(&self, id: &str, data: &str, format: DataFormat) -> Result<(), ChardevError> {
        let ringbuf = self.ringbuf(id)?;
        match format {
            DataFormat::Utf8 => ringbuf.write(data.as_bytes()),
            DataFormat::Base64 => {
                let bytes = base64::decode(data.as_bytes());
                ringbuf.write(&bytes.ok_or(ChardevError::Base64)?);
            }
        }
        Ok(())
    }

    /// Ends every character device, after what guests and monitors have sent so far is passed on or a second went by.
    pub async fn shutdown(&self) {
        let devices = std::mem::take(&mut self.lock().devices);
        // Multiplexers write to others, so they go first.
        let (muxes, plains): (Vec<_>, Vec<_>) = devices
            .into_iter()
            .map(|device| device.kind)
            .partition(|kind| matches!(kind, Kind::Mux(_)));
        drop(muxes);
        let mut tasks = tokio::task::JoinSet::new();
        for kind in plains {
            if let Kind::Plain(plain) = kind {
                tasks.spawn(plain.finish());
            }
        }
        tasks.join_all().await;
    }

    async fn add_plain(&self, options: &ChardevOptions) -> Result<Added, ChardevError> {
        let log = open_log(options.log.as_ref(), &self.inner.fds).await?;
        let backend = Backend::open(options, &self.inner.fds).await?;
        let (port, back) = Port::new(backend.filename(), log);
        let (ringbuf, added) = (backend.ringbuf(), Added { pty: backend.pty() });
        let plain = Plain {
            port,
            running: Some(Running::start(backend, back)),
            ringbuf,
            pty: added.pty.clone(),
            guest: None,
        };
        let wait = matches!(&options.backend, BackendOptions::Socket(socket) if socket.wait);
        self.lock().devices.push(Device {
            id: options.id.clone(),
            kind: Kind::Plain(plain),
            wait,
        });
        Ok(added)
    }

    async fn add_mux(&self, id: &str, base: &str, options: &ChardevOptions) -> Result<(), ChardevError> {
        let log = open_log(options.log.as_ref(), &self.inner.fds).await?;
        let mut state = self.lock();
        let found = match state.find(base).map(|device| &device.kind) {
            Some(Kind::Plain(plain)) => plain.port.attach().ok_or_else(|| in_use(base))?,
            Some(Kind::Mux(_)) => return Err(in_use(base)),
            None => return Err(ChardevError::NoBase(base.to_owned())),
        };
        let mux = Mux::start(id, found, log, self.inner.events.clone());
        state.devices.push(Device {
            id: id.to_owned(),
            kind: Kind::Mux(mux),
            wait: false,
        });
        Ok(())
    }

    fn ringbuf(&self, id: &str) -> Result<Ringbuf, ChardevError> {
        let state = self.lock();
        let device = state.find(id).ok_or_else(|| ChardevError::NoDevice(id.to_owned()))?;
        match &device.kind {
            Kind::Plain(Plain {
                ringbuf: Some(ringbuf), ..
            }) => Ok(ringbuf.clone()),
            _ => Err(ChardevError::NotARingbuf(id.to_owned())),
        }
    }

    fn check_free(&self, id: &str) -> Result<(), ChardevError> {
        let state = self.lock();
        if state.find(id).is_some() || state.reserved.contains(id) {
            return Err(ChardevError::Exists(id.to_owned()));
        }
        Ok(())
    }

    fn reserve(&self, id: &str) -> Result<Reservation, ChardevError> {
        self.check_free(id)?;
        self.lock().reserved.insert(id.to_owned());
        Ok(Reservation {
            inner: self.inner.clone(),
            id: id.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the list half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, id: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == id)
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id)
    }

    fn plain_mut(&mut self, id: &str) -> Option<&mut Plain> {
        match &mut self.find_mut(id)?.kind {
            Kind::Plain(plain) => Some(plain),
            Kind::Mux(_) => None,
        }
    }
}

impl Plain {
    /// Whether somebody uses it. A guest that has closed its end does not.
    fn is_busy(&self) -> bool {
        match &self.guest {
            Some(line) => self.port.is_attached() && !line.is_hung_up(),
            None => self.port.is_attached(),
        }
    }

    /// Passes on what was sent so far and ends.
    async fn finish(self) {
        let Self {
            port,
            running,
            pty,
            guest,
            ..
        } = self;
        flush(async {
            if let Some(line) = guest {
                line.finish().await;
            }
            port.flushed().await;
            if let Some(path) = pty {
                pty::read_to_end(&path).await;
            }
        })
        .await;
        if let Some(running) = running {
            let back: Option<BackPort> = running.stop().await;
            drop(back);
        }
    }
}

/// The id of a device that is being opened.
struct Reservation {
    inner: Arc<Inner>,
    id: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.lock().reserved.remove(&self.id);
    }
}

async fn flush(work: impl Future<Output = ()>) {
    if tokio::time::timeout(FLUSH_TIME, work).await.is_err() {
        tracing::debug!("a character device did not take its last bytes in time");
    }
}

fn in_use(id: &str) -> ChardevError {
    ChardevError::InUse(id.to_owned())
}
