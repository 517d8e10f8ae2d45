//! A person at a human monitor.

use std::collections::VecDeque;

use super::MonitorState;
use super::editor::{Editor, History, Typed};
use super::table::{COMMANDS, TOPICS};
use crate::monitor::pump::Conversation;
use crate::qapi::session::Output;

const PROMPT: &str = "(qemu) ";

/// A line to run.
#[derive(Debug)]
pub struct Line {
    /// As it was typed.
    pub text: String,
    /// What the monitor remembers from the lines before.
    pub state: MonitorState,
}

/// What became of a line.
#[derive(Debug)]
pub struct Answer {
    /// What it prints.
    pub text: String,
    /// What the monitor remembers now.
    pub state: MonitorState,
}

/// Somebody at the keyboard, from their coming to their going: keys in, echo and lines out. One line runs at a time; keys
/// that come meanwhile wait.
#[derive(Debug)]
pub struct Person {
    version: String,
    editor: Editor,
    state: MonitorState,
    keys: VecDeque<u8>,
    ready: VecDeque<Output<Line>>,
    running: bool,
    greeted: bool,
}

impl Person {
    /// Somebody who has not been greeted yet. `version` is shown to them; `history` is that of the monitor.
    #[must_use]
    pub fn new(version: String, history: History) -> Self {
        Self {
            version,
            editor: Editor::new(PROMPT, history),
            state: MonitorState::default(),
            keys: VecDeque::new(),
            ready: VecDeque::new(),
            running: false,
            greeted: false,
        }
    }

    /// Shows a text and the prompt after it.
    fn show(&mut self, mut text: String) {
        self.editor.show(&mut text);
        self.ready.push_back(Output::Send(text.into_bytes()));
    }

    /// Takes keys up to the end of a line.
    fn type_keys(&mut self) {
        let mut echo = String::new();
        let mut line = None;
        while let Some(key) = self.keys.pop_front() {
            match self.editor.feed(key, &mut echo) {
                Typed::Nothing => {}
                Typed::Line(text) => {
                    line = Some(text);
                    break;
                }
                Typed::Complete(beginning) => self.complete_name(&beginning, &mut echo),
            }
        }
        if !echo.is_empty() {
            self.ready.push_back(Output::Send(echo.into_bytes()));
        }
        if let Some(text) = line {
            self.running = true;
            let state = self.state.clone();
            self.ready.push_back(Output::Run(Line { text, state }));
        }
    }

    /// Completes the name of a command or topic, or lists those it may be.
    fn complete_name(&mut self, beginning: &str, echo: &mut String) {
        let (table, word) = match beginning.trim_start().strip_prefix("info ") {
            Some(topic) => (TOPICS, topic.trim_start()),
            None => (COMMANDS, beginning.trim_start()),
        };
        let names = table.iter().flat_map(|command| command.names);
        let fitting: Vec<&str> = names.copied().filter(|name| name.starts_with(word)).collect();
        match fitting.as_slice() {
            [] => {}
            [only] => self.editor.insert(&format!("{} ", &only[word.len()..]), echo),
            [first, others @ ..] => {
                let common = others.iter().fold(*first, |common, name| common_start(common, name));
                if common.len() > word.len() {
                    self.editor.insert(&common[word.len()..], echo);
                    return;
                }
                *echo += "\r\n";
                *echo += &fitting.join("  ");
                *echo += "\r\n";
                self.editor.show(echo);
            }
        }
    }
}

impl Conversation for Person {
    type Request = Line;
    type Done = Answer;

    fn feed(&mut self, bytes: &[u8]) {
        self.keys.extend(bytes);
    }

    fn next_output(&mut self) -> Option<Output<Line>> {
        if self.ready.is_empty() && !self.running {
            self.type_keys();
        }
        self.ready.pop_front()
    }

    fn complete(&mut self, done: Answer) {
        self.running = false;
        self.state = done.state;
        self.show(done.text);
    }

    fn wants_input(&self) -> bool {
        self.is_idle()
    }

    fn is_idle(&self) -> bool {
        !self.running && self.keys.is_empty() && self.ready.is_empty()
    }

    /// A person sends no descriptors that a line could be about.
    fn is_between_requests(&self) -> bool {
        true
    }

    /// Greets whoever has come to the monitor, or shows the prompt to one who has come back.
    fn focus(&mut self, on: bool) {
        match (on, self.greeted) {
            (false, _) => {}
            (true, false) => {
                self.greeted = true;
                let version = &self.version;
                self.show(format!("QEMU {version} monitor - type 'help' for more information\r\n"));
            }
            (true, true) => self.show("\r\n".to_owned()),
        }
    }
}

/// What two names, both ASCII, start with.
fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let length = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    &one[..length]
}
