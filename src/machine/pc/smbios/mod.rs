//! SMBIOS structures (DMTF DSP0134 3.0): what the guest's inventory tools show.

mod structure;

use serde_json::Value;
use structure::{Structure, Text};

use super::options::EntryPoint;
use crate::{
    machine::{
        config::{Entry, SmpConfig},
        fields::Fields,
    },
    qapi::{Error, text},
};

/// Size of one memory device; larger memory is several.
const MEMORY_DEVICE: u64 = 16 << 30;
/// "No such structure" for handles.
const NO_HANDLE: u16 = 0xffff;
/// "No error information" for handles.
const NO_ERROR: u16 = 0xfffe;

/// What the structures tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inventory<'a> {
    pub(crate) machine_type: &'a str,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) smp: SmpConfig,
    /// CPUID leaf 1 EAX and EDX.
    pub(crate) processor_id: u64,
    /// RAM bytes below and above 4 GiB.
    pub(crate) ram: (u64, u64),
    /// `-smbios`.
    pub(crate) options: &'a [Entry],
    pub(crate) entry_point: EntryPoint,
}

/// The structures, and the entry point that leads to them.
#[derive(Clone, Debug)]
pub(crate) struct Smbios {
    entry_point: EntryPoint,
    count: u16,
    longest: u16,
    pub(crate) structures: Vec<u8>,
}

impl Smbios {
    /// Makes all structures.
    pub(crate) fn new(inventory: &Inventory<'_>) -> Result<Self, Error> {
        let options = Options::new(inventory.options)?;
        let mut smbios = Self {
            entry_point: inventory.entry_point,
            count: 0,
            longest: 0,
            structures: Vec::new(),
        };
        smbios.add_identity(inventory, options)?;
        smbios.add_processors(inventory, options)?;
        smbios.add_memory(inventory, options)?;
        smbios.add(Structure::new(32, 0x2000).bytes(&[0; 7]));
        smbios.add(Structure::new(127, 0x7f00));
        if smbios.entry_point == EntryPoint::Bits32 && u16::try_from(smbios.structures.len()).is_err() {
            return Err(Error::generic(
                "SMBIOS 2.x tables exceed 64 KiB; use smbios-entry-point-type=64",
            ));
        }
        Ok(smbios)
    }

    /// The entry point for structures that lie at `base`.
    pub(crate) fn entry_point(&self, base: u64) -> Vec<u8> {
        match self.entry_point {
            EntryPoint::Bits32 => self.entry_point_32(base),
            EntryPoint::Auto | EntryPoint::Bits64 => self.entry_point_64(base),
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

    fn add(&mut self, structure: Structure) {
        let bytes = structure.finish();
        self.count = self.count.saturating_add(1);
        self.longest = self.longest.max(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.structures.extend(bytes);
    }

    /// Firmware, system, board, chassis and free texts: types 0 to 3 and 11.
    fn add_identity(&mut self, inventory: &Inventory<'_>, options: Options<'_>) -> Result<(), Error> {
        if let Some(given) = options.of("0") {
            self.add(firmware(given)?);
        }
        let given = options.of("1");
        let uuid = match given.and_then(|given| given.text("uuid")) {
            Some(text) => parse_uuid(text).ok_or_else(|| Error::generic(format!("Invalid UUID: {text}")))?,
            None => inventory.uuid.unwrap_or_default(),
        };
        let system = Structure::new(1, 0x100)
            .texts(&options.texts(
                given,
                &["manufacturer", "product", "version", "serial"],
                &["QEMU", "Standard PC (Q35 + ICH9, 2009)", inventory.machine_type, ""],
            ))
            .bytes(&wire_uuid(uuid))
            .bytes(&[6])
            .texts(&options.texts(given, &["sku", "family"], &["", ""]));
        self.add(system);
        if let given @ Some(_) = options.of("2") {
            let board = Structure::new(2, 0x200)
                .texts(&options.texts(
                    given,
                    &["manufacturer", "product", "version", "serial", "asset"],
                    &["QEMU", "Standard PC (Q35 + ICH9, 2009)", inventory.machine_type, "", ""],
                ))
                .bytes(&[1])
                .texts(&options.texts(given, &["location"], &[""]))
                .word(0x300)
                .bytes(&[0x0a, 0]);
            self.add(board);
        }
        let given = options.of("3");
        let chassis = Structure::new(3, 0x300)
            .texts(&options.texts(given, &["manufacturer"], &["QEMU"]))
            .bytes(&[1])
            .texts(&options.texts(
                given,
                &["version", "serial", "asset"],
                &[inventory.machine_type, "", ""],
            ))
            .bytes(&[3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0])
            .texts(&options.texts(given, &["sku"], &[""]));
        self.add(chassis);
        let values: Vec<&str> = options.oem_strings();
        if let Ok(count @ 1..) = u8::try_from(values.len()) {
            let mut strings = Structure::new(11, 0xe00).bytes(&[count]);
            for value in values {
                strings = strings.unnumbered(value);
            }
            self.add(strings);
        }
        Ok(())
    }

    /// Type 4: a processor for each socket.
    fn add_processors(&mut self, inventory: &Inventory<'_>, options: Options<'_>) -> Result<(), Error> {
        let smp = inventory.smp;
        let given = options.of("4");
        let speed = |name| given.map_or(Ok(None), |given: Fields<'_>| given.number::<u16>(name, "uint16_t"));
        let (max_speed, speed) = (
            speed("max-speed")?.unwrap_or(2000),
            speed("current-speed")?.unwrap_or(2000),
        );
        let cores = smp.dies.max(1) * smp.modules.max(1) * smp.cores.max(1);
        let threads = cores * smp.threads.max(1);
        let short = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
        let wide = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let prefix = given.and_then(|given| given.text("sock_pfx")).unwrap_or("CPU");
        for socket in 0..smp.sockets.max(1) {
            let processor = Structure::new(4, 0x400_u16.saturating_add(wide(socket)))
                .texts(&[Text::from(format!("{prefix} {socket}"))])
                .bytes(&[3, 1])
                .texts(&options.texts(given, &["manufacturer"], &["QEMU"]))
                .bytes(&inventory.processor_id.to_le_bytes())
                .texts(&options.texts(given, &["version"], &[inventory.machine_type]))
                .bytes(&[0, 0, 0])
                .word(max_speed)
                .word(speed)
                .bytes(&[0x41, 1])
                .word(NO_HANDLE)
                .word(NO_HANDLE)
                .word(NO_HANDLE)
                .texts(&options.texts(given, &["serial", "asset", "part"], &["", "", ""]))
                .bytes(&[short(cores), short(cores), short(threads)])
                .word(2)
                .word(1)
                .word(wide(cores))
                .word(wide(cores))
                .word(wide(threads));
            self.add(processor);
        }
        Ok(())
    }

    /// Types 16, 17 and 19: the memory array, its devices and its addresses.
    fn add_memory(&mut self, inventory: &Inventory<'_>, options: Options<'_>) -> Result<(), Error> {
        const ARRAY: u16 = 0x1000;
        let (low, high) = inventory.ram;
        let total = low + high;
        let given = options.of("17");
        let prefix = given.and_then(|given| given.text("loc_pfx")).unwrap_or("DIMM");
        let bank = given.and_then(|given| given.text("bank")).unwrap_or_default();
        let speed = given
            .map_or(Ok(None), |given| given.number::<u16>("speed", "uint16_t"))?
            .unwrap_or_default();
        let devices: Vec<u64> = (0..total.div_ceil(MEMORY_DEVICE))
            .map(|index| MEMORY_DEVICE.min(total - index * MEMORY_DEVICE))
            .collect();
        let kib = total >> 10;
        let short = u32::try_from(kib).ok().filter(|kib| *kib < 0x8000_0000);
        let count = u16::try_from(devices.len()).unwrap_or(u16::MAX);
        let array = Structure::new(16, ARRAY)
            .bytes(&[1, 3, 6])
            .bytes(&short.unwrap_or(0x8000_0000).to_le_bytes())
            .word(NO_ERROR)
            .word(count)
            .bytes(&if short.is_some() { 0 } else { total }.to_le_bytes());
        self.add(array);
        for (index, size) in (0_u16..).zip(&devices) {
            let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
            let short = u16::try_from(mib).ok().filter(|mib| *mib < 0x7fff);
            let device = Structure::new(17, 0x1100_u16.saturating_add(index))
                .word(ARRAY)
                .word(NO_ERROR)
                .word(0xffff)
                .word(0xffff)
                .word(short.unwrap_or(0x7fff))
                .bytes(&[9, 0])
                .texts(&[Text::from(format!("{prefix} {index}")), Text::from(bank.to_owned())])
                .bytes(&[7])
                .word(2)
                .word(speed)
                .texts(&options.texts(
                    given,
                    &["manufacturer", "serial", "asset", "part"],
                    &["QEMU", "", "", ""],
                ))
                .bytes(&[0])
                .bytes(&if short.is_some() { 0 } else { mib }.to_le_bytes())
                .word(speed)
                .bytes(&[0; 6]);
            self.add(device);
        }
        for (index, (start, size)) in (0_u16..).zip([(0, low), (1 << 32, high)]) {
            if size != 0 {
                self.add(mapped_addresses(0x1300 + index, ARRAY, start, size));
            }
        }
        Ok(())
    }
}

fn firmware(given: Fields<'_>) -> Result<Structure, Error> {
    let texts = |name| Text::from(given.text(name).unwrap_or_default().to_owned());
    let release = given.text("release").unwrap_or("0.0");
    let (major, minor) = release.split_once('.').unwrap_or((release, "0"));
    let number = |text: &str| {
        text.parse::<u8>()
            .map_err(|_| Error::generic(format!("Invalid release: {release}")))
    };
    // Characteristics: none are known (bit 3); a virtual machine; UEFI when asked for.
    let uefi = given.text("uefi").and_then(text::parse_bool).unwrap_or_default();
    Ok(Structure::new(0, 0)
        .texts(&[texts("vendor"), texts("version")])
        .word(0xe800)
        .texts(&[texts("date")])
        .bytes(&[0])
        .bytes(&8_u64.to_le_bytes())
        .bytes(&[
            0,
            if uefi { 0x1c } else { 0x14 },
            number(major)?,
            number(minor)?,
            0xff,
            0xff,
        ]))
}

fn mapped_addresses(handle: u16, array: u16, start: u64, size: u64) -> Structure {
    let end = start + size - 1;
    let kib = (u32::try_from(start >> 10), u32::try_from(end >> 10));
    let structure = Structure::new(19, handle);
    match kib {
        (Ok(first), Ok(last)) if last != u32::MAX => structure
            .bytes(&first.to_le_bytes())
            .bytes(&last.to_le_bytes())
            .word(array)
            .bytes(&[1])
            .bytes(&[0; 16]),
        _ => structure
            .bytes(&[0xff; 8])
            .word(array)
            .bytes(&[1])
            .bytes(&start.to_le_bytes())
            .bytes(&end.to_le_bytes()),
    }
}

/// `-smbios` entries.
#[derive(Clone, Copy)]
struct Options<'a>(&'a [Entry]);

impl<'a> Options<'a> {
    fn new(entries: &'a [Entry]) -> Result<Self, Error> {
        for entry in entries.iter().map(|entry| &entry.parameters) {
            if entry.contains_key("file") {
                return Err(Error::generic("-smbios file= is not supported"));
            }
            let kind = entry.get("type").and_then(Value::as_str).unwrap_or_default();
            if !["0", "1", "2", "3", "4", "11", "17"].contains(&kind) {
                return Err(Error::generic(format!(
                    "Don't know how to build fields for SMBIOS type {kind}"
                )));
            }
        }
        Ok(Self(entries))
    }

    /// The last entry for a type.
    fn of(self, kind: &str) -> Option<Fields<'a>> {
        let entry = self
            .0
            .iter()
            .rev()
            .map(|entry| &entry.parameters)
            .find(|entry| entry.get("type").and_then(Value::as_str) == Some(kind));
        entry.map(Fields::new)
    }

    /// The texts given, or their defaults.
    fn texts(self, given: Option<Fields<'_>>, names: &[&str], defaults: &[&str]) -> Vec<Text> {
        let text = |(name, default): (&&str, &&str)| {
            let value = given.and_then(|given| given.text(name)).unwrap_or(default);
            Text::from(value.to_owned())
        };
        names.iter().zip(defaults).map(text).collect()
    }

    fn oem_strings(self) -> Vec<&'a str> {
        let entries = self
            .0
            .iter()
            .map(|entry| &entry.parameters)
            .filter(|entry| entry.get("type").and_then(Value::as_str) == Some("11"));
        let values = entries.filter_map(|entry| entry.get("value"));
        values
            .flat_map(|value| match value {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                value => value.as_str().into_iter().collect::<Vec<_>>(),
            })
            .collect()
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut uuid = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(uuid)
}

/// The first three fields of a UUID are little endian on the wire (7.2.1).
fn wire_uuid(uuid: [u8; 16]) -> [u8; 16] {
    let mut wire = uuid;
    wire[..4].reverse();
    wire[4..6].reverse();
    wire[6..8].reverse();
    wire
}

fn set_checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = sum.wrapping_neg();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn smbios(options: &Value, ram: (u64, u64), entry_point: EntryPoint) -> Result<Smbios, Error> {
        let options: Vec<_> = options
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| Entry {
                location: "-smbios".to_owned(),
                parameters: entry.as_object().unwrap().clone(),
            })
            .collect();
        Smbios::new(&Inventory {
            machine_type: "pc-q35-10.2",
            uuid: Some(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"),
            smp: SmpConfig {
                sockets: 2,
                cores: 3,
                threads: 2,
                ..SmpConfig::default()
            },
            processor_id: 0x1234,
            ram,
            options: &options,
            entry_point,
        })
    }

    /// Type, formatted bytes and texts of every structure.
    fn walk(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(usize::from(bytes[1]));
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let texts = rest[..end].split(|byte| *byte == 0).filter(|text| !text.is_empty());
            let texts = texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
            found.push((head[0], head.to_vec(), texts));
            bytes = &rest[end + 2..];
        }
        found
    }

    #[test]
    fn structures_have_the_lengths_of_the_standard() {
        let options = json!([{"type": "0", "vendor": "me"}, {"type": "2"}, {"type": "11", "value": ["a", "b"]}]);
        let smbios = smbios(&options, (2 << 30, 20 << 30), EntryPoint::Auto).unwrap();
        let found: Vec<_> = walk(&smbios.structures)
            .iter()
            .map(|(kind, head, _)| (*kind, head.len()))
            .collect();
        let expected = [
            (0, 0x18),
            (1, 0x1b),
            (2, 0x0f),
            (3, 0x16),
            (11, 5),
            (4, 0x30),
            (4, 0x30),
            (16, 0x17),
            (17, 0x28),
            (17, 0x28),
            (19, 0x1f),
            (19, 0x1f),
            (32, 0x0b),
            (127, 4),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_system_has_the_uuid_and_texts_given() {
        let options = json!([{"type": "1", "manufacturer": "ACME", "serial": "42", "sku": "S"}]);
        let smbios = smbios(&options, (1 << 30, 0), EntryPoint::Auto).unwrap();
        let (_, head, texts) = walk(&smbios.structures)
            .into_iter()
            .find(|(kind, ..)| *kind == 1)
            .unwrap();
        assert_eq!(
            texts,
            ["ACME", "Standard PC (Q35 + ICH9, 2009)", "pc-q35-10.2", "42", "S"]
        );
        assert_eq!(head[8..16], [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(head[4..8], [1, 2, 3, 4]);
    }

    #[test]
    fn both_entry_points_sum_to_zero() {
        for kind in [EntryPoint::Bits32, EntryPoint::Bits64] {
            let smbios = smbios(&json!([]), (1 << 30, 0), kind).unwrap();
            let entry = smbios.entry_point(0xf_0080);
            assert_eq!(entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            assert_eq!(entry.len(), if kind == EntryPoint::Bits32 { 0x1f } else { 0x18 });
        }
    }

    #[test]
    fn unknown_types_are_refused() {
        let error = smbios(&json!([{"type": "9"}]), (1 << 30, 0), EntryPoint::Auto).unwrap_err();
        assert_eq!(error.desc, "Don't know how to build fields for SMBIOS type 9");
    }
}
