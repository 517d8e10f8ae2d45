//! SMBIOS structures (DMTF DSP0134 2.8 and 3.0): what the guest's inventory tools show.

mod error;
mod memory;
mod options;
mod places;
mod processor;
mod structure;
mod system;

use self::options::Requests;
use self::structure::Structure;
use super::options::EntryPoint;
use crate::machine::config::{Entry, SmpConfig};
use crate::qapi::Error;

use self::error::SmbiosError;
pub(crate) use self::places::{FindDevice, Spot};

/// "No such structure" for handles.
const NO_HANDLE: u16 = 0xffff;
/// "No error information" for handles.
const NO_ERROR: u16 = 0xfffe;
/// The manufacturer and the product where none are given.
const MANUFACTURER: &str = "QEMU";

/// What the structures tell.
#[derive(Clone, Copy)]
pub(crate) struct Inventory<'a> {
    pub(crate) machine_type: &'a str,
    /// What the machine is, in words.
    pub(crate) product: &'a str,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) smp: SmpConfig,
    /// CPUID leaf 1, EAX and EDX, as the CPU model has them.
    pub(crate) processor_id: u64,
    /// RAM bytes below and above 4 GiB.
    pub(crate) ram: (u64, u64),
    /// `-smbios`.
    pub(crate) options: &'a [Entry],
    pub(crate) entry_point: EntryPoint,
    /// Where the PCI devices are that `pcidev=` names.
    pub(crate) find_device: FindDevice<'a>,
}

/// The form of the entry point, on which the length of some structures depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// 2.8: `_SM_`.
    Two,
    /// 3.0: `_SM3_`.
    Three,
}

/// The structures, and the entry point that leads to them.
#[derive(Clone, Debug)]
pub(crate) struct Smbios {
    form: Form,
    count: u16,
    longest: u16,
    pub(crate) structures: Vec<u8>,
}

impl Smbios {
    /// Makes all structures. Left to us, the form is the older one, unless the structures are too long for it.
    pub(crate) fn new(inventory: &Inventory<'_>) -> Result<Self, Error> {
        let requests = Requests::new(inventory.options)?;
        let form = match inventory.entry_point {
            EntryPoint::Auto | EntryPoint::Bits32 => Form::Two,
            EntryPoint::Bits64 => Form::Three,
        };
        let smbios = Self::of_form(form, inventory, &requests)?;
        if form == Form::Three || u16::try_from(smbios.structures.len()).is_ok() {
            return Ok(smbios);
        }
        match inventory.entry_point {
            EntryPoint::Auto => Ok(Self::of_form(Form::Three, inventory, &requests)?),
            _ => Err(SmbiosError::TooLong(smbios.structures.len()).into()),
        }
    }

    fn of_form(form: Form, inventory: &Inventory<'_>, requests: &Requests) -> Result<Self, SmbiosError> {
        let mut smbios = Self {
            form,
            count: 0,
            longest: 0,
            structures: Vec::new(),
        };
        for file in requests.files() {
            smbios.add_bytes(file);
        }
        let sockets = usize::try_from(inventory.smp.sockets.max(1)).unwrap_or(usize::MAX);
        let processors = requests.processors();
        if processors != 0 && processors != sockets {
            return Err(SmbiosError::Processors { sockets, processors });
        }
        let mut made = system::structures(inventory, requests);
        made.extend(processor::structures(form, inventory, requests));
        for (handle, connector) in (0x800..).zip(&requests.connectors) {
            made.push(places::connector(handle, connector));
        }
        for (handle, slot) in (0x900..).zip(&requests.slots) {
            made.push(places::slot(handle, slot, inventory.find_device)?);
        }
        made.extend(system::oem_strings(requests));
        made.extend(memory::structures(inventory, requests));
        made.push(Structure::new(32, 0x2000).bytes(&[0; 7]));
        for (handle, onboard) in (0x2900..).zip(&requests.onboard) {
            made.push(places::onboard(handle, onboard, inventory.find_device)?);
        }
        made.push(Structure::new(127, 0x7f00));
        for structure in made.into_iter().filter(|made| !requests.is_from_file(made.kind())) {
            smbios.add_bytes(&structure.finish());
        }
        Ok(smbios)
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.count = self.count.saturating_add(1);
        self.longest = self.longest.max(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.structures.extend(bytes);
    }

    /// The entry point for structures that lie at `base`.
    pub(crate) fn entry_point(&self, base: u64) -> Vec<u8> {
        match self.form {
            Form::Two => self.entry_point_32(base),
            Form::Three => self.entry_point_64(base),
        }
    }

    fn entry_point_32(&self, base: u64) -> Vec<u8> {
        let len = u16::try_from(self.structures.len()).unwrap_or(u16::MAX);
        let base = u32::try_from(base).unwrap_or_default();
        let mut tail = b"_DMI_\0".to_vec();
        tail.extend(len.to_le_bytes());
        tail.extend(base.to_le_bytes());
        tail.extend(self.count.to_le_bytes());
        tail.push(0x28);
        set_checksum(&mut tail, 5);
        let mut entry = b"_SM_\0\x1f\x02\x08".to_vec();
        entry.extend(self.longest.to_le_bytes());
        entry.extend([0; 6]);
        entry.extend(tail);
        set_checksum(&mut entry, 4);
        entry
    }

    fn entry_point_64(&self, base: u64) -> Vec<u8> {
        let mut entry = b"_SM3_\0\x18\x03\x00\x00\x01\x00".to_vec();
        entry.extend(u32::try_from(self.structures.len()).unwrap_or(u32::MAX).to_le_bytes());
        entry.extend(base.to_le_bytes());
        set_checksum(&mut entry, 5);
        entry
    }
}

fn set_checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = sum.wrapping_neg();
}

#[cfg(test)]
mod tests;
