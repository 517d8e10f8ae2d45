//! `virtio-net`: a network card (virtio 1.2, 5.1).
//!
//! ```text
//! Net: what clients and the transport deal with; owns the tasks and the hold on the back end
//!  |-- task for each queue pair, in and out  \
//!  |-- task for the control queue             Card: what they share
//! ```
//!
//! The tasks run on the back end's loop. None of them holds [`Net`], with which that loop may end.

mod card;
mod class;
mod control;
mod filter;
mod receive;
mod settings;
#[cfg(test)]
mod tests;
mod transmit;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::{Features, Kind, Link, VirtioDevice, Virtqueue};
use crate::io::{Handle, Task};
use crate::net::{Attachment, Mac, Netdev, Nic, NicRegistration, Port, RxFilter};
use card::Card;
pub use class::{CLASSES, NET_DEVICE, NET_PCI_BASE, NetError};
pub use settings::{Backing, NetSettings, Sending};

/// The kind.
static KIND: Kind = Kind {
    name: "virtio-net",
    id: 1,
    transitional_id: Some(0x1000),
    class: [0x02, 0x00, 0x00],
};

/// The card as clients and its transport deal with it.
pub struct Net {
    card: Arc<Card>,
    /// The loop of what works without a back end.
    fallback: Handle,
    work: Mutex<Work>,
    registration: OnceLock<NicRegistration>,
}

/// What runs for a card.
#[derive(Default)]
struct Work {
    tasks: Vec<Task>,
    attachment: Option<Attachment>,
}

impl Net {
    /// A card without a driver, which works on the loop of its back end, and on `fallback` without one.
    #[must_use]
    pub fn new(settings: NetSettings, attachment: Option<Attachment>, fallback: Handle) -> Arc<Self> {
        let netdev = attachment.as_ref().map(Attachment::netdev);
        let up = netdev.map(|netdev| Arc::clone(netdev.up()));
        let ports = netdev.map(|netdev| netdev.ports().to_vec());
        let card = Card::new(settings, ports.unwrap_or_default(), up.unwrap_or_default());
        Arc::new(Self {
            card: Arc::new(card),
            fallback,
            work: Mutex::new(Work {
                tasks: Vec::new(),
                attachment,
            }),
            registration: OnceLock::new(),
        })
    }

    /// Keeps its place in the list of cards for as long as there is the card.
    pub fn keep(&self, registration: NicRegistration) {
        // A card is made once.
        let _ = self.registration.set(registration);
    }

    /// Starts the tasks.
    fn start(&self, work: &mut Work) {
        let netdev = work
            .attachment
            .as_ref()
            .map(|attachment| Arc::clone(attachment.netdev()));
        let on = netdev.as_ref().map_or(&self.fallback, |netdev| netdev.event_loop());
        let ports: &[Port] = netdev.as_ref().map_or(&[], |netdev| netdev.ports());
        for pair in 0..self.card.settings.pairs {
            let port = ports.get(usize::from(pair)).cloned();
            let (card, on_loop) = (Arc::clone(&self.card), on.clone());
            work.tasks
                .extend(started(on.spawn(receive::run(card, pair, port.clone(), on_loop))));
            let (card, on_loop) = (Arc::clone(&self.card), on.clone());
            work.tasks
                .extend(started(on.spawn(transmit::run(card, pair, port, on_loop))));
        }
        let (card, on_loop) = (Arc::clone(&self.card), on.clone());
        work.tasks.extend(started(on.spawn(control::run(card, on_loop))));
    }

    /// Returns when no task runs any more, and lets go of the back end. Not to be called on its loop.
    fn stop(&self) {
        let mut work = self.work();
        let Work { tasks, attachment } = std::mem::take(&mut *work);
        let had_tasks = !tasks.is_empty();
        drop(tasks);
        let on = attachment
            .as_ref()
            .map_or(&self.fallback, |attachment| attachment.netdev().event_loop());
        if had_tasks {
            // What was asked for before is done by then: that the tasks end.
            let _ = on.call(|| ());
        }
        self.card.forget_ports();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn started(task: std::io::Result<Task>) -> Option<Task> {
    task.inspect_err(|error| tracing::error!(%error, "no thread for a network card"))
        .ok()
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop();
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn features(&self) -> Features {
        self.card.settings.features()
    }

    fn legacy_features(&self) -> Features {
        settings::GSO
    }

    fn queue_sizes(&self) -> Vec<u16> {
        self.card.settings.queue_sizes(self.card.is_multiqueue())
    }

    fn queue_limit(&self) -> usize {
        2 * usize::from(self.card.settings.pairs) + 1
    }

    fn accept(&self, features: Features) {
        self.card.accept(features);
    }

    fn reset(&self) {
        self.card.reset();
    }

    fn property(&self, name: &str) -> Option<Value> {
        match name {
            "mac" => Some(json!(self.card.settings.mac.to_string())),
            "tx_queue_size" => Some(json!(self.card.settings.tx_queue_size)),
            _ => None,
        }
    }

    fn config(&self) -> Vec<u8> {
        self.card.config()
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        self.card.write_config(offset, data);
    }

    fn connect(&self, link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>) {
        self.card.connect(link, queues);
        self.start(&mut self.work());
    }

    // A buffer of a ring that is gone is not taken back by its queue, and nothing else is remembered of it.
    fn reset_queue(&self, _queue: u16) {}
}

impl Nic for Net {
    fn mac(&self) -> Mac {
        self.card.settings.mac
    }

    fn netdev(&self) -> Option<Arc<Netdev>> {
        let work = self.work();
        work.attachment
            .as_ref()
            .map(|attachment| Arc::clone(attachment.netdev()))
    }

    fn set_link(&self, up: bool) {
        self.card.set_cable(up);
    }

    fn rx_filter(&self) -> RxFilter {
        self.card.rx_filter()
    }

    fn announce(&self) {
        self.card.announce();
    }

    fn lose_netdev(&self) {
        self.card.set_cable(false);
        self.stop();
        // The driver may still have things to say.
        self.start(&mut self.work());
    }
}
