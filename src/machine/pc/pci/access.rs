//! The two ways to configuration space: ports 0xcf8 to 0xcff, and memory (PCI Local Bus 3.0, 3.2.2.3; PCI Express Base
//! 5.0, 7.2.2).

use std::sync::Arc;

use super::RootComplex;
use crate::{
    devices::{Device, Notice, Notifier, PioDevice},
    machine::pci::Devfn,
    mem::IoHandler,
    vmstate::{Fields, Layout, StateError, Stateful, Visitor, VmState, section},
};

/// The address register's enable bit.
const ENABLE: u32 = 1 << 31;
/// Offset of the data register.
const DATA: u16 = 4;
/// Offset of the reset control register, which hides in the address register.
const RESET: u16 = 1;
/// Reset control: a change from 0 to 1 resets.
const RESET_CPU: u8 = 1 << 2;
/// Reset control: bits that stay as written.
const RESET_KEPT: u8 = 1 << 1;

/// Ports 0xcf8 to 0xcff: configuration address and data, and the reset control register.
pub(crate) struct ConfigPorts {
    root: Arc<RootComplex>,
    notifier: Notifier,
    address: u32,
    reset: u8,
}

impl ConfigPorts {
    pub(crate) const PORT: u16 = 0xcf8;
    pub(crate) const LEN: u16 = 8;

    pub(crate) fn new(root: Arc<RootComplex>, notifier: Notifier) -> Self {
        Self {
            root,
            notifier,
            address: 0,
            reset: 0,
        }
    }

    /// The reset control register.
    pub(crate) fn reset_control(&self) -> u8 {
        self.reset
    }

    /// Sets the reset control register, which resets nothing.
    pub(crate) fn set_reset_control(&mut self, value: u8) {
        self.reset = value & RESET_KEPT;
    }

    /// Bus, function and register that the data register stands for; none while accesses are off.
    fn target(&self, offset: u16) -> Option<(u8, Devfn, u16)> {
        let [register, devfn, bus, _] = self.address.to_le_bytes();
        let at = u16::from(register & 0xfc) + (offset - DATA);
        (self.address & ENABLE != 0).then(|| (bus, Devfn::from_byte(devfn), at))
    }
}

impl PioDevice for ConfigPorts {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        if offset >= DATA {
            return match self.target(offset) {
                Some((bus, devfn, at)) => self.root.config_read(bus, devfn, at, data),
                None => data.fill(0xff),
            };
        }
        match (offset, data) {
            (0, data @ [_, _, _, _]) => data.copy_from_slice(&self.address.to_le_bytes()),
            (RESET, [byte]) => *byte = self.reset,
            (_, data) => data.fill(0xff),
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if offset >= DATA {
            if let Some((bus, devfn, at)) = self.target(offset) {
                self.root.config_write(bus, devfn, at, data);
            }
            return;
        }
        match (offset, data) {
            (0, [a, b, c, d]) => self.address = u32::from_le_bytes([*a, *b, *c, *d]),
            (RESET, [value]) => {
                self.reset = value & RESET_KEPT;
                if value & RESET_CPU != 0 {
                    (self.notifier)(Notice::ResetRequest);
                }
            }
            _ => {}
        }
    }
}

/// Section `PCIHost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PciHostState {
    /// The address register.
    pub(crate) config_reg: u32,
}

impl VmState for PciHostState {
    fn layout(&self) -> Layout {
        Layout::new("PCIHost", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("config_reg", &mut self.config_reg)
    }
}

impl Stateful<PciHostState> for ConfigPorts {
    fn state(&self) -> PciHostState {
        PciHostState {
            config_reg: self.address,
        }
    }

    fn set_state(&mut self, state: PciHostState) -> Result<(), StateError> {
        self.address = state.config_reg;
        Ok(())
    }
}

impl Device for ConfigPorts {
    fn type_name(&self) -> &'static str {
        "q35-pcihost"
    }

    fn reset(&mut self) {
        self.address = 0;
        self.reset = 0;
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<PciHostState>(self))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

/// Configuration space in memory: a page for each function.
pub(crate) struct MmConfig {
    root: Arc<RootComplex>,
}

impl MmConfig {
    pub(crate) fn new(root: Arc<RootComplex>) -> Self {
        Self { root }
    }
}

fn address(offset: u64) -> Option<(u8, Devfn, u16)> {
    let [low, middle, bus, over, ..] = offset.to_le_bytes();
    let register = u16::from(middle & 0xf) << 8 | u16::from(low);
    let [_, devfn_bits, ..] = (offset >> 4).to_le_bytes();
    let bus = u8::try_from(u16::from(bus) >> 4 | u16::from(over) << 4).ok()?;
    Some((bus, Devfn::from_byte(devfn_bits), register))
}

impl IoHandler for MmConfig {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match address(offset) {
            Some((bus, devfn, at)) => self.root.config_read(bus, devfn, at, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((bus, devfn, at)) = address(offset) {
            self.root.config_write(bus, devfn, at, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmstate::recorded::check_round_trips;

    #[test]
    fn its_section_is_qemus() {
        check_round_trips("PCIHost", |_| PciHostState::default());
    }

    #[test]
    fn a_page_for_each_function() {
        assert_eq!(address(0), Some((0, Devfn::new(0, 0), 0)));
        assert_eq!(address(0xf_b123), Some((0, Devfn::new(31, 3), 0x123)));
        assert_eq!(address(0x0ff0_8ffc), Some((255, Devfn::new(1, 0), 0xffc)));
    }
}
