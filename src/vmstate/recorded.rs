//! Sections of streams that QEMU wrote, for tests: `tests/vectors/vmstate`.

use serde::Deserialize;
use serde_json::Value;

use super::{VmState, load_whole, save};

/// A section of a recorded stream.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Section {
    /// Its name, with the path of its device where that has one.
    pub(crate) name: String,
    /// Its instance.
    pub(crate) instance: u32,
    /// Its version.
    pub(crate) version: u32,
    bytes: String,
    /// What QEMU says at the end of the stream that it consists of.
    pub(crate) description: Value,
}

impl Section {
    /// What the section holds. The vectors say `0a*12` for twelve bytes 0x0a, where there are many of the same.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let byte = |digits: &str| u8::from_str_radix(digits, 16).unwrap();
        let word = |word: &str| match word.split_once('*') {
            Some((digits, count)) => vec![byte(digits); count.parse().unwrap()],
            None => (0..word.len()).step_by(2).map(|at| byte(&word[at..at + 2])).collect(),
        };
        self.bytes.split(' ').flat_map(word).collect()
    }
}

/// The streams, by name.
pub(crate) const STREAMS: [(&str, &str); 8] = [
    (
        "q35-7.2-bare",
        include_str!("../../tests/vectors/vmstate/q35-7.2-bare.jsonl"),
    ),
    (
        "q35-7.2-beat",
        include_str!("../../tests/vectors/vmstate/q35-7.2-beat.jsonl"),
    ),
    (
        "q35-7.2-virtio",
        include_str!("../../tests/vectors/vmstate/q35-7.2-virtio.jsonl"),
    ),
    (
        "q35-10.2-bare",
        include_str!("../../tests/vectors/vmstate/q35-10.2-bare.jsonl"),
    ),
    (
        "q35-10.2-beat",
        include_str!("../../tests/vectors/vmstate/q35-10.2-beat.jsonl"),
    ),
    (
        "q35-10.2-virtio",
        include_str!("../../tests/vectors/vmstate/q35-10.2-virtio.jsonl"),
    ),
    (
        "q35-10.2-virtio-bios",
        include_str!("../../tests/vectors/vmstate/q35-10.2-virtio-bios.jsonl"),
    ),
    (
        "q35-10.2-linux-devices",
        include_str!("../../tests/vectors/vmstate/q35-10.2-linux-devices.jsonl"),
    ),
];

/// All sections of a stream with this name; that of a device without its path.
pub(crate) fn sections(stream: &str, name: &str) -> Vec<Section> {
    let (_, lines) = STREAMS.iter().find(|(known, _)| *known == stream).unwrap();
    let sections = lines
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Section>(line).unwrap());
    sections
        .filter(|section| section.name.rsplit('/').next() == Some(name))
        .collect()
}

/// Reads every recorded section `name` into a state that `make` makes, writes it again, and compares bytes and
/// description with QEMU's. Says how many there were.
#[track_caller]
pub(crate) fn check_round_trips<T: VmState>(name: &str, mut make: impl FnMut(&Section) -> T) -> usize {
    let mut count = 0;
    for (stream, _) in STREAMS {
        for section in sections(stream, name) {
            let place = format!("{stream}: {} {}", section.name, section.instance);
            let mut state = make(&section);
            load_whole(&mut state, section.version, &section.bytes())
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let saved = save(&mut state).unwrap();
            assert_eq!(saved.bytes, section.bytes(), "{place}: bytes");
            let description = serde_json::to_value(&saved.description).unwrap();
            assert_eq!(description, section.description, "{place}: description");
            count += 1;
        }
    }
    assert!(count > 0, "no stream has a section {name}");
    count
}

/// As [`check_round_trips`], for a section in which release 10 calls something by another name than release 7: descriptions
/// are compared with those of the newer release only.
#[track_caller]
pub(crate) fn check_renamed_round_trips<T: VmState>(name: &str, mut make: impl FnMut() -> T) {
    let mut count = 0;
    for (stream, _) in STREAMS {
        for section in sections(stream, name) {
            let place = format!("{stream}: {} {}", section.name, section.instance);
            let mut state = make();
            load_whole(&mut state, section.version, &section.bytes())
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let saved = save(&mut state).unwrap();
            assert_eq!(saved.bytes, section.bytes(), "{place}: bytes");
            if stream.starts_with("q35-10.2") {
                let description = serde_json::to_value(&saved.description).unwrap();
                assert_eq!(description, section.description, "{place}: description");
            }
            count += 1;
        }
    }
    assert!(count > 0, "no stream has a section {name}");
}
