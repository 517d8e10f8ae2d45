//! What PCI functions have in common in saved state: QEMU's structs `PCIDevice` and `msix`.

use super::ConfigSpace;
use crate::vmstate::{Fields, Layout, StateError, VmState};

/// Version of the bytes inside, which is a field of its own.
const INNER_VERSION: i32 = 2;
/// Bytes of a conventional function's configuration space.
const CONVENTIONAL: usize = 256;

/// A function's configuration space and interrupt pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciState {
    /// Configuration space: 256 bytes, or 4096 of a PCI Express function.
    pub config: Vec<u8>,
    /// Which of INTA# to INTD# are asserted.
    pub pins: [bool; 4],
}

impl PciState {
    /// The state of a conventional function.
    #[must_use]
    pub fn conventional(config: &ConfigSpace, pins: [bool; 4]) -> Self {
        Self {
            config: config.bytes()[..CONVENTIONAL].to_vec(),
            pins,
        }
    }

    /// The state of a PCI Express function.
    #[must_use]
    pub fn express(config: &ConfigSpace, pins: [bool; 4]) -> Self {
        Self {
            config: config.bytes().to_vec(),
            pins,
        }
    }
}

impl VmState for PciState {
    fn layout(&self) -> Layout {
        Layout::new("PCIDevice", 2).since(1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut inner = INNER_VERSION;
        fields.int_as("version_id", "int32 le", &mut inner)?;
        if !(0..=INNER_VERSION).contains(&inner) {
            return Err(StateError::out_of_range(
                "version_id",
                u32::from_ne_bytes(inner.to_ne_bytes()),
            ));
        }
        let name = if self.config.len() == CONVENTIONAL {
            "config[0]"
        } else {
            "config[1]"
        };
        fields.bytes(name, "pci config", &mut self.config)?;
        if fields.version() < 2 {
            return Ok(());
        }
        let mut bytes = [0; 16];
        for (word, asserted) in bytes.chunks_mut(4).zip(self.pins) {
            word[3] = u8::from(asserted);
        }
        fields.bytes("irq_state", "pci irq state", &mut bytes)?;
        for (pin, word) in self.pins.iter_mut().zip(bytes.chunks(4)) {
            *pin = match word {
                [0, 0, 0, level @ (0 | 1)] => *level == 1,
                [a, b, c, d, ..] => {
                    let value = u32::from_be_bytes([*a, *b, *c, *d]);
                    return Err(StateError::out_of_range("irq_state", value));
                }
                _ => false,
            };
        }
        Ok(())
    }
}

/// MSI-X table and pending bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsixState {
    /// Address, data and control of each vector, as they lie in the table.
    pub table: Vec<[u8; 16]>,
    /// Vectors whose interrupt waits.
    pub pending: Vec<bool>,
}

impl VmState for MsixState {
    fn layout(&self) -> Layout {
        Layout::new("msix", 0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut bytes = self.table.concat();
        let pending = bytes.len();
        bytes.resize(pending + self.pending.len().div_ceil(8), 0);
        for (vector, waits) in self.pending.iter().enumerate() {
            bytes[pending + vector / 8] |= u8::from(*waits) << (vector % 8);
        }
        fields.bytes("msix", "msix state", &mut bytes)?;
        for (entry, bytes) in self.table.iter_mut().zip(bytes.chunks_exact(16)) {
            entry.copy_from_slice(bytes);
        }
        for (vector, waits) in self.pending.iter_mut().enumerate() {
            *waits = bytes[pending + vector / 8] >> (vector % 8) & 1 != 0;
        }
        Ok(())
    }
}
