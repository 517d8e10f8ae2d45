//! What every PCI function offers.

use super::ConfigSpace;
use crate::devices::Device;

/// A PCI function. What lies behind its base address registers is reached by register number and offset.
pub trait PciFunction: Device {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;
    /// Its configuration space, to be written by the guest.
    fn config_mut(&mut self) -> &mut ConfigSpace;
    /// The guest wrote `len` bytes of configuration space from `at` on, and it has taken what may change.
    fn config_written(&mut self, at: u16, len: usize) {
        let _ = (at, len);
    }
    /// A guest's read from what base address register `bar` maps.
    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]) {
        let _ = (bar, offset);
        data.fill(0xff);
    }
    /// A guest's write to what base address register `bar` maps.
    fn bar_write(&mut self, bar: usize, offset: u64, data: &[u8]) {
        let _ = (bar, offset, data);
    }
}
