//! Who answers which guest address: ports and memory-mapped registers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::devices::Device;

/// A device as buses share it.
pub type SharedDevice = Arc<Mutex<dyn Device>>;

/// A range that is taken already, or that wraps around.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} 0x{start:x}-0x{end:x} of {device} overlaps {other}")]
pub struct RangeTaken {
    kind: &'static str,
    start: u64,
    end: u64,
    device: &'static str,
    other: String,
}

/// Ports and memory-mapped registers of a machine.
#[derive(Debug)]
pub struct AddressSpace {
    ports: RwLock<Ranges>,
    memory: RwLock<Ranges>,
}

impl Default for AddressSpace {
    fn default() -> Self {
        Self {
            ports: RwLock::new(Ranges::new("I/O ports", 0x1_0000)),
            memory: RwLock::new(Ranges::new("memory", u64::MAX)),
        }
    }
}

impl AddressSpace {
    /// Hands `len` ports from `start` on to `device`, which sees offsets from `bias` on.
    ///
    /// # Errors
    /// When a port is taken already or there is no such port.
    pub fn map_ports(&self, start: u16, len: u16, device: &SharedDevice, bias: u16) -> Result<(), RangeTaken> {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.insert(u64::from(start), u64::from(len), device, u64::from(bias))
    }

    /// Hands `len` bytes from `start` on to `device`, which sees offsets from 0 on.
    ///
    /// # Errors
    /// When the range overlaps another.
    pub fn map_memory(&self, start: u64, len: u64, device: &SharedDevice) -> Result<(), RangeTaken> {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.insert(start, len, device, 0)
    }

    /// Takes back the range of ports that starts at `start`.
    pub fn unmap_ports(&self, start: u16) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.remove(u64::from(start));
    }

    /// Takes back the memory range that starts at `start`.
    pub fn unmap_memory(&self, start: u64) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.remove(start);
    }

    /// A guest's read from ports. Ports that nobody answers read as ones.
    pub fn pio_read(&self, port: u16, data: &mut [u8]) {
        let hit = find(&self.ports, u64::from(port), data.len());
        let Some((device, offset)) = hit else {
            return data.fill(0xff);
        };
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        match (device.as_pio(), u16::try_from(offset)) {
            (Some(view), Ok(offset)) => view.pio_read(offset, data),
            _ => data.fill(0xff),
        }
    }

    /// A guest's write to ports. Writes that nobody takes are lost.
    pub fn pio_write(&self, port: u16, data: &[u8]) {
        let Some((device, offset)) = find(&self.ports, u64::from(port), data.len()) else {
            return;
        };
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(view), Ok(offset)) = (device.as_pio(), u16::try_from(offset)) {
            view.pio_write(offset, data);
        }
    }

    /// A guest's read from memory that is not RAM. Addresses that nobody answers read as ones.
    pub fn mmio_read(&self, addr: u64, data: &mut [u8]) {
        let Some((device, offset)) = find(&self.memory, addr, data.len()) else {
            return data.fill(0xff);
        };
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        match device.as_mmio() {
            Some(view) => view.mmio_read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A guest's write to memory that is not RAM.
    pub fn mmio_write(&self, addr: u64, data: &[u8]) {
        let Some((device, offset)) = find(&self.memory, addr, data.len()) else {
            return;
        };
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = device.as_mmio() {
            view.mmio_write(offset, data);
        }
    }
}

fn find(ranges: &RwLock<Ranges>, addr: u64, len: usize) -> Option<(SharedDevice, u64)> {
    let ranges = ranges.read().unwrap_or_else(PoisonError::into_inner);
    let range = ranges.find(addr)?;
    // An access that starts in one range and ends in another is split by no device; nobody answers it.
    let last = addr.checked_add(u64::try_from(len).ok()?.checked_sub(1)?)?;
    (last <= range.last).then(|| (Arc::clone(&range.device), addr - range.start + range.bias))
}

/// Ranges sorted by their start; none overlap.
struct Ranges {
    kind: &'static str,
    limit: u64,
    sorted: Vec<Range>,
}

struct Range {
    start: u64,
    last: u64,
    bias: u64,
    device: SharedDevice,
}

impl Ranges {
    fn new(kind: &'static str, limit: u64) -> Self {
        Self {
            kind,
            limit,
            sorted: Vec::new(),
        }
    }

    fn find(&self, addr: u64) -> Option<&Range> {
        let after = self.sorted.partition_point(|range| range.start <= addr);
        let range = self.sorted.get(after.checked_sub(1)?)?;
        (addr <= range.last).then_some(range)
    }

    fn insert(&mut self, start: u64, len: u64, device: &SharedDevice, bias: u64) -> Result<(), RangeTaken> {
        let end = start.saturating_add(len);
        let taken = |other: &str| RangeTaken {
            kind: self.kind,
            start,
            end: end.saturating_sub(1),
            device: name_of(device),
            other: other.to_owned(),
        };
        if len == 0 || start.checked_add(len).is_none_or(|end| end > self.limit) {
            return Err(taken("the end of the address space"));
        }
        let at = self.sorted.partition_point(|range| range.start < start);
        let before = at.checked_sub(1).and_then(|before| self.sorted.get(before));
        let overlaps_before = before.filter(|range| range.last >= start);
        let overlaps_after = self.sorted.get(at).filter(|range| range.start < end);
        if let Some(other) = overlaps_before.or(overlaps_after) {
            return Err(taken(name_of(&other.device)));
        }
        let range = Range {
            start,
            last: end - 1,
            bias,
            device: Arc::clone(device),
        };
        self.sorted.insert(at, range);
        Ok(())
    }

    fn remove(&mut self, start: u64) {
        self.sorted.retain(|range| range.start != start);
    }
}

/// The device's name for a message. A device may remap itself while it answers the guest, and is locked then.
fn name_of(device: &SharedDevice) -> &'static str {
    device.try_lock().map_or("a device in use", |device| device.type_name())
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self
            .sorted
            .iter()
            .map(|range| (format!("{:x}-{:x}", range.start, range.last), name_of(&range.device)));
        f.debug_map().entries(lines).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::devices::{DeviceState, PioDevice};

    /// Answers with the offset it is asked for.
    struct Echo;

    impl Device for Echo {
        fn type_name(&self) -> &'static str {
            "echo"
        }
        fn reset(&mut self) {}
        fn state(&self) -> DeviceState {
            DeviceState::Empty
        }
        fn restore(&mut self, _: u32, _: &Value) -> Result<(), String> {
            Ok(())
        }
        fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
            Some(self)
        }
    }

    impl PioDevice for Echo {
        fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn pio_write(&mut self, _: u16, _: &[u8]) {}
    }

    fn read(space: &AddressSpace, port: u16, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        space.pio_read(port, &mut data);
        data
    }

    #[test]
    fn accesses_find_their_range_and_nothing_else() {
        let space = AddressSpace::default();
        let echo: SharedDevice = Arc::new(Mutex::new(Echo));
        space.map_ports(0x60, 1, &echo, 0).unwrap();
        space.map_ports(0x64, 1, &echo, 1).unwrap();
        space.map_ports(0x3f8, 8, &echo, 0).unwrap();
        assert_eq!(read(&space, 0x60, 1), [0]);
        assert_eq!(read(&space, 0x64, 1), [1]);
        assert_eq!(read(&space, 0x3ff, 1), [7]);
        for port in [0x5f, 0x61, 0x63, 0x65, 0x3f7, 0x400, 0xffff] {
            assert_eq!(read(&space, port, 1), [0xff], "port {port:x}");
        }
    }

    #[test]
    fn an_access_over_the_end_of_a_range_is_nobodys() {
        let space = AddressSpace::default();
        let echo: SharedDevice = Arc::new(Mutex::new(Echo));
        space.map_ports(0x60, 1, &echo, 0).unwrap();
        assert_eq!(read(&space, 0x60, 2), [0xff, 0xff]);
    }

    #[test]
    fn an_overlap_names_both_devices() {
        let space = AddressSpace::default();
        let echo: SharedDevice = Arc::new(Mutex::new(Echo));
        space.map_ports(0x3f8, 8, &echo, 0).unwrap();
        for (start, len) in [(0x3f8, 8), (0x3f0, 9), (0x3ff, 1), (0x3f0, 32)] {
            let error = space.map_ports(start, len, &echo, 0).unwrap_err();
            assert!(error.to_string().ends_with("of echo overlaps echo"), "{error}");
        }
        space.unmap_ports(0x3f8);
        space.map_ports(0x3ff, 1, &echo, 0).unwrap();
        assert!(space.map_ports(0xffff, 2, &echo, 0).is_err());
    }
}
