//! Section `ich9_ahci`: the ICH9's SATA controller, function 1f.2, with a port for each of six disks.

use super::AbsentState;
use crate::devices::pci::PciState;
use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Ports, and commands that wait at each.
const PORTS: usize = 6;
const COMMANDS: usize = 32;
/// Bytes that a disk tells of itself.
const IDENTITY: usize = 512;

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AhciState {
    /// Configuration space.
    pub pci: PciState,
    /// Ports.
    pub ports: Vec<AhciPort>,
    /// CAP, GHC, IS, PI and VS.
    pub control: [u32; 5],
    /// Index of the pair of ports by which registers are reached.
    pub index: u32,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AhciPort {
    /// What the disk's bus is at: command and unit.
    pub bus: [u8; 2],
    /// The disk.
    pub drive: IdeDrive,
    /// What it is at, and commands that are done.
    pub progress: [u32; 2],
    /// PxCLB, PxCLBU, PxFB, PxFBU, PxIS, PxIE, PxCMD, PxTFD, PxSIG, PxSSTS, PxSCTL, PxSERR, PxSACT and PxCI.
    pub registers: [u32; 14],
    /// The first data block of a transfer was asked for.
    pub done_first_drq: bool,
    /// The command that is being carried out, else -1.
    pub busy_slot: i32,
    /// The disk has told of itself.
    pub init_d2h_sent: bool,
    /// Queued transfers.
    pub transfers: [NcqTransfer; COMMANDS],
}

/// A disk's registers (ATA8-ACS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdeDrive {
    /// Sectors of a block.
    pub mult_sectors: i32,
    /// What it tells of itself, once that was asked for.
    pub identity: Option<Box<[u8; IDENTITY]>>,
    /// Feature and error.
    pub error: [u8; 2],
    /// Sectors that are left.
    pub sectors: u32,
    /// Address, its upper parts, device, status, 48-bit addresses, sense key, additional code, and whether the disc was
    /// changed: fourteen bytes.
    pub registers: [u8; 14],
    /// A tray that is open, and one that is locked.
    pub tray: [bool; 2],
    /// There is a new disc; the eject button was pressed.
    pub events: [bool; 2],
}

/// A queued transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NcqTransfer {
    /// Sectors.
    pub sectors: u32,
    /// Where.
    pub lba: u64,
    /// Tag, command and slot.
    pub identity: [u8; 3],
    /// It is being carried out; it stopped by an error.
    pub flags: [bool; 2],
}

impl VmState for AhciState {
    fn layout(&self) -> Layout {
        Layout::new("ich9_ahci", 1).since(0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("parent_obj", &mut self.pci)?;
        fields.structure("ahci", &mut Registers(self))
    }
}

struct Registers<'a>(&'a mut AhciState);

impl VmState for Registers<'_> {
    fn layout(&self) -> Layout {
        Layout::new("ahci", 1).since(0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.listed_structures("dev", &mut self.0.ports)?;
        let names = [
            "control_regs.cap",
            "control_regs.ghc",
            "control_regs.irqstatus",
            "control_regs.impl",
            "control_regs.version",
        ];
        for (name, register) in names.into_iter().zip(&mut self.0.control) {
            fields.int(name, register)?;
        }
        fields.int("idp_index", &mut self.0.index)?;
        fields.equal("ports", PORTS as u32, "uint32 equal")
    }
}

impl VmState for AhciPort {
    fn layout(&self) -> Layout {
        Layout::new("ahci port", 1).since(0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("port", &mut Bus(&mut self.bus))?;
        fields.structure("port.ifs[0]", &mut self.drive)?;
        fields.int("port_state", &mut self.progress[0])?;
        fields.int("finished", &mut self.progress[1])?;
        let names = [
            "port_regs.lst_addr",
            "port_regs.lst_addr_hi",
            "port_regs.fis_addr",
            "port_regs.fis_addr_hi",
            "port_regs.irq_stat",
            "port_regs.irq_mask",
            "port_regs.cmd",
            "port_regs.tfdata",
            "port_regs.sig",
            "port_regs.scr_stat",
            "port_regs.scr_ctl",
            "port_regs.scr_err",
            "port_regs.scr_act",
            "port_regs.cmd_issue",
        ];
        for (name, register) in names.into_iter().zip(&mut self.registers) {
            fields.int(name, register)?;
        }
        fields.int("done_first_drq", &mut self.done_first_drq)?;
        fields.int("busy_slot", &mut self.busy_slot)?;
        fields.int("init_d2h_sent", &mut self.init_d2h_sent)?;
        fields.structures("ncq_tfs", &mut self.transfers)
    }
}

struct Bus<'a>(&'a mut [u8; 2]);

impl VmState for Bus<'_> {
    fn layout(&self) -> Layout {
        Layout::new("ide_bus", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let [command, unit] = self.0;
        fields.int("cmd", command)?;
        fields.int("unit", unit)
    }
}

impl VmState for IdeDrive {
    fn layout(&self) -> Layout {
        Layout::new("ide_drive", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("mult_sectors", &mut self.mult_sectors)?;
        let mut is_set = self.identity.is_some();
        fields.flag::<i32>("identify_set", &mut is_set)?;
        if is_set {
            let identity = self.identity.get_or_insert_with(|| Box::new([0; IDENTITY]));
            fields.buffer("identify_data", identity.as_mut_slice())?;
        } else {
            self.identity = None;
        }
        fields.int("feature", &mut self.error[0])?;
        fields.int("error", &mut self.error[1])?;
        fields.int("nsector", &mut self.sectors)?;
        let names = [
            "sector",
            "lcyl",
            "hcyl",
            "hob_feature",
            "hob_sector",
            "hob_nsector",
            "hob_lcyl",
            "hob_hcyl",
            "select",
            "status",
            "lba48",
            "sense_key",
            "asc",
            "cdrom_changed",
        ];
        for (name, register) in names.into_iter().zip(&mut self.registers) {
            fields.int(name, register)?;
        }
        Ok(())
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let [open, locked] = &mut self.tray;
        all.section(Layout::new("ide_drive/tray_state", 1), *open || *locked, |fields| {
            fields.int("tray_open", open)?;
            fields.int("tray_locked", locked)
        })?;
        let [new, eject] = &mut self.events;
        all.section(Layout::new("ide_drive/atapi/gesn_state", 1), *new || *eject, |fields| {
            fields.int("events.new_media", new)?;
            fields.int("events.eject_request", eject)
        })
    }
}

impl VmState for NcqTransfer {
    fn layout(&self) -> Layout {
        Layout::new("ncq state", 1).since(0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("sector_count", &mut self.sectors)?;
        fields.int("lba", &mut self.lba)?;
        for (name, byte) in ["tag", "cmd", "slot"].into_iter().zip(&mut self.identity) {
            fields.int(name, byte)?;
        }
        for (name, flag) in ["used", "halt"].into_iter().zip(&mut self.flags) {
            fields.int(name, flag)?;
        }
        Ok(())
    }
}

impl AbsentState for AhciState {
    const TYPE: &'static str = "ich9-ahci";

    fn at_reset() -> Self {
        let mut config = vec![0; 256];
        config[..16].copy_from_slice(b"\x86\x80\x22\x29\0\0\x10\0\x02\x01\x06\x01\0\0\x80\0");
        config[0x20] = 1;
        config[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        (config[0x34], config[0x3d]) = (0x80, 1);
        // MSI, the map of ports, and the capability of SATA.
        config[0x80..0x83].copy_from_slice(&[0x05, 0xa8, 0x80]);
        config[0x90] = 0x40;
        config[0xa8..0xad].copy_from_slice(&[0x12, 0, 0x10, 0, 0x48]);
        Self {
            pci: PciState {
                config,
                pins: [false; 4],
            },
            ports: vec![AhciPort::empty(); PORTS],
            control: [0xc014_1f05, 0x8000_0000, 0, 0x3f, 0x1_0000],
            index: 0,
        }
    }
}

impl AhciPort {
    /// A port without a disk.
    fn empty() -> Self {
        let mut registers = [0; 14];
        // PxCMD, PxTFD and PxSIG.
        registers[6..9].copy_from_slice(&[6, 0x7f, 0xffff_ffff]);
        Self {
            bus: [0; 2],
            drive: IdeDrive::missing(),
            progress: [0; 2],
            registers,
            done_first_drq: false,
            busy_slot: -1,
            init_d2h_sent: false,
            transfers: [NcqTransfer::default(); COMMANDS],
        }
    }
}

impl IdeDrive {
    /// No disk.
    fn missing() -> Self {
        let mut registers = [0; 14];
        // Address, device and status.
        (registers[0], registers[1], registers[2]) = (1, 0xff, 0xff);
        (registers[8], registers[9]) = (0xa0, 0x50);
        Self {
            mult_sectors: 16,
            identity: None,
            error: [0; 2],
            sectors: 1,
            registers,
            tray: [false; 2],
            events: [false; 2],
        }
    }
}
