//! Types 0 to 3 and 11: firmware, system, board, chassis and free texts.

use super::options::{Requests, release};
use super::structure::{Structure, Text};
use super::{Inventory, MANUFACTURER};
use crate::qapi::text;

/// The structures of types 0 to 3; firmware and board only where something is said of them.
pub(super) fn structures(inventory: &Inventory<'_>, requests: &Requests) -> Vec<Structure> {
    let mut structures = Vec::new();
    if requests.fields(0).is_some() {
        structures.push(firmware(requests));
    }
    structures.push(system(inventory, requests));
    if requests.fields(2).is_some() {
        structures.push(board(inventory, requests));
    }
    structures.push(chassis(inventory, requests));
    structures
}

/// Type 11, where there are strings.
pub(super) fn oem_strings(requests: &Requests) -> Option<Structure> {
    let strings: Vec<&String> = requests.oem_strings.iter().filter(|text| !text.is_empty()).collect();
    let count = u8::try_from(strings.len()).ok().filter(|count| *count != 0)?;
    let structure = Structure::new(11, 0xe00).bytes(&[count]);
    Some(strings.into_iter().fold(structure, |all, text| all.unnumbered(text)))
}

/// The texts given for fields of a type, or their defaults.
pub(super) fn texts<const N: usize>(requests: &Requests, kind: u8, fields: [(&str, &str); N]) -> [Text; N] {
    fields.map(|(name, default)| {
        let given = requests.fields(kind).and_then(|fields| fields.get(name));
        Text::from(given.map_or(default, String::as_str).to_owned())
    })
}

fn firmware(requests: &Requests) -> Structure {
    let [major, minor] = release(requests.text(0, "release")).unwrap_or_default();
    // Characteristics: none are known (bit 3); a virtual machine; UEFI when asked for.
    let uefi = text::parse_bool(requests.text(0, "uefi")).unwrap_or_default();
    Structure::new(0, 0)
        .texts(&texts(requests, 0, [("vendor", ""), ("version", "")]))
        .word(0xe800)
        .texts(&texts(requests, 0, [("date", "")]))
        .bytes(&[0])
        .bytes(&8_u64.to_le_bytes())
        .bytes(&[0, if uefi { 0x1c } else { 0x14 }, major, minor, 0xff, 0xff])
}

fn system(inventory: &Inventory<'_>, requests: &Requests) -> Structure {
    let uuid = text::parse_uuid(requests.text(1, "uuid")).or(inventory.uuid);
    Structure::new(1, 0x100)
        .texts(&identity(inventory, requests, 1))
        .bytes(&wire_uuid(uuid.unwrap_or_default()))
        .bytes(&[6])
        .texts(&texts(requests, 1, [("sku", ""), ("family", "")]))
}

fn board(inventory: &Inventory<'_>, requests: &Requests) -> Structure {
    Structure::new(2, 0x200)
        .texts(&identity(inventory, requests, 2))
        .texts(&texts(requests, 2, [("asset", "")]))
        .bytes(&[1])
        .texts(&texts(requests, 2, [("location", "")]))
        .word(0x300)
        .bytes(&[0x0a, 0])
}

fn chassis(inventory: &Inventory<'_>, requests: &Requests) -> Structure {
    Structure::new(3, 0x300)
        .texts(&texts(requests, 3, [("manufacturer", MANUFACTURER)]))
        .bytes(&[1])
        .texts(&texts(
            requests,
            3,
            [("version", inventory.machine_type), ("serial", ""), ("asset", "")],
        ))
        .bytes(&[3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0])
        .texts(&texts(requests, 3, [("sku", "")]))
}

/// What system and board begin with.
fn identity(inventory: &Inventory<'_>, requests: &Requests, kind: u8) -> [Text; 4] {
    let fields = [
        ("manufacturer", MANUFACTURER),
        ("product", inventory.product),
        ("version", inventory.machine_type),
        ("serial", ""),
    ];
    texts(requests, kind, fields)
}

/// The first three fields of a UUID are little endian on the wire (7.2.1).
fn wire_uuid(uuid: [u8; 16]) -> [u8; 16] {
    let mut wire = uuid;
    wire[..4].reverse();
    wire[4..6].reverse();
    wire[6..8].reverse();
    wire
}
