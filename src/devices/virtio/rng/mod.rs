//! `virtio-rng`: random bytes from the host (virtio 1.2, 5.4).

mod class;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use class::{CLASSES, RNG_DEVICE, RNG_PCI_BASE, RngError};
pub use source::EntropySource;
use source::Reader;

use super::{Features, Kind, Link, VirtioDevice, Virtqueue};
use crate::io::{Handle, Task};
use crate::vmstate::Layout;

/// The kind.
static KIND: Kind = Kind {
    name: "virtio-rng",
    id: 4,
    transitional_id: Some(0x1005),
    class: [0x00, 0xff, 0x00],
};
/// Buffers its queue has room for.
const QUEUE_SIZE: u16 = 8;
/// Bytes read at once: a driver may offer more, and gets what there is.
const AT_ONCE: u64 = 65_536;

/// How much a guest may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes in each period.
    pub max_bytes: u64,
    /// The period.
    pub period: Duration,
}

/// The device.
pub struct Rng {
    source: EntropySource,
    allowance: Allowance,
    runs_on: Handle,
    task: Mutex<Option<Task>>,
}

impl Rng {
    /// A device that works on `runs_on`.
    #[must_use]
    pub fn new(source: EntropySource, allowance: Allowance, runs_on: Handle) -> Self {
        Self {
            source,
            allowance,
            runs_on,
            task: Mutex::default(),
        }
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn features(&self) -> Features {
        Features::NONE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn connect(&self, _link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>) {
        let (source, quota) = (self.source.clone(), Quota::new(self.allowance));
        let on = self.runs_on.clone();
        let task = self.runs_on.spawn(async move {
            for queue in queues {
                if let Err(error) = serve(&on, &queue, &source, quota).await {
                    tracing::error!(%error, "there are no more random bytes");
                }
            }
        });
        match task {
            Ok(task) => *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task),
            Err(error) => tracing::error!(%error, "no thread for random bytes"),
        }
    }

    fn section(&self) -> Option<Layout> {
        Some(Layout::new("virtio-rng", 1))
    }

    // A buffer of a ring that is gone is filled in vain: the queue does not take it back.
    fn reset_queue(&self, _queue: u16) {}
}

/// Fills what the driver offers, one buffer after the other, for as long as the source can be read.
async fn serve(on: &Handle, queue: &Virtqueue, source: &EntropySource, mut quota: Quota) -> io::Result<()> {
    let rung = on.counter(queue.doorbell().event())?;
    let mut reader: Reader = source.reader(on)?;
    loop {
        while let Some(taken) = queue.pop() {
            let wanted = taken.element().writable_len().min(AT_ONCE);
            let bytes = match wanted {
                0 => Vec::new(),
                wanted => reader.read(quota.take(on, wanted).await).await?,
            };
            queue.finish(taken, bytes);
            // A driver that offers without end does not keep the loop from others.
            tokio::task::yield_now().await;
        }
        rung.take().await?;
    }
}

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
struct Quota {
    allowance: Allowance,
    left: u64,
    /// When the period ends that began with the first byte.
    ends: Option<Instant>,
}

impl Quota {
    fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            left: allowance.max_bytes,
            ends: None,
        }
    }

    /// As many of `wanted` bytes as may be had, at least one, once there are any.
    async fn take(&mut self, on: &Handle, wanted: u64) -> usize {
        loop {
            if self.ends.is_some_and(|end| end <= Instant::now()) {
                *self = Self::new(self.allowance);
            }
            let taken = wanted.min(self.left);
            let end = *self.ends.get_or_insert_with(|| Instant::now() + self.allowance.period);
            if taken != 0 {
                self.left -= taken;
                return usize::try_from(taken).unwrap_or(usize::MAX);
            }
            on.sleep(end.saturating_duration_since(Instant::now())).await;
        }
    }
}
