//! `virtio-blk`: a disk (virtio 1.2, 5.2).

mod class;
mod config;
mod request;
mod service;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use class::{BLK_DEVICE, BLK_PCI_BASE, BlkError, CLASSES};
pub use config::BlkConfig;
use service::Shared;

use super::{Features, Kind, Link, VirtioDevice, Virtqueue};
use crate::block::Backend;
use crate::devices::BootName;
use crate::devices::drain::{Drain, InFlight};
use crate::io::{Handle, Task};

/// The kind.
static KIND: Kind = Kind {
    name: "virtio-blk",
    id: 2,
    transitional_id: Some(0x1001),
    class: [0x01, 0x00, 0x00],
};

/// The device. Its requests are under way on an event loop.
pub struct Blk {
    shared: Arc<Shared>,
    runs_on: Handle,
    tasks: Mutex<Vec<Task>>,
    link: OnceLock<Arc<Link>>,
}

impl Blk {
    /// A disk over `backend` that works on `runs_on`.
    #[must_use]
    pub fn new(backend: Arc<Backend>, config: BlkConfig, runs_on: Handle) -> Self {
        Self {
            shared: Arc::new(Shared::new(backend, config, runs_on.clone())),
            runs_on,
            tasks: Mutex::default(),
            link: OnceLock::new(),
        }
    }

    fn in_flight(&self) -> &InFlight {
        &self.shared.in_flight
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn features(&self) -> Features {
        self.shared.config.features(&self.shared.backend)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![self.shared.config.queue_size; self.shared.config.queues.into()]
    }

    fn config(&self) -> Vec<u8> {
        self.shared.config.bytes(&self.shared.backend)
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        if let (config::WCE, [wce], true) = (offset, data, self.shared.config.config_wce) {
            self.shared.backend.set_writeback(*wce != 0);
        }
    }

    fn boot_name(&self) -> Option<BootName> {
        Some(BootName {
            function: "scsi",
            unit: "disk@0,0",
        })
    }

    fn driver_ready(&self, features: Features) {
        // A driver that cannot change the cache, and cannot flush it, has none.
        if !features.contains(config::CONFIG_WCE) {
            let flushes = features.contains(config::FLUSH);
            let backend = &self.shared.backend;
            backend.set_writeback(flushes && self.shared.config.writeback);
        }
    }

    fn connect(&self, link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>) {
        let told = Arc::downgrade(link);
        self.shared.backend.on_resize(move || {
            if let Some(link) = told.upgrade() {
                link.config_changed();
            }
        });
        let is_first = self.link.set(Arc::clone(link)).is_ok();
        debug_assert!(is_first, "a device has one transport");
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues {
            let shared = Arc::clone(&self.shared);
            let link = Arc::clone(link);
            let served = self.runs_on.spawn(async move {
                if let Err(error) = service::serve(&shared, &link, &queue).await {
                    tracing::error!(%error, "a disk answers no requests any more");
                }
            });
            match served {
                Ok(task) => tasks.push(task),
                Err(error) => tracing::error!(%error, "no thread for a disk"),
            }
        }
    }

    fn reset_queue(&self, queue: u16) {
        self.shared.forget(queue);
        // What was under way may still write into the guest's memory.
        self.in_flight().drain().wait();
        self.shared.forget(queue);
    }

    fn pause(&self) -> Option<Drain> {
        Some(self.in_flight().drain())
    }

    fn resume(&self) {
        self.shared.backend.reset_status();
        self.shared.retry();
    }

    fn driver_gone(&self) {
        self.shared.backend.set_writeback(self.shared.config.writeback);
    }

    fn unrealize(&self) {
        self.shared.backend.detach();
    }
}

/// A disk that nobody finished to make has its node all the same.
impl Drop for Blk {
    fn drop(&mut self) {
        self.shared.backend.detach();
    }
}
