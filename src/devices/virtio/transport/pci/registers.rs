//! The registers of the modern interface: common configuration, notifications, ISR and device configuration, all behind
//! one base address register (virtio 1.2, 4.1.4).

use std::ops::Range;

use super::VirtioPci;
use crate::devices::virtio::core::Area;

/// Base address register of the modern registers.
pub(super) const BAR: usize = 4;
/// Bytes of each of the four structures but notifications.
const LEN: u64 = 0x1000;
/// Where the structures are.
pub(super) const COMMON: u64 = 0;
pub(super) const ISR: u64 = 0x1000;
pub(super) const DEVICE: u64 = 0x2000;
pub(super) const NOTIFY: u64 = 0x3000;
/// Queues there may be: as many have a place among the notifications.
const QUEUES: u64 = 1024;
/// Bytes between the notifications of two queues.
const CLOSE: u32 = 4;
/// The same when each queue has a page.
const PAGE: u32 = 0x1000;

/// Where the driver rings for each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotifyLayout {
    /// Bytes between two queues.
    pub(super) multiplier: u32,
}

impl NotifyLayout {
    pub(super) fn new(page_per_queue: bool) -> Self {
        Self {
            multiplier: if page_per_queue { PAGE } else { CLOSE },
        }
    }

    /// Bytes of all notifications.
    pub(super) fn len(self) -> u32 {
        // 1024 pages at most.
        self.multiplier * 1024
    }

    /// Where queue `queue` is rung for.
    pub(super) fn offset(self, queue: u16) -> u64 {
        NOTIFY + u64::from(self.multiplier) * u64::from(queue)
    }

    /// Bytes of the base address register.
    pub(super) fn bar_len(self) -> u64 {
        (NOTIFY + u64::from(self.len())).next_power_of_two()
    }

    fn queue(self, offset: u64) -> u16 {
        let queue = offset / u64::from(self.multiplier);
        u16::try_from(queue.min(QUEUES)).unwrap_or(u16::MAX)
    }
}

/// What the driver has selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) device_feature: u32,
    pub(super) driver_feature: u32,
    pub(super) queue: u16,
}

/// A register of the common configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    QueueCount,
    Status,
    Generation,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOffset,
    /// The lower or upper half of an address.
    Address(Area, bool),
    QueueReset,
}

/// Offset, bytes and name of each.
const COMMON_REGISTERS: [(u64, usize, Register); 20] = [
    (0x00, 4, Register::DeviceFeatureSelect),
    (0x04, 4, Register::DeviceFeature),
    (0x08, 4, Register::DriverFeatureSelect),
    (0x0c, 4, Register::DriverFeature),
    (0x10, 2, Register::ConfigVector),
    (0x12, 2, Register::QueueCount),
    (0x14, 1, Register::Status),
    (0x15, 1, Register::Generation),
    (0x16, 2, Register::QueueSelect),
    (0x18, 2, Register::QueueSize),
    (0x1a, 2, Register::QueueVector),
    (0x1c, 2, Register::QueueEnable),
    (0x1e, 2, Register::QueueNotifyOffset),
    (0x20, 4, Register::Address(Area::Descriptors, false)),
    (0x24, 4, Register::Address(Area::Descriptors, true)),
    (0x28, 4, Register::Address(Area::Driver, false)),
    (0x2c, 4, Register::Address(Area::Driver, true)),
    (0x30, 4, Register::Address(Area::Device, false)),
    (0x34, 4, Register::Address(Area::Device, true)),
    (0x3a, 2, Register::QueueReset),
];

impl VirtioPci {
    /// A guest's read of the modern registers.
    pub(super) fn modern_read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = within(offset, &(COMMON..COMMON + LEN)) {
            self.common_read(offset, data);
        } else if let Some(0) = within(offset, &(ISR..ISR + LEN)) {
            if let Some(first) = data.first_mut() {
                *first = self.interrupts.take_isr();
            }
        } else if let Some(offset) = within(offset, &(DEVICE..DEVICE + LEN)) {
            self.core.read_config(offset, data);
        }
    }

    /// A guest's write to the modern registers.
    pub(super) fn modern_write(&mut self, offset: u64, data: &[u8]) {
        let notify = NOTIFY..NOTIFY + u64::from(self.notify.len());
        if let Some(offset) = within(offset, &(COMMON..COMMON + LEN)) {
            self.common_write(offset, data);
        } else if let Some(offset) = within(offset, &(DEVICE..DEVICE + LEN)) {
            self.core.write_config(offset, data);
        } else if let Some(offset) = within(offset, &notify) {
            self.core.notify(self.notify.queue(offset));
        }
    }

    /// Any part of any registers: none of them changes by being read.
    fn common_read(&self, offset: u64, data: &mut [u8]) {
        for (start, len, register) in COMMON_REGISTERS {
            let value = self.register(register).to_le_bytes();
            for (byte, at) in value[..len].iter().zip(start..) {
                let place = at.checked_sub(offset).and_then(|place| usize::try_from(place).ok());
                if let Some(place) = place.and_then(|place| data.get_mut(place)) {
                    *place = *byte;
                }
            }
        }
    }

    /// Registers are written as a whole; of addresses, both halves may be written at once.
    fn common_write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let known = COMMON_REGISTERS.iter().find(|(start, ..)| *start == at);
            let Some((_, len, register)) = known.filter(|(_, len, _)| *len <= rest.len()) else {
                return;
            };
            let (now, later) = rest.split_at(*len);
            let mut value = [0; 4];
            value[..*len].copy_from_slice(now);
            let is_half = matches!(register, Register::Address(..));
            if !is_half && *len != data.len() {
                return;
            }
            self.set_register(*register, u32::from_le_bytes(value));
            (rest, at) = (later, at + *len as u64);
        }
    }

    fn register(&self, register: Register) -> u32 {
        let (core, selected) = (&self.core, self.selection);
        let queue = selected.queue;
        match register {
            Register::DeviceFeatureSelect => selected.device_feature,
            Register::DeviceFeature => core.offered_modern().word(selected.device_feature),
            Register::DriverFeatureSelect => selected.driver_feature,
            Register::DriverFeature => core.accepted().word(selected.driver_feature),
            Register::ConfigVector => self.interrupts.config_vector().into(),
            Register::QueueCount => core.queue_count().into(),
            Register::Status => core.link().status().into(),
            Register::Generation => core.link().generation() & 0xff,
            Register::QueueSelect => queue.into(),
            Register::QueueSize => core.queue_size(queue).into(),
            Register::QueueVector => self.interrupts.queue_vector(queue).into(),
            Register::QueueEnable => core.is_enabled(queue).into(),
            Register::QueueNotifyOffset if queue < core.queue_count() => queue.into(),
            Register::QueueNotifyOffset => 0,
            Register::Address(area, upper) => {
                let addr = core.area(queue, area);
                (if upper { addr >> 32 } else { addr & 0xffff_ffff }) as u32
            }
            // A reset is done when the write to the register is.
            Register::QueueReset => 0,
        }
    }

    fn set_register(&mut self, register: Register, value: u32) {
        let queue = self.selection.queue;
        // The registers are as wide as their values.
        let [low, high, ..] = value.to_le_bytes();
        let word = u16::from_le_bytes([low, high]);
        match register {
            Register::DeviceFeatureSelect => self.selection.device_feature = value,
            Register::DriverFeatureSelect => self.selection.driver_feature = value,
            Register::DriverFeature => {
                let features = self.core.accepted().with_word(self.selection.driver_feature, value);
                self.core.accept(features);
            }
            Register::ConfigVector => self.interrupts.set_config_vector(word),
            Register::Status => self.set_status(low),
            Register::QueueSelect => self.selection.queue = word,
            Register::QueueSize => self.core.set_queue_size(queue, word),
            Register::QueueVector => self.interrupts.set_queue_vector(queue, word),
            Register::QueueEnable if word == 1 => self.core.enable(queue),
            Register::QueueEnable => self
                .core
                .link()
                .fail(format_args!("wrong value for queue_enable {word:x}")),
            Register::Address(area, upper) => {
                let addr = self.core.area(queue, area);
                let value = u64::from(value);
                let addr = match upper {
                    true => addr & 0xffff_ffff | value << 32,
                    false => addr & !0xffff_ffff | value,
                };
                self.core.set_area(queue, area, addr);
            }
            Register::QueueReset if word == 1 => {
                self.core.reset_queue(queue);
                self.interrupts.set_queue_vector(queue, super::NO_VECTOR);
            }
            Register::QueueReset
            | Register::DeviceFeature
            | Register::QueueCount
            | Register::Generation
            | Register::QueueNotifyOffset => {}
        }
    }
}

fn within(offset: u64, range: &Range<u64>) -> Option<u64> {
    range.contains(&offset).then(|| offset - range.start)
}
