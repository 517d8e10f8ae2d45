//! What base address registers map, kept in line with what the guest writes to them.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{BarKind, Device, SharedFunction, lock};
use crate::{
    devices::{DeviceState, MmioDevice, PioDevice},
    machine::bus::{AddressSpace, SharedDevice},
};

/// The windows of one function.
#[derive(Default)]
pub(super) struct Windows {
    open: Vec<Window>,
    /// Some stay closed because others are where they should be.
    blocked: bool,
}

struct Window {
    bar: usize,
    kind: BarKind,
    range: Range<u64>,
}

impl Windows {
    /// Whether a window waits for another to move away.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Closes windows that moved or were switched off, and opens new ones. Returns whether any was closed, so that
    /// others may open now.
    pub(super) fn refresh(&mut self, function: &SharedFunction, space: &AddressSpace) -> bool {
        let wanted: Vec<Window> = {
            let function = lock(function);
            let config = function.config();
            let bars = config.bars();
            bars.filter_map(|(bar, kind, _)| {
                Some(Window {
                    bar,
                    kind,
                    range: config.bar_range(bar)?,
                })
            })
            .collect()
        };
        let stays = |window: &Window, list: &[Window]| {
            list.iter()
                .any(|other| other.bar == window.bar && other.range == window.range)
        };
        let before = self.open.len();
        self.open.retain(|window| {
            let stays = stays(window, &wanted);
            if !stays {
                window.close(space);
            }
            stays
        });
        let closed = self.open.len() < before;
        self.blocked = false;
        for window in wanted {
            if stays(&window, &self.open) {
                continue;
            }
            match window.open(function, space) {
                true => self.open.push(window),
                false => self.blocked = true,
            }
        }
        closed
    }
}

impl Window {
    fn open(&self, function: &SharedFunction, space: &AddressSpace) -> bool {
        let name = lock(function).type_name();
        let device: SharedDevice = Arc::new(Mutex::new(Behind {
            function: Arc::clone(function),
            bar: self.bar,
            name,
        }));
        let len = self.range.end - self.range.start;
        let result = match (self.kind, u16::try_from(self.range.start), u16::try_from(len)) {
            (BarKind::Io, Ok(start), Ok(len)) => space.map_ports(start, len, &device, 0),
            (BarKind::Io, ..) => return false,
            _ => space.map_memory(self.range.start, len, &device),
        };
        // Guests move windows one by one, so two may overlap for a while; the later one stays closed until the other
        // has moved.
        if let Err(error) = &result {
            tracing::debug!(bar = self.bar, %error, "window");
        }
        result.is_ok()
    }

    fn close(&self, space: &AddressSpace) {
        match (self.kind, u16::try_from(self.range.start)) {
            (BarKind::Io, Ok(start)) => space.unmap_ports(start),
            _ => space.unmap_memory(self.range.start),
        }
    }
}

/// What lies behind one base address register.
struct Behind {
    function: SharedFunction,
    bar: usize,
    name: &'static str,
}

impl Device for Behind {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn reset(&mut self) {}

    fn state(&self) -> DeviceState {
        DeviceState::Empty
    }

    fn restore(&mut self, _version: u32, _fields: &Value) -> Result<(), String> {
        Err("a window has no state of its own".into())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }

    fn as_mmio(&mut self) -> Option<&mut dyn MmioDevice> {
        Some(self)
    }
}

impl PioDevice for Behind {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        lock(&self.function).bar_read(self.bar, offset.into(), data);
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        lock(&self.function).bar_write(self.bar, offset.into(), data);
    }
}

impl MmioDevice for Behind {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        lock(&self.function).bar_read(self.bar, offset, data);
    }

    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        lock(&self.function).bar_write(self.bar, offset, data);
    }
}
