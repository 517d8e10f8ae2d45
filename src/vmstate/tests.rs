//! The visitor on small states: what it writes, how it describes that, and what it refuses to read.

use serde_json::json;

use super::*;

#[derive(Clone, Debug, Default, PartialEq)]
struct Channel {
    count: i32,
    gate: bool,
}

impl VmState for Channel {
    fn layout(&self) -> Layout {
        Layout::new("pit channel", 2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("count", &mut self.count)?;
        fields.flag::<u8>("gate", &mut self.gate)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Deep(u64);

impl VmState for Deep {
    fn layout(&self) -> Layout {
        Layout::new("toy/late/deep", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("deep", &mut self.0)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Late {
    value: u16,
    deep: Deep,
}

impl VmState for Late {
    fn layout(&self) -> Layout {
        Layout::new("toy/late", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("value", &mut self.value)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        subsections.whole(self.deep.0 != 0, &mut self.deep)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Toy {
    index: u8,
    words: [u16; 3],
    expires: Option<u64>,
    added: u32,
    channels: [Channel; 2],
    raw: [u8; 4],
    early: u8,
    late: Late,
}

impl VmState for Toy {
    fn layout(&self) -> Layout {
        Layout::new("toy", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.equal("num", 2_u8, "uint8 equal")?;
        fields.int("index", &mut self.index)?;
        fields.ints("words", &mut self.words)?;
        fields.unused("unused", 2)?;
        fields.timer("timer", &mut self.expires)?;
        if fields.version() >= 3 {
            fields.int("added", &mut self.added)?;
        }
        fields.structures("channels", &mut self.channels)?;
        fields.buffer("raw", &mut self.raw)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let early = &mut self.early;
        let needed = *early != 0;
        subsections.section(Layout::new("toy/early", 1), needed, |fields| fields.int("early", early))?;
        subsections.whole(self.late != Late::default(), &mut self.late)
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if self.index > 9 {
            return Err(StateError::out_of_range("index", self.index));
        }
        Ok(())
    }
}

fn toy() -> Toy {
    Toy {
        index: 7,
        words: [1, 2, 0x304],
        expires: None,
        added: 5,
        channels: [Channel { count: -1, gate: true }, Channel::default()],
        raw: *b"abcd",
        early: 0,
        late: Late {
            value: 9,
            deep: Deep(1),
        },
    }
}

const FIELDS: &[u8] = b"\x02\x07\x00\x01\x00\x02\x03\x04\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x05\
    \xff\xff\xff\xff\x01\x00\x00\x00\x00\x00abcd";
const LATE: &[u8] = b"\x05\x08toy/late\x00\x00\x00\x01\x00\x09\x05\x0dtoy/late/deep\x00\x00\x00\x01\
    \x00\x00\x00\x00\x00\x00\x00\x01";
const EARLY: &[u8] = b"\x05\x09toy/early\x00\x00\x00\x01\x2a";

fn error_of(version: u32, bytes: &[u8]) -> String {
    load_whole(&mut Toy::default(), version, bytes).unwrap_err().to_string()
}

#[test]
fn the_bytes_are_big_endian_fields_and_named_subsections() {
    let saved = save(&mut toy()).unwrap();
    assert_eq!(saved.bytes, [FIELDS, LATE].concat());
    let mut back = Toy::default();
    load_whole(&mut back, 3, &saved.bytes).unwrap();
    assert_eq!(back, toy());
}

#[test]
fn the_description_names_every_field_once() {
    let description = serde_json::to_value(save(&mut toy()).unwrap().description).unwrap();
    let expected = json!({
        "vmsd_name": "toy", "version": 3,
        "fields": [
            {"name": "num", "type": "uint8 equal", "size": 1},
            {"name": "index", "type": "uint8", "size": 1},
            {"name": "words", "array_len": 3, "type": "uint16", "size": 2},
            {"name": "unused", "type": "unused_buffer", "size": 2},
            {"name": "timer", "type": "timer", "size": 8},
            {"name": "added", "type": "uint32", "size": 4},
            {"name": "channels", "array_len": 2, "type": "struct", "struct": {
                "vmsd_name": "pit channel", "version": 2,
                "fields": [{"name": "count", "type": "int32", "size": 4}, {"name": "gate", "type": "uint8", "size": 1}],
            }, "size": 5},
            {"name": "raw", "type": "buffer", "size": 4},
        ],
        "subsections": [{
            "vmsd_name": "toy/late", "version": 1, "fields": [{"name": "value", "type": "uint16", "size": 2}],
            "subsections": [{
                "vmsd_name": "toy/late/deep", "version": 1, "fields": [{"name": "deep", "type": "uint64", "size": 8}],
            }],
        }],
    });
    assert_eq!(description, expected);
}

#[test]
fn subsections_are_read_in_any_order() {
    let mut back = Toy::default();
    load_whole(&mut back, 3, &[FIELDS, LATE, EARLY].concat()).unwrap();
    assert_eq!((back.early, back.late.value), (0x2a, 9));
}

#[test]
fn an_older_version_has_the_fields_it_had() {
    let mut bytes = FIELDS.to_vec();
    bytes.drain(18..22);
    let mut back = Toy { added: 77, ..toy() };
    load_whole(&mut back, 2, &bytes).unwrap();
    assert_eq!((back.added, back.raw), (77, *b"abcd"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let changed = |at: usize, value: u8| {
        let mut bytes = FIELDS.to_vec();
        bytes[at] = value;
        bytes
    };
    assert_eq!(error_of(3, &FIELDS[..5]), "toy: words: 2 bytes wanted, 1 left");
    assert_eq!(
        error_of(3, &FIELDS[..30]),
        "toy: channels[1]: count: 4 bytes wanted, 3 left"
    );
    assert_eq!(error_of(1, FIELDS), "toy: version 1 cannot be read, only 2 to 3");
    assert_eq!(error_of(4, FIELDS), "toy: version 4 cannot be read, only 2 to 3");
    assert_eq!(error_of(3, &changed(0, 3)), "toy: num: 3 where this machine has 2");
    assert_eq!(error_of(3, &changed(1, 10)), "toy: index: 0xa is out of range");
    assert_eq!(error_of(3, &[FIELDS, b"xy"].concat()), "toy: 2 bytes are left over");
    let subsection = |bytes: &[u8]| error_of(3, &[FIELDS, bytes].concat());
    assert_eq!(
        subsection(&LATE[..LATE.len() - 1]),
        "toy: toy/late: toy/late/deep: deep: 8 bytes wanted, 7 left"
    );
    assert_eq!(subsection(b"\x05\x05toy/x\0\0\0\x01"), "toy: toy/x: unknown subsection");
    assert_eq!(subsection(b"\x05\x05toy/x\0\0"), "toy: toy/x: 4 bytes wanted, 2 left");
    assert_eq!(
        subsection(b"\x05\x09toy/early\0\0\0\x02\0"),
        "toy: toy/early: version 2 cannot be read, only 1 to 1"
    );
    assert_eq!(subsection(b"\x05\x07other/x\0\0\0\x01"), "toy: 13 bytes are left over");
}

proptest::proptest! {
    #[test]
    fn noise_is_an_error_or_a_state(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let mut state = Toy::default();
        if load(&mut state, 3, &bytes).is_ok() {
            let again = save(&mut state).unwrap();
            let mut back = Toy::default();
            load_whole(&mut back, 3, &again.bytes).unwrap();
            assert_eq!(back, state);
        }
    }
}
