//! What is written is read, and whatever else comes is an error.

use std::io::{self, Read};

use super::read::{Destination, read};
use super::wire::PAGE;
use super::{MigrationError, write};
use crate::machine::saved::StreamBlock;
use crate::mem::RamBlock;
use crate::vmstate::pc::TimerState;
use crate::vmstate::{ReceivedSection, SavedSection, load, save};

const MACHINE: &str = "pc-q35-10.2";

/// Writes down what came.
#[derive(Default)]
struct Heard {
    blocks: Vec<(String, u64)>,
    pages: Vec<(usize, u64, bool)>,
    sections: Vec<(String, i64)>,
    pongs: Vec<u32>,
}

impl Destination for Heard {
    fn machine(&self) -> &str {
        MACHINE
    }

    fn block(&mut self, name: &str, len: u64) -> Result<usize, MigrationError> {
        self.blocks.push((name.to_owned(), len));
        Ok(self.blocks.len() - 1)
    }

    fn find_block(&mut self, name: &str) -> Result<usize, MigrationError> {
        let found = self.blocks.iter().position(|(block, _)| block == name);
        found.ok_or_else(|| MigrationError::UnknownBlock(name.to_owned()))
    }

    fn page(&mut self, block: usize, address: u64, content: Option<&[u8; PAGE]>) -> Result<(), MigrationError> {
        self.pages.push((block, address, content.is_some()));
        Ok(())
    }

    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError> {
        let mut state = TimerState::default();
        let Ok(len) = load(&mut state, section.version, section.bytes) else {
            return Ok(None);
        };
        let rest = &section.bytes[len..];
        if rest.len() < end.len() {
            return Ok(None);
        }
        if !rest.starts_with(end) {
            return Err(MigrationError::Footer(section.name.to_owned()));
        }
        self.sections.push((section.name.to_owned(), state.cpu_clock_offset));
        Ok(Some(len))
    }

    fn open_return_path(&mut self) -> Result<(), MigrationError> {
        Ok(())
    }

    fn pong(&mut self, number: u32) -> Result<(), MigrationError> {
        self.pongs.push(number);
        Ok(())
    }
}

fn block(name: &str, pages: u64) -> StreamBlock {
    let len = pages * PAGE as u64;
    StreamBlock {
        name: name.to_owned(),
        block: RamBlock::anonymous(name, usize::try_from(len).unwrap()).unwrap(),
        len,
        max: len,
    }
}

/// A stream with two blocks, pages of each, and two sections.
fn stream() -> Vec<u8> {
    let mut out = Vec::new();
    write::begin(&mut out, MACHINE);
    write::open_return_path(&mut out);
    write::ram_start(&mut out, &[block("pc.ram", 2), block("pc.bios", 1)]);
    write::ram_part(&mut out, false);
    write::page(&mut out, Some("pc.ram"), 0, Some(&[7; PAGE]));
    write::page(&mut out, None, 0x1000, None);
    write::end_of_ram(&mut out);
    write::switchover(&mut out);
    write::ram_part(&mut out, true);
    // The block is remembered from one part to the next.
    write::page(&mut out, None, 0, None);
    write::page(&mut out, Some("pc.bios"), 0, Some(&[1; PAGE]));
    write::end_of_ram(&mut out);
    let sections = [0, 1].map(|instance| SavedSection {
        name: "timer".to_owned(),
        instance,
        version: 2,
        saved: save(&mut TimerState {
            cpu_ticks_offset: 0,
            cpu_clock_offset: 1000 + i64::from(instance),
        })
        .unwrap(),
    });
    write::devices(&mut out, MACHINE, &sections);
    out
}

/// Gives a byte at a time, as a slow source does, and never more than there is.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(bytes.len()).min(1);
        bytes[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn what_is_written_is_read_however_slowly_it_comes() {
    let stream = stream();
    let mut heard = Heard::default();
    let description = read(Slow(&stream), &mut heard).unwrap().unwrap();
    assert_eq!(
        heard.blocks,
        [("pc.ram".to_owned(), 0x2000), ("pc.bios".to_owned(), 0x1000)]
    );
    assert_eq!(
        heard.pages,
        [(0, 0, true), (0, 0x1000, false), (0, 0, false), (1, 0, true)]
    );
    assert_eq!(heard.sections, [("timer".to_owned(), 1000), ("timer".to_owned(), 1001)]);
    assert_eq!(heard.pongs, [1]);
    let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
    assert_eq!(description["devices"][1]["instance_id"], 1);
    assert_eq!(description["devices"][0]["vmsd_name"], "timer");
    assert_eq!(description["page_size"], PAGE);
}

#[test]
fn the_beginning_is_that_of_qemus_stream() {
    let blocks = [block("pc.ram", 4096), block("pc.rom", 32)];
    let mut out = Vec::new();
    write::begin(&mut out, MACHINE);
    write::ram_start(&mut out, &blocks);
    let wanted = [
        &b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.2"[..],
        b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04",
        b"\0\0\0\0\x01\x02\0\x04",
        b"\x06pc.ram\0\0\0\0\x01\0\0\0",
        b"\x06pc.rom\0\0\0\0\0\x02\0\0",
        b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01",
    ];
    assert_eq!(out, wanted.concat());
}

#[test]
fn a_stream_that_is_cut_is_an_error_wherever_it_is_cut() {
    let stream = stream();
    let end = stream.windows(2).rposition(|pair| pair == b"\x06\0").unwrap();
    for at in 0..end {
        let error = read(&stream[..at], &mut Heard::default());
        assert!(matches!(error, Err(MigrationError::Ended(_))), "cut at {at}: {error:?}");
    }
    // The description may be missing.
    assert_eq!(read(&stream[..end], &mut Heard::default()).unwrap(), None);
}

#[test]
fn what_is_wrong_is_named() {
    let good = stream();
    let complaint = |stream: &[u8]| read(stream, &mut Heard::default()).unwrap_err().to_string();
    let with = |at: usize, bytes: &[u8]| {
        let mut stream = good.clone();
        stream[at..at + bytes.len()].copy_from_slice(bytes);
        complaint(&stream)
    };
    let find = |text: &[u8]| good.windows(text.len()).position(|part| part == text).unwrap();
    assert_eq!(with(0, b"X"), "Not a migration stream");
    assert_eq!(with(7, &[2]), "Unsupported migration stream version 2");
    assert_eq!(with(8, &[4]), "Configuration section missing");
    assert_eq!(
        with(find(b"10.2"), b"10.1"),
        "Machine type received is 'pc-q35-10.1' and local is 'pc-q35-10.2'"
    );
    let part = find(b"\x02\0\0\0\x01");
    assert_eq!(with(part + 4, &[9]), "Unknown section 9");
    assert_eq!(with(part, &[0x33]), "Unknown section type 51");
    assert_eq!(
        with(part + 14, b"Pc.ram"),
        "Unknown ramblock \"Pc.ram\", cannot accept migration"
    );
    assert_eq!(with(part + 12, &[0x41]), "ram: unknown combination of flags: 0x41");
    assert_eq!(complaint(b""), "the stream ends in the middle of its header");
}
