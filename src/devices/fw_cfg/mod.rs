//! The firmware configuration device: named items that firmware and kernels read (QEMU's docs/specs/fw_cfg.rst).

mod items;
mod state;

use std::sync::Arc;

pub use items::{BadFile, Items, Key};
pub use state::FwCfgState;

use super::{Device, PioDevice};
use crate::mem::AddressSpace;
use crate::qom::TypeInfo;
use crate::vmstate::{StateError, Stateful, Visitor, section};

/// Offset of the data port; the selector is at 0.
const DATA: u16 = 1;
/// Offsets of the two halves of the DMA address, big endian; writing the second one starts a transfer.
const DMA_HIGH: u16 = 4;
const DMA_LOW: u16 = 8;
/// What the DMA address reads as.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// Bits of a transfer's control word.
const CONTROL_ERROR: u32 = 1;
const CONTROL_READ: u32 = 1 << 1;
const CONTROL_SKIP: u32 = 1 << 2;
const CONTROL_SELECT: u32 = 1 << 3;
const CONTROL_WRITE: u32 = 1 << 4;

/// Files that ACPI tables are built from.
const ACPI_FILES: [&str; 3] = ["etc/acpi/tables", "etc/table-loader", "etc/acpi/rsdp"];

/// The QOM type.
pub static FW_CFG: TypeInfo = TypeInfo {
    name: "fw_cfg_io",
    parent: Some("sys-bus-device"),
    is_abstract: false,
    interfaces: &[],
    bus: None,
    user_creatable: false,
    hotpluggable: false,
    description: "Firmware configuration",
    properties: &[],
};

/// The device.
pub struct FwCfg {
    items: Items,
    ram: Arc<AddressSpace>,
    selected: u16,
    offset: usize,
    dma_high: u32,
}

impl FwCfg {
    /// The first port.
    pub const PORT: u16 = 0x510;
    /// How many ports.
    pub const LEN: u16 = 12;

    /// A device that offers `items` and moves them by DMA to and from `ram`.
    #[must_use]
    pub fn new(items: Items, ram: Arc<AddressSpace>) -> Self {
        Self {
            items,
            ram,
            selected: 0,
            offset: 0,
            dma_high: 0,
        }
    }

    /// The file of this name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.items.file(name)
    }

    /// Gives a file that is there other bytes.
    pub fn replace_file(&mut self, name: &str, bytes: Vec<u8>) {
        self.items.replace_file(name, bytes);
    }

    fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// The next bytes of the selected item; zeroes beyond its end.
    fn take(&mut self, data: &mut [u8]) {
        let item = self.items.get(self.selected).unwrap_or_default();
        let rest = item.get(self.offset..).unwrap_or_default();
        let count = rest.len().min(data.len());
        data[..count].copy_from_slice(&rest[..count]);
        data[count..].fill(0);
        self.skip(data.len());
    }

    fn skip(&mut self, len: usize) {
        self.offset = self.offset.saturating_add(len);
    }

    /// Carries out the transfer described at `addr`: control, length and address, big endian.
    fn transfer(&mut self, addr: u64) {
        let mut request = [0; 16];
        if self.ram.read_memory(addr, &mut request).is_err() {
            return tracing::debug!(addr, "fw_cfg transfer description is not in RAM");
        }
        let word = |at: usize| {
            let bytes: [u8; 4] = [request[at], request[at + 1], request[at + 2], request[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let control = word(0);
        let target = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & CONTROL_SELECT != 0 {
            // The key is in the upper half.
            self.select(u16::try_from(control >> 16).unwrap_or_default());
        }
        let result = self.move_bytes(control, target, word(4));
        let answer = if result { 0 } else { CONTROL_ERROR };
        if self.ram.write_memory(addr, &answer.to_be_bytes()).is_err() {
            tracing::debug!(addr, "fw_cfg transfer result is not in RAM");
        }
    }

    /// Whether the transfer worked.
    fn move_bytes(&mut self, control: u32, target: u64, len: u32) -> bool {
        const CHUNK: usize = 64 << 10;
        let Ok(total) = usize::try_from(len) else { return false };
        if control & CONTROL_READ == 0 {
            // No item can be written.
            if control & CONTROL_WRITE != 0 {
                return false;
            }
            if control & CONTROL_SKIP != 0 {
                self.skip(total);
            }
            return true;
        }
        let mut buffer = vec![0; total.min(CHUNK)];
        let mut done = 0;
        while done < total {
            let count = (total - done).min(CHUNK);
            self.take(&mut buffer[..count]);
            let at = u64::try_from(done).ok().and_then(|done| target.checked_add(done));
            if at.is_none_or(|at| self.ram.write_memory(at, &buffer[..count]).is_err()) {
                return false;
            }
            done += count;
        }
        true
    }
}

impl PioDevice for FwCfg {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        match offset {
            DATA => self.take(data),
            DMA_HIGH..FwCfg::LEN => {
                for (byte, at) in data.iter_mut().zip(usize::from(offset - DMA_HIGH)..) {
                    *byte = DMA_SIGNATURE.get(at).copied().unwrap_or_default();
                }
            }
            _ => data.fill(0),
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        match (offset, data) {
            (0, [low, high]) => self.select(u16::from_le_bytes([*low, *high])),
            (DMA_HIGH, [a, b, c, d]) => self.dma_high = u32::from_be_bytes([*a, *b, *c, *d]),
            (DMA_LOW, [a, b, c, d]) => {
                let low = u32::from_be_bytes([*a, *b, *c, *d]);
                let addr = u64::from(std::mem::take(&mut self.dma_high)) << 32 | u64::from(low);
                self.transfer(addr);
            }
            _ => {}
        }
    }
}

impl Stateful<FwCfgState> for FwCfg {
    fn state(&self) -> FwCfgState {
        FwCfgState {
            cur_entry: self.selected,
            // Beyond the end of any item it does not matter how far.
            cur_offset: u32::try_from(self.offset).unwrap_or(u32::MAX),
            dma_addr: u64::from(self.dma_high) << 32,
            acpi_sizes: ACPI_FILES.map(|name| self.items.file(name).map_or(0, |file| file.len() as u64)),
        }
    }

    fn set_state(&mut self, state: FwCfgState) -> Result<(), StateError> {
        self.selected = state.cur_entry;
        self.offset =
            usize::try_from(state.cur_offset).map_err(|_| StateError::out_of_range("cur_offset", state.cur_offset))?;
        // The lower half starts a transfer, so it never waits.
        self.dma_high =
            u32::try_from(state.dma_addr >> 32).map_err(|_| StateError::out_of_range("dma_addr", state.dma_addr))?;
        Ok(())
    }
}

impl Device for FwCfg {
    fn type_name(&self) -> &'static str {
        FW_CFG.name
    }

    fn reset(&mut self) {
        self.select(0);
        self.dma_high = 0;
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<FwCfgState>(self))
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::move_state;
    use crate::mem::{RamBlock, Region, Topology};
    use crate::vmstate::load_whole;
    use crate::vmstate::recorded::{check_round_trips, sections};

    fn device() -> (FwCfg, Arc<AddressSpace>) {
        let mut items = Items::default();
        items.add_file("etc/b", b"hello".to_vec()).unwrap();
        items.add_file("etc/a", vec![7]).unwrap();
        let ram = Region::ram(&RamBlock::anonymous("ram", 4096).unwrap());
        let space = AddressSpace::new(&Topology::new(), &ram, 0xff);
        (FwCfg::new(items, Arc::clone(&space)), space)
    }

    fn read(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        device.pio_write(0, &key.to_le_bytes());
        let mut data = vec![0; len];
        data.chunks_mut(1).for_each(|byte| device.pio_read(1, byte));
        data
    }

    #[test]
    fn the_directory_lists_files_by_name() {
        let (mut device, _) = device();
        assert_eq!(read(&mut device, 0, 6), b"QEMU\0\0");
        let directory = read(&mut device, 0x19, 4 + 2 * 64);
        assert_eq!(directory[..4], [0, 0, 0, 2]);
        assert_eq!(directory[4..18], *b"\0\0\0\x01\0\x20\0\0etc/a\0");
        assert_eq!(directory[68..82], *b"\0\0\0\x05\0\x21\0\0etc/b\0");
        assert_eq!(read(&mut device, 0x21, 6), b"hello\0");
        assert_eq!(read(&mut device, 0x7777, 2), [0, 0]);
    }

    fn dma(device: &mut FwCfg, ram: &AddressSpace, control: u32, len: u32, target: u64) -> u32 {
        let mut request = control.to_be_bytes().to_vec();
        request.extend(len.to_be_bytes());
        request.extend(target.to_be_bytes());
        ram.write_memory(0x100, &request).unwrap();
        device.pio_write(4, &0_u32.to_be_bytes());
        device.pio_write(8, &0x100_u32.to_be_bytes());
        let mut answer = [0; 4];
        ram.read_memory(0x100, &mut answer).unwrap();
        u32::from_be_bytes(answer)
    }

    #[test]
    fn transfers_select_skip_and_read() {
        let (mut device, ram) = device();
        assert_eq!(dma(&mut device, &ram, 0x21 << 16 | 8 | 4, 1, 0), 0);
        assert_eq!(dma(&mut device, &ram, 2, 6, 0x200), 0);
        let mut data = [0xff; 6];
        ram.read_memory(0x200, &mut data).unwrap();
        assert_eq!(&data, b"ello\0\0");
    }

    #[test]
    fn its_section_is_qemus() {
        check_round_trips("fw_cfg", |_| FwCfgState::default());
        let (mut one, _) = device();
        let [section] = sections("q35-10.2-bare", "fw_cfg").try_into().unwrap();
        let mut qemus = FwCfgState::default();
        load_whole(&mut qemus, section.version, &section.bytes()).unwrap();
        // The tables of that guest are not of this one.
        qemus.acpi_sizes = [0; 3];
        assert_eq!(one.state(), qemus);
        read(&mut one, 0x21, 3);
        one.pio_write(4, &7_u32.to_be_bytes());
        move_state(&mut one, &mut device().0);
    }

    #[test]
    fn bad_transfers_are_refused() {
        let (mut device, ram) = device();
        assert_eq!(dma(&mut device, &ram, 0x21 << 16 | 8 | 2, 5, 0xffff_0000), 1);
        assert_eq!(dma(&mut device, &ram, 0x21 << 16 | 8 | 0x10, 5, 0x200), 1);
    }
}
