//! The stream as it is written.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::wire::{MAGIC, PAGE, RAM, RAM_VERSION, VERSION, command, kind, record};
use crate::machine::saved::StreamBlock;
use crate::vmstate::{Description, SavedSection};

/// The id of the section of memory. Those of devices follow.
pub const RAM_ID: u32 = 1;

/// Appends a string: a length byte and that many bytes. Longer names than a byte can tell are cut; there are none.
fn string(out: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(&text.as_bytes()[..len.into()]);
}

fn be32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn be64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// What a stream begins with: header and configuration.
pub fn begin(out: &mut Vec<u8>, machine: &str) {
    be32(out, MAGIC);
    be32(out, VERSION);
    out.push(kind::CONFIGURATION);
    // The names of machines are short.
    be32(out, machine.len() as u32);
    out.extend_from_slice(machine.as_bytes());
}

fn send_command(out: &mut Vec<u8>, number: u16, data: &[u8]) {
    out.push(kind::COMMAND);
    out.extend_from_slice(&number.to_be_bytes());
    // Commands have a few bytes.
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// Opens the return path, and asks for a sign of it.
pub fn open_return_path(out: &mut Vec<u8>) {
    send_command(out, command::OPEN_RETURN_PATH, &[]);
    send_command(out, command::PING, &1_u32.to_be_bytes());
}

/// The guest has stopped. Only releases from 10.0 on know of it.
pub fn switchover(out: &mut Vec<u8>) {
    send_command(out, command::SWITCHOVER_START, &[]);
}

/// The beginning of the section of memory: the list of blocks.
pub fn ram_start(out: &mut Vec<u8>, blocks: &[StreamBlock]) {
    section_header(out, kind::START, RAM_ID, RAM, 0, RAM_VERSION);
    let total: u64 = blocks.iter().map(|block| block.len).sum();
    be64(out, total | record::MEM_SIZE);
    for block in blocks {
        string(out, &block.name);
        be64(out, block.len);
    }
    end_of_ram(out);
}

/// Begins a further part of the section of memory, the last one if `last`. Records follow, then [`end_of_ram`].
pub fn ram_part(out: &mut Vec<u8>, last: bool) {
    out.push(if last { kind::END } else { kind::PART });
    be32(out, RAM_ID);
}

/// Ends a part of the section of memory.
pub fn end_of_ram(out: &mut Vec<u8>) {
    be64(out, record::EOS);
    footer(out, RAM_ID);
}

/// A page at an address of a block, which is not named where it is that of the record before.
pub fn page(out: &mut Vec<u8>, block: Option<&str>, address: u64, content: Option<&[u8; PAGE]>) {
    let kind = if content.is_some() { record::PAGE } else { record::ZERO };
    let same = if block.is_none() { record::CONTINUE } else { 0 };
    be64(out, address | kind | same);
    if let Some(block) = block {
        string(out, block);
    }
    match content {
        Some(content) => out.extend_from_slice(content),
        None => out.push(0),
    }
}

fn section_header(out: &mut Vec<u8>, kind: u8, id: u32, name: &str, instance: u32, version: u32) {
    out.push(kind);
    be32(out, id);
    string(out, name);
    be32(out, instance);
    be32(out, version);
}

fn footer(out: &mut Vec<u8>, id: u32) {
    out.push(kind::FOOTER);
    be32(out, id);
}

/// All sections of devices, the end, and what they consist of. `machine` is the name in the configuration.
pub fn devices(out: &mut Vec<u8>, machine: &str, sections: &[SavedSection]) {
    for (section, id) in sections.iter().zip(RAM_ID + 1..) {
        section_header(out, kind::FULL, id, &section.name, section.instance, section.version);
        out.extend_from_slice(&section.saved.bytes);
        footer(out, id);
    }
    out.push(kind::EOF);
    let description = describe(machine, sections).to_string();
    out.push(kind::DESCRIPTION);
    // Far below 4 GiB: there are a few hundred bytes for each section.
    be32(out, description.len() as u32);
    out.extend_from_slice(description.as_bytes());
}

/// A section in the description.
#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    instance_id: u32,
    #[serde(flatten)]
    content: &'a Description,
}

/// What the stream consists of, in JSON.
fn describe(machine: &str, sections: &[SavedSection]) -> Value {
    let described = sections.iter().map(|section| Described {
        name: &section.name,
        instance_id: section.instance,
        content: &section.saved.description,
    });
    let described: Vec<_> = described
        .map(|section| serde_json::to_value(section).unwrap_or_else(|_| Value::Object(Map::new())))
        .collect();
    json!({
        "configuration": {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [
                {"name": "len", "type": "uint32", "size": 4},
                {"name": "name", "type": "buffer", "size": machine.len()},
            ],
        },
        "page_size": PAGE,
        "devices": described,
    })
}
