//! What people ask about a guest at a human monitor and no QMP command tells.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::core::Core;
use crate::machine::guest::Guest;
use crate::qapi::Error;

/// A question about the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inspect {
    /// The registers of a vCPU, laid out for people: a text.
    Registers {
        /// Index of the vCPU.
        cpu: u32,
    },
    /// The registers of a vCPU that expressions may name: an object of numbers.
    RegisterValues {
        /// Index of the vCPU.
        cpu: u32,
    },
    /// Bytes of physical memory: an array, or null where part of it is neither RAM nor ROM.
    Physical {
        /// Where they start.
        addr: u64,
        /// How many.
        len: u64,
    },
    /// Bytes as a vCPU sees them: an array, or null where nothing is mapped.
    Virtual {
        /// Index of the vCPU.
        cpu: u32,
        /// Where they start.
        addr: u64,
        /// How many.
        len: u64,
    },
    /// The physical address behind a virtual one: a number, or null where nothing is mapped.
    Translate {
        /// Index of the vCPU.
        cpu: u32,
        /// The virtual address.
        addr: u64,
    },
    /// Where this process has the memory behind a physical address: its backend and the address.
    HostAddress {
        /// The physical address.
        addr: u64,
    },
    /// The BSD checksum of a range of physical memory, of which no more than [`MAX_LEN`] bytes are looked at: a number.
    Sum {
        /// Where it starts.
        addr: u64,
        /// Bytes.
        len: u64,
        /// The sum of what comes before.
        sum: u16,
    },
    /// What a port reads as: a number.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// Writes to a port.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// What is written.
        value: u32,
    },
    /// Devices and their properties, bus by bus: a text.
    DeviceTree,
    /// Who answers at which address of memory and ports: a text.
    MemoryTree,
    /// The NUMA nodes: an array of objects with node and size.
    NumaNodes,
    /// The registers of a vCPU's local APIC: an array of numbers.
    LocalApic {
        /// Index of the vCPU.
        cpu: u32,
    },
    /// The interrupt controllers of a PC: an object ([`InterruptControllers`](crate::accel::controllers)).
    InterruptControllers,
    /// Sets the order in which firmware looks for what to boot.
    SetBootOrder {
        /// Letters, as in `-boot order=`.
        order: String,
    },
    /// What the guest finds as ROM: an array of [`RomInfo`](crate::machine::info::RomInfo).
    Roms,
    /// The network cards and their back ends: a text.
    Networks,
    /// The memory blocks: an array of objects with name, offset, size and host address.
    RamBlocks,
}

/// Bytes that are read at once.
const CHUNK: u64 = 4096;
/// More than one answer holds.
pub(crate) const MAX_LEN: u64 = 1 << 20;

/// Answers a question.
///
/// # Errors
/// There is no guest, no such vCPU, or the guest cannot tell.
pub(super) fn answer(core: &Core, question: &Inspect) -> Result<Value, Error> {
    let guest = core.guest()?;
    Ok(match question.clone() {
        Inspect::Networks => json!(core.networks()?.info()),
        Inspect::Registers { cpu } => json!(guest.dump_registers(cpu)?),
        Inspect::RegisterValues { cpu } => {
            let values = guest.register_values(cpu)?.into_iter();
            values.map(|(name, value)| (name.to_owned(), json!(value))).collect()
        }
        Inspect::Physical { addr, len } => match guest.is_backed(addr, len) {
            true => bytes(len, |data| guest.read_physical(addr, data))?,
            false => Value::Null,
        },
        Inspect::Virtual { cpu, addr, len } => match is_mapped(guest, cpu, addr, len)? {
            true => bytes(len, |data| guest.read_virtual(cpu, addr, data))?,
            false => Value::Null,
        },
        Inspect::Translate { cpu, addr } => json!(guest.translate(cpu, addr)?),
        Inspect::HostAddress { addr } => {
            let (block, host) = guest
                .host_address(addr)
                .ok_or_else(|| Error::generic(format!("No memory is mapped at address 0x{addr:x}")))?;
            json!({"block": block, "address": host})
        }
        Inspect::Sum { addr, len, sum: before } => json!(sum(guest, addr, len.min(MAX_LEN), before)?),
        Inspect::PortRead { port, size } => {
            let mut data = [0; 4];
            guest.port_read(port, &mut data[..usize::from(size.min(4))])?;
            json!(u32::from_le_bytes(data))
        }
        Inspect::PortWrite { port, size, value } => {
            guest.port_write(port, &value.to_le_bytes()[..usize::from(size.min(4))])?;
            Value::Null
        }
        Inspect::DeviceTree => json!(guest.device_tree()),
        Inspect::MemoryTree => json!(guest.memory_tree()),
        Inspect::NumaNodes => json!(guest.numa_nodes()),
        Inspect::LocalApic { cpu } => json!(guest.local_apic(cpu)?),
        Inspect::InterruptControllers => json!(guest.interrupt_controllers()?),
        Inspect::SetBootOrder { order } => {
            guest.set_boot_order(&order)?;
            Value::Null
        }
        Inspect::Roms => json!(guest.roms()),
        Inspect::RamBlocks => ram_blocks(guest),
    })
}

fn bytes(len: u64, read: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Result<Value, Error> {
    let len = usize::try_from(len.min(MAX_LEN)).unwrap_or_default();
    let mut data = vec![0; len];
    read(&mut data)?;
    Ok(json!(data))
}

/// Whether a vCPU's page tables map a range to memory.
fn is_mapped(guest: &dyn Guest, cpu: u32, addr: u64, len: u64) -> Result<bool, Error> {
    let mut at = addr;
    let end = addr.saturating_add(len);
    while at < end {
        let next = (at / CHUNK + 1).saturating_mul(CHUNK).min(end);
        match guest.translate(cpu, at)? {
            Some(physical) if guest.is_backed(physical, next - at) => at = next,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The sum that the `sum` of BSD makes: turned right by a bit before each byte is added.
fn sum(guest: &dyn Guest, addr: u64, len: u64, before: u16) -> Result<u16, Error> {
    let mut sum = before;
    let mut done = 0;
    while done < len {
        let count = CHUNK.min(len - done);
        let mut data = vec![0; usize::try_from(count).unwrap_or_default()];
        guest.read_physical(addr.wrapping_add(done), &mut data)?;
        for byte in data {
            sum = sum.rotate_right(1).wrapping_add(byte.into());
        }
        done += count;
    }
    Ok(sum)
}

fn ram_blocks(guest: &dyn Guest) -> Value {
    let mut offset = 0;
    let blocks = guest.memdevs().into_iter().map(|memdev| {
        let block = json!({"name": memdev.id, "offset": offset, "size": memdev.size});
        offset += memdev.size;
        block
    });
    blocks.collect()
}
