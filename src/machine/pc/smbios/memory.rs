//! Types 16, 17 and 19: the memory array, its devices and its addresses.

use super::options::Requests;
use super::structure::{Structure, Text};
use super::system::texts;
use super::{Inventory, MANUFACTURER, NO_ERROR};

/// Size of one memory device; larger memory is several.
const MEMORY_DEVICE: u64 = 16 << 30;
/// Handle of the array.
const ARRAY: u16 = 0x1000;

pub(super) fn structures(inventory: &Inventory<'_>, requests: &Requests) -> Vec<Structure> {
    let (low, high) = inventory.ram;
    let total = low + high;
    let devices: Vec<u64> = (0..total.div_ceil(MEMORY_DEVICE))
        .map(|index| MEMORY_DEVICE.min(total - index * MEMORY_DEVICE))
        .collect();
    let mut structures = vec![array(total, devices.len())];
    for (index, size) in (0_u16..).zip(&devices) {
        structures.push(device(index, *size, requests));
    }
    for (index, (start, size)) in (0_u16..).zip([(0, low), (1 << 32, high)]) {
        if size != 0 {
            structures.push(addresses(0x1300 + index, start, size));
        }
    }
    structures
}

fn array(total: u64, devices: usize) -> Structure {
    let short = u32::try_from(total >> 10).ok().filter(|kib| *kib < 0x8000_0000);
    Structure::new(16, ARRAY)
        .bytes(&[1, 3, 6])
        .bytes(&short.unwrap_or(0x8000_0000).to_le_bytes())
        .word(NO_ERROR)
        .word(u16::try_from(devices).unwrap_or(u16::MAX))
        .bytes(&if short.is_some() { 0 } else { total }.to_le_bytes())
}

fn device(index: u16, size: u64, requests: &Requests) -> Structure {
    let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
    let short = u16::try_from(mib).ok().filter(|mib| *mib < 0x7fff);
    let speed = requests.number(17, "speed").and_then(|speed| u16::try_from(speed).ok());
    let speed = speed.unwrap_or_default();
    let prefix = requests.fields(17).and_then(|fields| fields.get("loc_pfx"));
    let prefix = prefix.map_or("DIMM", String::as_str);
    Structure::new(17, 0x1100_u16.saturating_add(index))
        .word(ARRAY)
        .word(NO_ERROR)
        .word(0xffff)
        .word(0xffff)
        .word(short.unwrap_or(0x7fff))
        .bytes(&[9, 0])
        .texts(&[Text::from(format!("{prefix} {index}"))])
        .texts(&texts(requests, 17, [("bank", "")]))
        .bytes(&[7])
        .word(2)
        .word(speed)
        .texts(&texts(
            requests,
            17,
            [
                ("manufacturer", MANUFACTURER),
                ("serial", ""),
                ("asset", ""),
                ("part", ""),
            ],
        ))
        .bytes(&[0])
        .bytes(&if short.is_some() { 0 } else { mib }.to_le_bytes())
        .word(speed)
        .bytes(&[0; 6])
}

fn addresses(handle: u16, start: u64, size: u64) -> Structure {
    let end = start + size - 1;
    let kib = (u32::try_from(start >> 10), u32::try_from(end >> 10));
    let structure = Structure::new(19, handle);
    match kib {
        (Ok(first), Ok(last)) if last != u32::MAX => structure
            .bytes(&first.to_le_bytes())
            .bytes(&last.to_le_bytes())
            .word(ARRAY)
            .bytes(&[1])
            .bytes(&[0; 16]),
        _ => structure
            .bytes(&[0xff; 8])
            .word(ARRAY)
            .bytes(&[1])
            .bytes(&start.to_le_bytes())
            .bytes(&end.to_le_bytes()),
    }
}
