//! The registers of the legacy interface, in I/O ports (virtio 1.2, 4.1.4.10).

use super::{NO_VECTOR, VirtioPci};
use crate::devices::virtio::core::Area;
use crate::devices::virtio::queue::RingLayout;
use crate::devices::virtio::status;

/// Base address register of the ports.
pub(super) const BAR: usize = 0;
/// Offset of the notification.
pub(super) const NOTIFY: u64 = 0x10;
/// Bytes of the registers before those of MSI-X.
const HEADER: u64 = 0x14;
/// Bytes of the two vectors, which are only there while MSI-X is on.
const VECTORS: u64 = 4;
/// What rings are a multiple of.
const PAGE: u64 = 4096;
/// The driver has found the device and knows how to drive it.
const DRIVER_FOUND: u8 = 3;

/// Bytes of ports for a device with `config` bytes of configuration.
pub(super) fn bar_len(has_vectors: bool, config: usize) -> u64 {
    let vectors = if has_vectors { VECTORS } else { 0 };
    (HEADER + vectors + config as u64).next_power_of_two()
}

impl VirtioPci {
    /// A guest's read of the ports.
    pub(super) fn legacy_read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(self.legacy_header()) {
            return self.core.read_config(offset, data);
        }
        let queue = self.selection.queue;
        let value: u32 = match offset {
            0x00 => self.core.offered().word(0),
            0x04 => self.core.accepted().word(0),
            0x08 => u32::try_from(self.core.area(queue, Area::Descriptors) / PAGE).unwrap_or(u32::MAX),
            0x0c => self.core.queue_size(queue).into(),
            0x0e => queue.into(),
            0x12 => self.core.link().status().into(),
            0x13 => self.interrupts.take_isr().into(),
            0x14 => self.interrupts.config_vector().into(),
            0x16 => self.interrupts.queue_vector(queue).into(),
            _ => u32::MAX,
        };
        let value = value.to_le_bytes();
        let len = data.len().min(value.len());
        data[..len].copy_from_slice(&value[..len]);
    }

    /// A guest's write to the ports.
    pub(super) fn legacy_write(&mut self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(self.legacy_header()) {
            return self.core.write_config(offset, data);
        }
        let mut value = [0; 4];
        let len = data.len().min(value.len());
        value[..len].copy_from_slice(&data[..len]);
        let [byte, high, ..] = value;
        let word = u16::from_le_bytes([byte, high]);
        let queue = self.selection.queue;
        match offset {
            0x04 => self.core.accept_legacy(u32::from_le_bytes(value)),
            0x08 => self.set_page(u32::from_le_bytes(value)),
            0x0e => self.selection.queue = word,
            NOTIFY => self.core.notify(word),
            0x12 => self.legacy_status(byte),
            0x14 => self.interrupts.set_config_vector(word),
            0x16 => self.interrupts.set_queue_vector(queue, word),
            _ => {}
        }
    }

    /// Bytes before the device's configuration.
    fn legacy_header(&self) -> u64 {
        let is_on = self.msix.as_ref().is_some_and(|msix| msix.is_enabled(&self.config));
        HEADER + if is_on { VECTORS } else { 0 }
    }

    /// The driver gives the ring of the selected queue a place; number 0 resets the device.
    fn set_page(&mut self, number: u32) {
        if number == 0 {
            return self.set_status(0);
        }
        let queue = self.selection.queue;
        let size = self.core.queue_size(queue);
        if size == 0 || self.core.is_enabled(queue) {
            return;
        }
        let ring = RingLayout::legacy(size, u64::from(number) * PAGE);
        self.core.set_area(queue, Area::Descriptors, ring.descriptors);
        self.core.set_area(queue, Area::Driver, ring.driver);
        self.core.set_area(queue, Area::Device, ring.device);
        self.core.enable(queue);
    }

    fn legacy_status(&mut self, value: u8) {
        // Drivers of Linux before 2.6.34 do not let the function start transfers.
        if value == DRIVER_FOUND {
            self.allow_transfers();
        }
        // The legacy interface has no agreement upon features, and no need of a reset.
        self.set_status(value & !status::FEATURES_OK & !status::NEEDS_RESET);
        if value == 0 {
            self.interrupts.set_config_vector(NO_VECTOR);
        }
    }
}
