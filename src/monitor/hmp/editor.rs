//! A line editor: bytes of a terminal in, echo and finished lines out.

use std::cell::RefCell;
use std::rc::Rc;

/// How many lines are remembered.
const HISTORY: usize = 64;
/// The longest line, in characters; more are not taken.
const MAX_LINE: usize = 4096;

/// The lines that were typed, which the next person at the same monitor finds.
pub type History = Rc<RefCell<Vec<String>>>;

/// A line being typed.
#[derive(Debug)]
pub(super) struct Editor {
    prompt: &'static str,
    line: Vec<char>,
    cursor: usize,
    history: History,
    /// The entry of `history` that is shown; its length for a new line.
    recalled: usize,
    state: State,
    /// The bytes of a character that is not complete.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    /// A carriage return was the last byte: a line feed belongs to it.
    CarriageReturn,
    /// An escape byte came.
    Escape,
    /// `ESC [` or `ESC O` came, and perhaps a number.
    Sequence(u32),
}

/// What one byte led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Nothing but echo.
    Nothing,
    /// A finished line.
    Line(String),
    /// The tab key after this beginning of a line.
    Complete(String),
}

impl Editor {
    pub(super) fn new(prompt: &'static str, history: History) -> Self {
        let recalled = history.borrow().len();
        Self {
            prompt,
            line: Vec::new(),
            cursor: 0,
            history,
            recalled,
            state: State::Plain,
            partial: Vec::new(),
        }
    }

    /// Forgets the line, not the history.
    pub(super) fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.state = State::Plain;
        self.partial.clear();
        self.recalled = self.history.borrow().len();
    }

    /// Shows the prompt and what is typed so far.
    pub(super) fn show(&self, echo: &mut String) {
        *echo += self.prompt;
        echo.extend(&self.line);
        back(self.line.len() - self.cursor, echo);
    }

    /// Takes one byte.
    pub(super) fn feed(&mut self, byte: u8, echo: &mut String) -> Typed {
        match self.state {
            State::CarriageReturn if byte == b'\n' => {
                self.state = State::Plain;
                Typed::Nothing
            }
            State::Plain | State::CarriageReturn => {
                self.state = State::Plain;
                self.plain(byte, echo)
            }
            State::Escape => {
                self.state = if matches!(byte, b'[' | b'O') {
                    State::Sequence(0)
                } else {
                    State::Plain
                };
                Typed::Nothing
            }
            State::Sequence(number) => {
                self.state = match byte {
                    b'0'..=b'9' => State::Sequence(number.saturating_mul(10).saturating_add((byte - b'0').into())),
                    b';' => State::Sequence(0),
                    _ => State::Plain,
                };
                if self.state == State::Plain {
                    self.sequence(byte, number, echo);
                }
                Typed::Nothing
            }
        }
    }

    /// Adds text as if it were typed.
    pub(super) fn insert(&mut self, text: &str, echo: &mut String) {
        for character in text.chars() {
            if self.line.len() >= MAX_LINE {
                return;
            }
            self.line.insert(self.cursor, character);
            self.cursor += 1;
            echo.push(character);
            self.show_tail(0, echo);
        }
    }

    fn plain(&mut self, byte: u8, echo: &mut String) -> Typed {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    self.state = State::CarriageReturn;
                }
                *echo += "\r\n";
                return Typed::Line(self.take_line());
            }
            b'\t' => return Typed::Complete(self.line[..self.cursor].iter().collect()),
            0x1b => self.state = State::Escape,
            0x01 => self.move_to(0, echo),
            0x02 => self.move_to(self.cursor.saturating_sub(1), echo),
            // Ctrl-C gives the line up.
            0x03 => {
                *echo += "\r\n";
                self.clear();
                self.show(echo);
            }
            0x04 => self.delete(echo),
            0x05 => self.move_to(self.line.len(), echo),
            0x06 => self.move_to(self.cursor + 1, echo),
            0x08 | 0x7f => self.backspace(echo),
            0x0b => {
                self.line.truncate(self.cursor);
                *echo += "\x1b[K";
            }
            0x0c => {
                *echo += "\x1b[2J\x1b[H";
                self.show(echo);
            }
            0x0e => self.recall(self.recalled + 1, echo),
            0x10 => self.recall(self.recalled.wrapping_sub(1), echo),
            0x15 => self.replace("", echo),
            0x17 => self.delete_word(echo),
            0x00..0x20 => {}
            _ => self.character(byte, echo),
        }
        Typed::Nothing
    }

    /// A byte of a character, which UTF-8 may spread over several.
    fn character(&mut self, byte: u8, echo: &mut String) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let text = text.to_owned();
                self.partial.clear();
                self.insert(&text, echo);
            }
            Err(error) if error.error_len().is_some() => self.partial.clear(),
            Err(_incomplete) => {}
        }
    }

    fn sequence(&mut self, last: u8, number: u32, echo: &mut String) {
        match (last, number) {
            (b'A', _) => self.recall(self.recalled.wrapping_sub(1), echo),
            (b'B', _) => self.recall(self.recalled + 1, echo),
            (b'C', _) => self.move_to(self.cursor + 1, echo),
            (b'D', _) => self.move_to(self.cursor.saturating_sub(1), echo),
            (b'H', _) | (b'~', 1 | 7) => self.move_to(0, echo),
            (b'F', _) | (b'~', 4 | 8) => self.move_to(self.line.len(), echo),
            (b'~', 3) => self.delete(echo),
            _ => {}
        }
    }

    fn take_line(&mut self) -> String {
        let line: String = self.line.iter().collect();
        let mut history = self.history.borrow_mut();
        if !line.trim().is_empty() && history.last() != Some(&line) {
            if history.len() >= HISTORY {
                history.remove(0);
            }
            history.push(line.clone());
        }
        drop(history);
        let state = self.state;
        self.clear();
        self.state = state;
        line
    }

    fn recall(&mut self, index: usize, echo: &mut String) {
        let text = match self.history.borrow() {
            history if index > history.len() => return,
            history => history.get(index).cloned().unwrap_or_default(),
        };
        self.replace(&text, echo);
        self.recalled = index;
    }

    fn replace(&mut self, text: &str, echo: &mut String) {
        self.move_to(0, echo);
        self.line.clear();
        *echo += "\x1b[K";
        self.insert(text, echo);
    }

    fn move_to(&mut self, position: usize, echo: &mut String) {
        let position = position.min(self.line.len());
        if position < self.cursor {
            back(self.cursor - position, echo);
        } else {
            echo.extend(&self.line[self.cursor..position]);
        }
        self.cursor = position;
    }

    fn backspace(&mut self, echo: &mut String) {
        if self.cursor > 0 {
            self.move_to(self.cursor - 1, echo);
            self.delete(echo);
        }
    }

    fn delete(&mut self, echo: &mut String) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
            self.show_tail(1, echo);
        }
    }

    fn delete_word(&mut self, echo: &mut String) {
        while self.cursor > 0 && self.line[self.cursor - 1] == ' ' {
            self.backspace(echo);
        }
        while self.cursor > 0 && self.line[self.cursor - 1] != ' ' {
            self.backspace(echo);
        }
    }

    /// Shows what is right of the cursor, and `blanks` over what was there.
    fn show_tail(&self, blanks: usize, echo: &mut String) {
        let tail = &self.line[self.cursor..];
        echo.extend(tail);
        echo.extend(std::iter::repeat_n(' ', blanks));
        back(tail.len() + blanks, echo);
    }
}

fn back(count: usize, echo: &mut String) {
    echo.extend(std::iter::repeat_n('\x08', count));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that typing `bytes` gives.
    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut editor = Editor::new("> ", History::default());
        let mut echo = String::new();
        let typed = bytes.iter().map(|byte| editor.feed(*byte, &mut echo));
        typed
            .filter_map(|typed| {
                if let Typed::Line(line) = typed {
                    Some(line)
                } else {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn lines_end_as_terminals_and_scripts_end_them() {
        assert_eq!(lines(b"stop\rcont\r\nquit\n"), ["stop", "cont", "quit"]);
        assert_eq!(lines(b"\n\n"), ["", ""]);
    }

    #[test]
    fn keys_edit() {
        assert_eq!(lines(b"stpo\x7f\x7fop\r"), ["stop"]);
        assert_eq!(lines(b"top\x1b[H\x73\x1b[F!\r"), ["stop!"]);
        assert_eq!(lines(b"sxtop\x01\x1b[C\x1b[3~\r"), ["stop"]);
        assert_eq!(lines(b"info status\x17name\r"), ["info name"]);
        assert_eq!(lines(b"nonsense\x15stop\r"), ["stop"]);
        assert_eq!(lines(b"nonsense\x03stop\r"), ["stop"]);
    }

    #[test]
    fn the_arrows_go_through_history() {
        assert_eq!(
            lines(b"one\rtwo\r\x1b[A\x1b[A\r\x1b[A\x1b[A\x1b[B\r"),
            ["one", "two", "one", "one"]
        );
    }

    #[test]
    fn characters_of_several_bytes_are_one() {
        assert_eq!(lines("ä€\u{7f}x\r".as_bytes()), ["äx"]);
        assert_eq!(lines(b"a\xff\xfeb\r"), ["ab"]);
    }

    #[test]
    fn typing_at_the_end_echoes_just_that() {
        let mut editor = Editor::new("> ", History::default());
        let mut echo = String::new();
        for byte in b"stop" {
            editor.feed(*byte, &mut echo);
        }
        assert_eq!(echo, "stop");
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut bytes = vec![b'a'; 3 * MAX_LINE];
        bytes.push(b'\r');
        assert_eq!(lines(&bytes)[0].len(), MAX_LINE);
    }
}
