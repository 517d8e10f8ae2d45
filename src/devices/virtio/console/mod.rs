//! `virtio-serial`: ports that carry characters, a console among them (virtio 1.2, 5.3).

mod bus;
mod class;
mod control;
mod port;
mod port_class;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use bus::MULTIPORT;
pub use bus::PortBus;
pub use class::{CLASSES, SERIAL_DEVICE, SERIAL_PCI_BASE, SerialError};
pub use port::{PortConfig, PortError};
pub use port_class::{PORT_CLASSES, PORT_TYPES};
pub use state::{HeldState, PortState, SerialState};

use super::saved::OwnState;
use super::{Features, Kind, Link, VirtioDevice, Virtqueue};
use crate::devices::class::ChildBus;
use crate::io::{Handle, Task};
use crate::vmstate::{Layout, StateError};

/// Feature: a byte can be said without a queue.
const EMERGENCY_WRITE: Features = Features::bit(2);
/// Buffers that queues have room for: those of ports, and those that carry what is said of ports.
const PORT_QUEUE: u16 = 128;
const CONTROL_QUEUE: u16 = 32;
/// Where the byte that is said without a queue is written to in the configuration, which is so long.
const EMERGENCY_AT: usize = 8;
const CONFIG_LEN: usize = 12;

/// The device.
pub struct Serial {
    kind: &'static Kind,
    bus: Arc<PortBus>,
    runs_on: Handle,
    tasks: Mutex<Vec<Task>>,
}

impl Serial {
    /// A device of this kind with these ports, that works on `runs_on`.
    #[must_use]
    pub fn new(kind: &'static Kind, bus: Arc<PortBus>, runs_on: Handle) -> Self {
        Self {
            kind,
            bus,
            runs_on,
            tasks: Mutex::default(),
        }
    }
}

impl VirtioDevice for Serial {
    fn kind(&self) -> &'static Kind {
        self.kind
    }

    fn features(&self) -> Features {
        Features::NONE
            .with(MULTIPORT, self.bus.max_ports() > 1)
            .with(EMERGENCY_WRITE, true)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let pairs = usize::try_from(self.bus.max_ports()).unwrap_or_default() + 1;
        let mut sizes = vec![PORT_QUEUE; 2 * pairs];
        sizes[2..4].fill(CONTROL_QUEUE);
        sizes
    }

    fn config(&self) -> Vec<u8> {
        // Columns and rows of a console whose size nobody tells.
        let mut config = vec![0; 4];
        config.extend(self.bus.max_ports().to_le_bytes());
        config.resize(CONFIG_LEN, 0);
        config
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let byte = EMERGENCY_AT.checked_sub(offset).and_then(|at| data.get(at));
        if let Some(byte) = byte.filter(|byte| **byte != 0) {
            self.bus.emergency(*byte);
        }
    }

    fn connect(&self, _link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>) {
        self.bus.connect(&queues);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, queue) in queues.into_iter().enumerate() {
            let (bus, on) = (Arc::clone(&self.bus), self.runs_on.clone());
            let task = self.runs_on.spawn(async move {
                let rung = on.counter(queue.doorbell().event());
                let served = async {
                    let rung = rung?;
                    loop {
                        rung.take().await?;
                        bus.rung(index);
                    }
                };
                let ended: std::io::Result<()> = served.await;
                if let Err(error) = ended {
                    tracing::error!(%error, "a queue of virtio-serial is not served any more");
                }
            });
            match task {
                Ok(task) => tasks.push(task),
                Err(error) => tracing::error!(%error, "no thread for virtio-serial"),
            }
        }
    }

    fn driver_ready(&self, features: Features) {
        self.bus.driver_ready(features);
    }

    fn driver_gone(&self) {
        self.bus.driver_gone();
    }

    fn reset_queue(&self, queue: u16) {
        self.bus.reset_queue(queue);
    }

    fn section(&self) -> Option<Layout> {
        Some(Layout::new("virtio-console", 3))
    }

    fn redoes_buffers(&self) -> bool {
        false
    }

    fn state(&self) -> OwnState {
        OwnState::Serial(self.bus.state())
    }

    fn set_state(&self, state: OwnState) -> Result<(), StateError> {
        match state {
            OwnState::Serial(state) => self.bus.set_state(&state),
            OwnState::None => Ok(()),
        }
    }

    fn child_bus(&self) -> Option<ChildBus> {
        Some(ChildBus::Ports(Arc::clone(&self.bus)))
    }
}
