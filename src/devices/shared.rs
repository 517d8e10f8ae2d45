//! Devices as the machine shares them, and their registers as regions.

use std::sync::{Arc, Mutex, PoisonError};

use super::Device;
use crate::mem::{Access, IoHandler, Region};

/// A device as the machine shares it. The lock is held while it answers the guest.
pub type SharedDevice = Arc<Mutex<dyn Device>>;

/// `len` ports of a device; it sees offsets from `bias` on.
#[must_use]
pub fn ports(name: &str, len: u16, access: Access, device: &SharedDevice, bias: u16) -> Region {
    let handler = Ports {
        device: Arc::clone(device),
        bias,
    };
    Region::io(name, len.into(), access, Arc::new(handler))
}

/// `len` bytes of a device's memory-mapped registers.
#[must_use]
pub fn registers(name: &str, len: u64, access: Access, device: &SharedDevice) -> Region {
    Region::io(name, len, access, Arc::new(Registers(Arc::clone(device))))
}

struct Ports {
    device: SharedDevice,
    bias: u16,
}

impl Ports {
    fn offset(&self, offset: u64) -> Option<u16> {
        u16::try_from(offset).ok()?.checked_add(self.bias)
    }
}

impl IoHandler for Ports {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        match (device.as_pio(), self.offset(offset)) {
            (Some(view), Some(offset)) => view.pio_read(offset, data),
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(view), Some(offset)) = (device.as_pio(), self.offset(offset)) {
            view.pio_write(offset, data);
        }
    }
}

struct Registers(SharedDevice);

impl IoHandler for Registers {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut device = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match device.as_mmio() {
            Some(view) => view.mmio_read(offset, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut device = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = device.as_mmio() {
            view.mmio_write(offset, data);
        }
    }
}
