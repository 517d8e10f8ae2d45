//! What a client is sent.

use std::time::Duration;

use serde_json::Value;

use crate::qapi::Error;
use crate::qapi::qmp::QMPCapability;
use crate::qapi::visit::{ObjectWriter, WireEvent, encoded};

/// The JSON text of an object whose members `write` writes.
fn text(write: impl FnOnce(&mut ObjectWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    write(&mut object);
    object.end();
    out
}

/// The greeting.
pub(super) fn greeting(version: &[u8], capabilities: &[QMPCapability]) -> Vec<u8> {
    let inner = text(|greeting| {
        greeting.raw("version", version);
        greeting.member("capabilities", capabilities);
    });
    text(|message| message.raw("QMP", &inner))
}

/// The reply to a command that succeeded and returned `value`.
pub(super) fn success(id: Option<&Value>, value: &[u8]) -> Vec<u8> {
    text(|message| {
        message.raw("return", value);
        if let Some(id) = id {
            message.member("id", id);
        }
    })
}

/// The reply to a command that failed.
pub(super) fn failure(id: Option<&Value>, error: &Error) -> Vec<u8> {
    text(|message| {
        if let Some(id) = id {
            message.member("id", id);
        }
        message.member("error", error);
    })
}

/// An event.
pub(super) fn event(event: &impl WireEvent, time: Duration) -> Vec<u8> {
    let timestamp = text(|timestamp| {
        timestamp.member("seconds", &time.as_secs());
        timestamp.member("microseconds", &time.subsec_micros());
    });
    let mut data = Vec::new();
    event.encode_data(&mut data);
    text(|message| {
        message.raw("timestamp", &timestamp);
        message.raw("event", &encoded(event.name()));
        if !data.is_empty() {
            message.raw("data", &data);
        }
    })
}

/// Breaks a message into lines, each level indented by four spaces.
pub(super) fn pretty(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2);
    let mut depth = 0usize;
    let mut bytes = message.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                copy_string(&mut bytes, &mut out);
            }
            b'{' | b'[' => {
                out.push(byte);
                if let Some(close) = bytes.next_if(|&next| next == byte + 2) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(depth, &mut out);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(depth, &mut out);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(depth, &mut out);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' => {}
            other => out.push(other),
        }
    }
    out
}

/// Copies a string up to its closing quote.
fn copy_string(bytes: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    while let Some(byte) = bytes.next() {
        out.push(byte);
        match byte {
            b'"' => return,
            b'\\' => out.extend(bytes.next()),
            _ => {}
        }
    }
}

fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 4));
}
