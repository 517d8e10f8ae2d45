//! Sections `i2c_bus` and `ich9_smb`: the ICH9's system management bus, function 1f.3.

use super::AbsentState;
use crate::devices::pci::PciState;
use crate::vmstate::{Fields, Layout, StateError, VmState};

/// A bus without a device that is being spoken to.
const NOBODY: u8 = 0xff;

/// The bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct I2cBusState {
    /// Who is being spoken to.
    pub saved_address: u8,
}

impl VmState for I2cBusState {
    fn layout(&self) -> Layout {
        Layout::new("i2c_bus", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("saved_address", &mut self.saved_address)
    }
}

impl AbsentState for I2cBusState {
    const TYPE: &'static str = "i2c-bus";

    fn at_reset() -> Self {
        Self { saved_address: NOBODY }
    }
}

/// Its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbusState {
    /// Configuration space.
    pub pci: PciState,
    /// It interrupts.
    pub irq_enabled: bool,
    /// Status, control, command, address, and two bytes of data.
    pub registers: [u8; 6],
    /// The next byte of a block.
    pub index: u32,
    /// A block.
    pub data: [u8; 32],
    /// Auxiliary control, and the byte of a block that the guest sees.
    pub auxiliary: [u8; 2],
    /// Commands are for I2C; the last one is done; a block is being read; reading the status begins a transaction.
    pub flags: [bool; 4],
}

impl VmState for SmbusState {
    fn layout(&self) -> Layout {
        Layout::new("ich9_smb", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("dev", &mut self.pci)?;
        fields.int("irq_enabled", &mut self.irq_enabled)?;
        fields.structure("smb", &mut Registers(self))
    }
}

struct Registers<'a>(&'a mut SmbusState);

impl VmState for Registers<'_> {
    fn layout(&self) -> Layout {
        Layout::new("pmsmb", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let names = ["smb_stat", "smb_ctl", "smb_cmd", "smb_addr", "smb_data0", "smb_data1"];
        for (name, register) in names.into_iter().zip(&mut self.0.registers) {
            fields.int(name, register)?;
        }
        fields.int("smb_index", &mut self.0.index)?;
        fields.ints("smb_data", &mut self.0.data)?;
        for (name, register) in ["smb_auxctl", "smb_blkdata"].into_iter().zip(&mut self.0.auxiliary) {
            fields.int(name, register)?;
        }
        let names = [
            "i2c_enable",
            "op_done",
            "in_i2c_block_read",
            "start_transaction_on_status_read",
        ];
        for (name, flag) in names.into_iter().zip(&mut self.0.flags) {
            fields.int(name, flag)?;
        }
        Ok(())
    }
}

impl AbsentState for SmbusState {
    const TYPE: &'static str = "ICH9-SMB";

    fn at_reset() -> Self {
        let mut config = vec![0; 256];
        config[..16].copy_from_slice(b"\x86\x80\x30\x29\0\0\0\0\x02\x00\x05\x0c\0\0\x80\0");
        config[0x20] = 1;
        config[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        config[0x3d] = 1;
        Self {
            pci: PciState {
                config,
                pins: [false; 4],
            },
            irq_enabled: false,
            registers: [0; 6],
            index: 0,
            data: [0; 32],
            auxiliary: [0; 2],
            flags: [false, true, false, false],
        }
    }
}
