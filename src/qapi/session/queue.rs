//! In-band requests that wait for their turn.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::request::Parsed;

/// How many requests may wait where out-of-band commands are on. There the client is read on while a command runs, so
/// that it can send one out of band.
const MOST_WAITING: usize = 8;

/// A command as the client sent it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    /// Its name.
    pub(super) command: String,
    /// Its arguments; empty if there were none.
    pub(super) arguments: Map<String, Value>,
}

/// The requests that wait, mistakes among them: they are answered in their turn too.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Parsed>,
}

impl Queue {
    pub(super) fn push(&mut self, parsed: Parsed) {
        self.waiting.push_back(parsed);
    }

    pub(super) fn pop(&mut self) -> Option<Parsed> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the client may send more. What is read at once may still bring more than there is room for.
    pub(super) fn has_room(&self, oob: bool, running: bool) -> bool {
        match oob {
            true => self.waiting.len() < MOST_WAITING,
            false => self.waiting.is_empty() && !running,
        }
    }
}
