//! The bytes that a keyboard or mouse has for the guest.

use super::state::{BUFFER, Ps2State};

/// Bytes that wait for the guest at most.
const QUEUE: usize = 16;

/// A queue in which answers to commands overtake what comes by itself.
#[derive(Debug)]
pub(super) struct Queue {
    ring: [u8; BUFFER],
    read_at: usize,
    write_at: usize,
    count: usize,
    /// Where the answer ends that is at the head.
    reply_end: Option<usize>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            ring: [0; BUFFER],
            read_at: 0,
            write_at: 0,
            count: 0,
            reply_end: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        (self.read_at, self.write_at, self.count, self.reply_end) = (0, 0, 0, None);
    }

    /// Whether there is room for so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.count + bytes <= QUEUE
    }

    /// Adds a byte, which is lost if there is no room.
    pub(super) fn push(&mut self, byte: u8) {
        if self.has_room(1) {
            self.ring[self.write_at] = byte;
            self.write_at = (self.write_at + 1) % BUFFER;
            self.count += 1;
        }
    }

    /// Forgets what is left of an answer, as its asker has another question.
    pub(super) fn drop_reply(&mut self) {
        if let Some(end) = self.reply_end.take() {
            self.count -= (end + BUFFER - self.read_at) % BUFFER;
            self.read_at = end;
        }
    }

    /// Puts an answer before all that waits.
    pub(super) fn reply(&mut self, bytes: &[u8]) {
        self.reply_end = Some(self.read_at);
        for byte in bytes.iter().rev() {
            self.read_at = (self.read_at + BUFFER - 1) % BUFFER;
            self.ring[self.read_at] = *byte;
        }
        self.count += bytes.len();
    }

    /// Takes the next byte; the last one again if there is none.
    pub(super) fn take(&mut self) -> u8 {
        if self.is_empty() {
            return self.ring[(self.read_at + BUFFER - 1) % BUFFER];
        }
        let byte = self.ring[self.read_at];
        self.read_at = (self.read_at + 1) % BUFFER;
        self.count -= 1;
        self.reply_end = self.reply_end.filter(|end| *end != self.read_at);
        byte
    }

    /// As a saved state has it, with where an answer ends.
    pub(super) fn state(&self, write_cmd: Option<u8>) -> (Ps2State, i32) {
        let number = |index: usize| i32::try_from(index).unwrap_or_default();
        let state = Ps2State {
            write_cmd: write_cmd.map_or(-1, i32::from),
            read_at: number(self.read_at),
            write_at: number(self.write_at),
            count: number(self.count),
            data: self.ring,
        };
        (state, self.reply_end.map_or(-1, number))
    }

    /// From a saved state; what is more than there is room for is lost.
    pub(super) fn restore(state: &Ps2State, reply_end: i32) -> Self {
        let index = |number: i32| usize::try_from(number).unwrap_or_default() % BUFFER;
        let mut queue = Self {
            ring: state.data,
            read_at: index(state.read_at),
            write_at: index(state.write_at),
            count: usize::try_from(state.count).unwrap_or_default().min(QUEUE),
            reply_end: usize::try_from(reply_end).ok().filter(|end| *end < BUFFER),
        };
        let reply = queue.reply_end.map_or(0, |end| (end + BUFFER - queue.read_at) % BUFFER);
        if reply == 0 || reply > queue.count {
            queue.reply_end = None;
        }
        queue
    }
}
