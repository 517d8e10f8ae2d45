use serde_json::{Value, json};

use super::*;
use crate::machine::pci::Devfn;

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
        product: "Standard PC (Q35 + ICH9, 2009)",
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
        find_device: &|id| match id {
            "port" => Some(Some(Devfn::new(3, 1))),
            "behind" => Some(None),
            _ => None,
        },
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
        (4, 0x2a),
        (4, 0x2a),
        (11, 5),
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
fn left_to_us_the_form_is_the_older_one_unless_the_structures_are_too_long() {
    let entry = |options: &Value, kind| smbios(options, (1 << 30, 0), kind).map(|smbios| smbios.entry_point(0).len());
    assert_eq!(entry(&json!([]), EntryPoint::Auto).unwrap(), 0x1f);
    let long = json!([{"type": "11", "value": "x".repeat(70_000)}]);
    assert_eq!(entry(&long, EntryPoint::Auto).unwrap(), 0x18);
    let error = entry(&long, EntryPoint::Bits32).unwrap_err().desc;
    assert!(error.starts_with("SMBIOS 2.1 table length 70"), "{error}");
}

/// The structures of one type.
fn of_type(kind: u8, options: &Value) -> Vec<(Vec<u8>, Vec<String>)> {
    let smbios = smbios(options, (1 << 30, 0), EntryPoint::Auto).unwrap();
    let all = walk(&smbios.structures).into_iter();
    all.filter(|(found, ..)| *found == kind)
        .map(|(_, head, texts)| (head[4..].to_vec(), texts))
        .collect()
}

#[test]
fn options_for_one_type_add_up() {
    let options = json!([
        {"type": "1", "manufacturer": "ACME", "serial": "1"}, {"type": "1", "product": "Box", "serial": "2"},
        {"type": "11", "value": ["a", "b"]}, {"type": "11", "value": "c"},
    ]);
    assert_eq!(of_type(1, &options)[0].1, ["ACME", "Box", "pc-q35-10.2", "2"]);
    assert_eq!(
        of_type(11, &options),
        [(vec![3], ["a", "b", "c"].map(str::to_owned).to_vec())]
    );
}

#[test]
fn a_processor_has_the_models_id_and_family_unless_given() {
    let usual = of_type(4, &json!([]));
    assert_eq!(usual.len(), 2);
    assert_eq!(
        (&usual[0].0[2], &usual[0].0[4..6], &usual[0].0[36..]),
        (&0xfe, &[0x34, 0x12][..], &[1, 0][..])
    );
    let given = of_type(
        4,
        &json!([{"type": "4", "processor-id": "0x123456789", "processor-family": "300"}]),
    );
    assert_eq!(given[0].0[4..9], [0x89, 0x67, 0x45, 0x23, 0x01]);
    assert_eq!(given[0].0[36..], [0x2c, 0x01]);
}

#[test]
fn connectors_slots_and_devices_of_the_board_are_one_each() {
    let options = json!([
        {"type": "8", "internal_reference": "J1", "external_reference": "E1", "connector_type": "1", "port_type": "2"},
        {"type": "8", "internal_reference": "J2"},
        {"type": "9", "slot_designation": "S1", "slot_type": "0xaa", "slot_id": "258", "slot_characteristics2": "3"},
        {"type": "9", "slot_designation": "S2", "pcidev": "port"},
        {"type": "41", "designation": "x", "kind": "ethernet", "instance": "1", "pcidev": "port"},
        {"type": "41", "kind": "sas"},
    ]);
    let heads = |kind| {
        of_type(kind, &options)
            .into_iter()
            .map(|(head, _)| head)
            .collect::<Vec<_>>()
    };
    assert_eq!(heads(8), [vec![1, 1, 2, 1, 2], vec![1, 0, 0, 0, 0]]);
    assert_eq!(
        heads(9),
        [
            vec![1, 0xaa, 0, 0, 0, 2, 1, 0, 3, 0xff, 0, 0xff, 0xff],
            vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x19],
        ]
    );
    assert_eq!(
        heads(41),
        [vec![1, 0x85, 1, 0, 0, 0, 0x19], vec![0, 0x8a, 0, 0, 0, 0, 0]]
    );
}

#[test]
fn structures_from_files_stand_for_those_of_their_type() {
    let dir = std::env::temp_dir().join(format!("remuda-smbios-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = file("own", b"\xc8\x05\0\0\x01text\0\0");
    let chassis = file("chassis", b"\x03\x05\x34\x12\0\0\0");
    let short = file("short", b"\x03");
    let text = file("text", b"io.systemd.credential:x=a,b c");
    let options = json!([{"file": own}, {"file": own}, {"file": chassis}, {"type": "11", "path": text}]);
    assert_eq!(of_type(200, &options).len(), 2);
    assert_eq!(of_type(3, &options), [(vec![0], vec![])]);
    assert_eq!(of_type(11, &options)[0].1, ["io.systemd.credential:x=a,b c"]);
    for (options, complaint) in [
        (
            json!([{"type": "3"}, {"file": chassis}]),
            "-smbios: can't load type 3 struct, fields already specified!".to_owned(),
        ),
        (
            json!([{"file": chassis}, {"type": "3"}]),
            "-smbios: can't add fields, binary file already loaded!".to_owned(),
        ),
        (
            json!([{"file": short}]),
            format!("-smbios: Cannot read SMBIOS file {short}"),
        ),
        (
            json!([{"type": "11", "path": "/nonexistent"}]),
            "-smbios: Could not open '/nonexistent': No such file or directory".to_owned(),
        ),
    ] {
        assert_eq!(
            smbios(&options, (1 << 30, 0), EntryPoint::Auto).unwrap_err().desc,
            complaint
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_does_not_fit_is_named() {
    for (option, complaint) in [
        (json!({"type": "0", "release": "1"}), "-smbios: Invalid release"),
        (
            json!({"type": "4", "max-speed": "70000"}),
            "-smbios: SMBIOS CPU speed is too large (> 65535)",
        ),
        (
            json!({"type": "8", "port_type": "300"}),
            "-smbios: Parameter 'port_type' expects uint8_t",
        ),
        (
            json!({"type": "41", "kind": "nosuch"}),
            "-smbios: invalid parameter value: nosuch",
        ),
        (
            json!({"type": "41", "designation": "x", "pcidev": "nosuch"}),
            "No PCI device nosuch for SMBIOS type 41 entry x",
        ),
        (
            json!({"type": "9", "pcidev": "behind"}),
            "Cannot create type 9 entry for PCI device behind: not attached to the root bus",
        ),
    ] {
        let error = smbios(&json!([option]), (1 << 30, 0), EntryPoint::Auto).unwrap_err();
        assert_eq!(error.desc, complaint);
    }
    // As C reads it, of a large number the low bits count.
    let options = json!([{"type": "0", "release": "300.1"}]);
    assert_eq!(of_type(0, &options)[0].0[16..18], [44, 1]);
}
