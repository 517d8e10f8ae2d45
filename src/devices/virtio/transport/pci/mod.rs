//! Virtio over PCI (virtio 1.2, 4.1): a function whose registers drive a device.

mod class;
mod interrupts;
mod layout;
mod legacy;
mod registers;
mod saved;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

pub use class::{INTERFACES, IOEVENTFD, Interfaces, RINGS, VECTORS, VIRTIO_PCI, VirtioPciError, realize};
use interrupts::{Interrupts, NO_VECTOR};
use layout::ConfigWindow;
use registers::{NotifyLayout, Selection};
use saved::Saved;

use serde_json::{Value, json};

use super::super::core::Core;
use super::super::saved::VirtioState;
use super::super::{Features, Interrupt, Link, VirtioDevice};
use crate::devices::class::ChildBus;
use crate::devices::drain::Drain;
use crate::devices::pci::{ConfigSpace, Endpoint, Msix, PciFunction, PowerManagement};
use crate::devices::{BootName, Device, IrqLine};
use crate::irq::MsiSource;
use crate::mem::{AddressSpace, Doorbell};
use crate::qom::Object;
use crate::vmstate::{StateError, Visitor, section};

/// Offset of the command register, and of the status register behind it.
const COMMAND: usize = 4;
const STATUS: usize = 6;
/// Offset of class and subclass.
const CLASS: usize = 0x0a;
/// Command: the function may start transfers.
const BUS_MASTER: u8 = 1 << 2;
/// Status: the function asks for an interrupt by pin.
const INTERRUPT_STATUS: u8 = 1 << 3;
/// Bytes of configuration space that conventional functions have.
const CONVENTIONAL: u16 = 0x100;
/// Base address register of the MSI-X table.
const MSIX_BAR: usize = 1;

/// What a function is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioPciConfig {
    /// QOM type name.
    pub type_name: &'static str,
    /// It sits behind a PCI Express port.
    pub express: bool,
    /// It has the legacy interface.
    pub legacy: bool,
    /// It has the modern interface.
    pub modern: bool,
    /// MSI-X vectors; 0 for no MSI-X.
    pub vectors: u16,
    /// Whether the slot may hold more functions.
    pub multifunction: bool,
    /// Each queue is rung for in a page of its own.
    pub page_per_queue: bool,
    /// The accelerator takes notifications.
    pub ioeventfd: bool,
    /// The function can be reset by its PCI Express capability.
    pub function_level_reset: bool,
    /// It keeps its state when it wakes from D3hot.
    pub no_soft_reset: bool,
    /// Its PCI Express capability offers tags of eight bits.
    pub extended_tag: bool,
    /// The feature bits of transport and rings that are offered.
    pub features: Features,
}

/// How a function reaches the rest of the machine.
#[derive(Clone)]
pub struct VirtioPciLinks {
    /// The line that its INTA# leads to.
    pub intx: Arc<dyn IrqLine>,
    /// Where its vectors come from.
    pub msi: Arc<dyn MsiSource>,
    /// The memory it reads and writes.
    pub memory: Arc<AddressSpace>,
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    type_name: &'static str,
    config: ConfigSpace,
    express: Option<(Endpoint, PowerManagement)>,
    window: Option<ConfigWindow>,
    msix: Option<Msix>,
    interrupts: Arc<Interrupts>,
    core: Core,
    selection: Selection,
    notify: NotifyLayout,
    legacy: bool,
    ioeventfd: bool,
    /// The device behind it, as the tree of objects shows it.
    backend: Arc<dyn Object>,
}

impl VirtioPci {
    /// A function with this device behind it, which the tree of objects shows as `backend`.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new(
        config: VirtioPciConfig,
        links: VirtioPciLinks,
        device: Arc<dyn VirtioDevice>,
        backend: Arc<dyn Object>,
    ) -> io::Result<Self> {
        let offered = config
            .features
            .with(Features::VERSION_1, config.modern)
            .with(Features::BAD_FEATURE, config.legacy);
        let link = Link::new(device.kind().name, &links.memory);
        let core = Core::new(device, &link, offered)?;
        let laid_out = layout::configuration(&config, &core, links.msi);
        let vectors = laid_out.msix.as_ref().map(Msix::vectors).unwrap_or_default();
        let interrupts = Interrupts::new(vectors.to_vec(), core.most_queues(), links.intx);
        link.set_interrupt(Arc::clone(&interrupts) as Arc<dyn Interrupt>);
        let mut function = Self {
            type_name: config.type_name,
            config: laid_out.config,
            express: laid_out.express,
            window: laid_out.window,
            msix: laid_out.msix,
            interrupts,
            core,
            selection: Selection::default(),
            notify: NotifyLayout::new(config.page_per_queue),
            legacy: config.legacy,
            ioeventfd: config.ioeventfd,
            backend,
        };
        function.reset();
        Ok(function)
    }

    /// The driver wrote the device status.
    fn set_status(&mut self, value: u8) {
        self.core.set_status(value, !self.legacy);
        if value == 0 {
            self.interrupts.reset();
            self.selection = Selection::default();
        }
    }

    /// Lets the function start transfers, as its driver should have.
    fn allow_transfers(&mut self) {
        let command = self.config.u8(COMMAND);
        self.config.set(COMMAND, &[command | BUS_MASTER]);
        self.modes_changed();
    }

    /// The device returns to the state after power-on; the function's place and identity stay.
    fn reset_device(&mut self) {
        if let Some(msix) = &mut self.msix {
            msix.reset();
        }
        self.core.reset();
        self.interrupts.reset();
        self.selection = Selection::default();
        self.modes_changed();
    }

    /// Configuration space may say otherwise who may do what.
    fn modes_changed(&mut self) {
        let is_msix = self.msix.as_ref().is_some_and(|msix| msix.is_enabled(&self.config));
        let is_master = self.config.is_bus_master();
        self.interrupts
            .set_modes(is_msix, is_master, !self.config.allows_intx());
        if is_master == self.core.link().is_disabled() {
            self.core.set_disabled(!is_master);
        }
    }

    /// Shows in the status register whether the pin asks.
    fn show_pin(&mut self) {
        let status = self.config.u8(STATUS) & !INTERRUPT_STATUS;
        let asked = if self.interrupts.asks_by_pin() {
            INTERRUPT_STATUS
        } else {
            0
        };
        self.config.set(STATUS, &[status | asked]);
    }
}

impl Device for VirtioPci {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn reset(&mut self) {
        self.config.reset();
        self.reset_device();
    }

    fn pause(&mut self) -> Option<Drain> {
        self.core.pause()
    }

    fn resume(&mut self) {
        self.core.resume();
    }

    fn unrealize(&mut self) {
        self.core.reset();
        self.core.device().unrealize();
    }

    fn property(&self, name: &str) -> Option<Value> {
        match name {
            "disable-legacy" => Some(json!(if self.legacy { "off" } else { "on" })),
            "vectors" => Some(json!(self.msix.as_ref().map_or(0, |msix| msix.vectors().len()))),
            "class" => Some(json!(self.config.u16(CLASS))),
            _ => self.core.device().property(name),
        }
    }

    fn set_property(&mut self, name: &str, value: &Value) -> Option<Result<(), String>> {
        self.core.device().set_property(name, value)
    }

    fn child_bus(&self) -> Option<ChildBus> {
        self.core.device().child_bus()
    }

    fn boot_name(&self) -> Option<BootName> {
        self.core.device().boot_name()
    }

    fn parts(&self) -> Vec<(&'static str, Arc<dyn Object>)> {
        vec![("virtio-backend", Arc::clone(&self.backend))]
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        match self.core.device().section() {
            Some(layout) => visit(&mut section::<VirtioState>(&mut Saved::new(self, layout))),
            None => Ok(()),
        }
    }

    fn migration_blocker(&self) -> Option<&'static str> {
        match self.core.device().section() {
            Some(_) => None,
            None => Some("this virtio device cannot be saved"),
        }
    }
}

impl PciFunction for VirtioPci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_read(&mut self, at: u16, data: &mut [u8]) {
        if self.express.is_none() && at >= CONVENTIONAL {
            return data.fill(0xff);
        }
        self.show_pin();
        if let Some(window) = self.window.filter(|window| window.is_data(at, data.len())) {
            if let Some((offset, len)) = window.target(&self.config) {
                let mut value = [0; 4];
                self.modern_read(offset, &mut value[..len]);
                self.config.set(window.data(), &value);
            }
        }
        self.config.read(at, data);
    }

    fn config_written(&mut self, at: u16, len: usize) {
        if let Some(msix) = &mut self.msix {
            msix.config_written(&self.config);
        }
        self.modes_changed();
        if let Some(window) = self.window.filter(|window| window.is_data(at, len)) {
            if let Some((offset, len)) = window.target(&self.config) {
                let value = self.config.u32(window.data()).to_le_bytes();
                self.modern_write(offset, &value[..len]);
            }
        }
        let Some((endpoint, power)) = &mut self.express else {
            return;
        };
        // Both may be asked for by one write; each is done once.
        let resets = endpoint.take_reset(&mut self.config);
        let wakes = power.config_written(&self.config);
        if resets {
            self.reset();
        } else if wakes {
            self.reset_device();
        }
    }

    fn asks_by_pin(&self) -> bool {
        self.interrupts.asks_by_pin() && self.config.allows_intx()
    }

    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]) {
        match bar {
            legacy::BAR if self.legacy => self.legacy_read(offset, data),
            registers::BAR => self.modern_read(offset, data),
            MSIX_BAR if self.msix.as_ref().is_some_and(|msix| msix.read(offset, data)) => {}
            _ => data.fill(0),
        }
    }

    fn bar_write(&mut self, bar: usize, offset: u64, data: &[u8]) {
        match bar {
            legacy::BAR if self.legacy => self.legacy_write(offset, data),
            registers::BAR => self.modern_write(offset, data),
            MSIX_BAR => {
                if let Some(msix) = &mut self.msix {
                    msix.write(&self.config, offset, data);
                }
            }
            _ => {}
        }
    }

    fn doorbells(&self, bar: usize) -> Vec<(u64, Doorbell)> {
        if !self.ioeventfd {
            return Vec::new();
        }
        let queues = self.core.queues();
        match bar {
            legacy::BAR if self.legacy => queues
                .map(|queue| {
                    let bell = queue.doorbell().answering_to(queue.index().into(), 2);
                    (legacy::NOTIFY, bell)
                })
                .collect(),
            registers::BAR => queues
                .map(|queue| (self.notify.offset(queue.index()), queue.doorbell().clone()))
                .collect(),
            _ => Vec::new(),
        }
    }
}
