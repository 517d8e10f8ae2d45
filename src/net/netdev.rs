//! A back end: its queues, its loop, and whether a card has it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::networks::Teller;
use super::open::{Opened, Parts};
use super::port::Port;
use super::stream::{Observer, Stream};
use super::{Frame, HostOffloads, News};
use crate::io::{EventLoop, Handle, Task};
use crate::qapi::qmp::SocketAddress;

/// How long to wait after an error of a descriptor that may stay.
const PAUSE: Duration = Duration::from_millis(100);

/// A back end. Its thread starts when there is first something to wait for, and ends with it; so no task on its loop
/// holds it.
pub struct Netdev {
    /// Its id.
    pub id: String,
    /// Its kind, as clients know it.
    pub driver: &'static str,
    ports: Vec<Port>,
    offloads: Option<HostOffloads>,
    info: Arc<Mutex<String>>,
    attached: AtomicBool,
    up: Arc<AtomicBool>,
    /// What waits for peers.
    _peers: Option<Task>,
    /// What throws away what comes while no card has it.
    drains: Mutex<Vec<Task>>,
    io: EventLoop,
}

/// A card's hold on a back end, until it is dropped.
pub struct Attachment(Arc<Netdev>);

impl Netdev {
    /// Makes a back end.
    pub(super) fn new(opened: Opened, news: Teller) -> io::Result<Arc<Self>> {
        let io = EventLoop::new(Some("net".to_owned()))?;
        let info = Arc::new(Mutex::new(opened.info));
        let (mut offloads, mut peers) = (None, None);
        let ports = match opened.parts {
            Parts::Tap { queues, offloads: host } => {
                offloads = host;
                queues.into_iter().map(|tap| Port::Tap(Arc::new(tap))).collect()
            }
            Parts::Datagram(socket) => vec![Port::Datagram(socket)],
            Parts::Stream { peers: from, silent } => {
                let stream = Stream::new();
                let watcher = Watcher {
                    id: opened.id.clone(),
                    info: Arc::clone(&info),
                    idle: lock(&info).clone(),
                    news: (!silent).then_some(news),
                };
                let on = io.handle().clone();
                peers = Some(io.handle().spawn(Arc::clone(&stream).run(on, from, watcher))?);
                vec![Port::Stream(stream)]
            }
        };
        let netdev = Self {
            id: opened.id,
            driver: opened.driver,
            ports,
            offloads,
            info,
            attached: AtomicBool::new(false),
            up: Arc::new(AtomicBool::new(true)),
            _peers: peers,
            drains: Mutex::default(),
            io,
        };
        netdev.drain()?;
        Ok(Arc::new(netdev))
    }

    /// The loop that its queues are served on.
    #[must_use]
    pub fn event_loop(&self) -> &Handle {
        self.io.handle()
    }

    /// Its queues.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// What the host does beside checksums and segments of TCP; none where frames have no header.
    #[must_use]
    pub fn offloads(&self) -> Option<HostOffloads> {
        self.offloads
    }

    /// What people are told of it.
    #[must_use]
    pub fn info(&self) -> String {
        lock(&self.info).clone()
    }

    /// Whether its cable is in.
    #[must_use]
    pub fn up(&self) -> &Arc<AtomicBool> {
        &self.up
    }

    /// Gives it to a card; none if another has it.
    pub(super) fn attach(self: &Arc<Self>) -> Option<Attachment> {
        if self.attached.swap(true, Ordering::AcqRel) {
            return None;
        }
        lock(&self.drains).clear();
        Some(Attachment(Arc::clone(self)))
    }

    /// Throws away what comes.
    fn drain(&self) -> io::Result<()> {
        let mut drains = lock(&self.drains);
        for port in &self.ports {
            let (port, on) = (port.clone(), self.io.handle().clone());
            drains.push(self.io.handle().spawn(discard(port, on))?);
        }
        Ok(())
    }
}

async fn discard(port: Port, on: Handle) {
    let mut frame = Frame::default();
    loop {
        let mut receiver = match port.receiver(&on) {
            Ok(receiver) => receiver,
            Err(_) => {
                on.sleep(PAUSE).await;
                continue;
            }
        };
        while receiver.receive(&mut frame).await.is_ok() {
            // Who floods a back end keeps its loop from nobody.
            tokio::task::yield_now().await;
        }
        on.sleep(PAUSE).await;
    }
}

impl Attachment {
    /// The back end.
    #[must_use]
    pub fn netdev(&self) -> &Arc<Netdev> {
        &self.0
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.attached.store(false, Ordering::Release);
        // The last one who holds it ends it instead.
        if Arc::strong_count(&self.0) > 1 {
            if let Err(error) = self.0.drain() {
                tracing::warn!(%error, id = self.0.id, "what comes is not thrown away");
            }
        }
    }
}

/// Tells of a stream's peers.
struct Watcher {
    id: String,
    info: Arc<Mutex<String>>,
    idle: String,
    /// None if clients hear nothing.
    news: Option<Teller>,
}

impl Observer for Watcher {
    fn connected(&self, address: SocketAddress) {
        *lock(&self.info) = super::address::name(&address);
        if let Some(news) = &self.news {
            news.tell(News::Connected(self.id.clone(), address));
        }
    }

    fn disconnected(&self) {
        lock(&self.info).clone_from(&self.idle);
        if let Some(news) = &self.news {
            news.tell(News::Disconnected(self.id.clone()));
        }
    }

    fn note(&self, text: String) {
        *lock(&self.info) = text;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Netdev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netdev").field("id", &self.id).finish_non_exhaustive()
    }
}
