//! A person at a human monitor.

use super::editor::{Editor, Typed};
use super::table::{COMMANDS, TOPICS};
use super::{HmpHost, MonitorState, execute};
use crate::chardev::{FrontEnd, FrontEvent, FrontWriter};

const PROMPT: &str = "(qemu) ";

/// Serves a human monitor on `front` until the character device goes.
pub async fn serve(host: &impl HmpHost, front: FrontEnd) {
    let FrontEnd { mut reader, writer } = front;
    let mut person = Person {
        editor: Editor::new(PROMPT),
        state: MonitorState::default(),
        present: false,
        focused: true,
        greeted: false,
        writer,
    };
    while let Some(event) = reader.recv().await {
        match event {
            FrontEvent::Opened => {
                person.present = true;
                person.welcome(host).await;
            }
            FrontEvent::Data(chunk) => person.type_keys(host, &chunk.bytes).await,
            FrontEvent::FocusIn if person.focused => {}
            FrontEvent::FocusIn => {
                person.focused = true;
                person.welcome(host).await;
            }
            FrontEvent::FocusOut => person.focused = false,
            FrontEvent::Closed => {
                person.editor.clear();
                (person.present, person.greeted) = (false, false);
            }
            FrontEvent::Break => {}
        }
    }
}

struct Person {
    editor: Editor,
    state: MonitorState,
    /// Somebody is at the keyboard.
    present: bool,
    /// What is typed is meant for the monitor, not for another user of a multiplexer.
    focused: bool,
    greeted: bool,
    writer: FrontWriter,
}

impl Person {
    /// Greets whoever has come to the monitor, or shows the prompt to one who has come back.
    async fn welcome(&mut self, host: &impl HmpHost) {
        match (self.present && self.focused, self.greeted) {
            (false, _) => {}
            (true, false) => self.greet(host).await,
            (true, true) => self.show("\r\n").await,
        }
    }

    async fn greet(&mut self, host: &impl HmpHost) {
        let version = execute(host, &mut self.state, "info version").await;
        let number: String = version
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        self.editor.clear();
        self.greeted = true;
        self.show(&format!("QEMU {number} monitor - type 'help' for more information\r\n"))
            .await;
    }

    /// Shows a text and the prompt after it.
    async fn show(&self, text: &str) {
        let mut shown = text.to_owned();
        self.editor.show(&mut shown);
        self.writer.send(shown).await;
    }

    async fn type_keys(&mut self, host: &impl HmpHost, keys: &[u8]) {
        let mut echo = String::new();
        for key in keys {
            match self.editor.feed(*key, &mut echo) {
                Typed::Nothing => {}
                Typed::Line(line) => {
                    // The echo is shown before a command that takes its time.
                    self.writer.send(std::mem::take(&mut echo)).await;
                    echo = execute(host, &mut self.state, &line).await;
                    self.editor.show(&mut echo);
                }
                Typed::Complete(beginning) => self.complete(&beginning, &mut echo),
            }
        }
        if !echo.is_empty() {
            self.writer.send(echo).await;
        }
    }

    /// Completes the name of a command or topic, or lists those it may be.
    fn complete(&mut self, beginning: &str, echo: &mut String) {
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

/// What two names, both ASCII, start with.
fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let length = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    &one[..length]
}
