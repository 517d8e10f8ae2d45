//! One structure: a formatted part, then its texts.

/// A text of a structure; an empty one is left out and referred to as number 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(String);

impl From<String> for Text {
    /// NUL ends a text, so none may be inside.
    fn from(text: String) -> Self {
        Self(text.replace('\0', ""))
    }
}

/// A structure under construction.
#[derive(Clone, Debug)]
pub(super) struct Structure {
    formatted: Vec<u8>,
    texts: Vec<u8>,
    count: u8,
}

impl Structure {
    pub(super) fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self {
            formatted: vec![kind, 0, low, high],
            texts: Vec::new(),
            count: 0,
        }
    }

    /// The type.
    pub(super) fn kind(&self) -> u8 {
        self.formatted.first().copied().unwrap_or_default()
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.formatted.extend(bytes);
        self
    }

    pub(super) fn word(self, word: u16) -> Self {
        self.bytes(&word.to_le_bytes())
    }

    /// Adds texts and, to the formatted part, their numbers.
    pub(super) fn texts(mut self, texts: &[Text]) -> Self {
        for Text(text) in texts {
            let number = if text.is_empty() {
                0
            } else {
                self.count.saturating_add(1)
            };
            self.formatted.push(number);
            self = self.unnumbered(text);
        }
        self
    }

    /// Adds a text that nothing in the formatted part refers to.
    pub(super) fn unnumbered(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.count = self.count.saturating_add(1);
            self.texts.extend(text.bytes().filter(|byte| *byte != 0));
            self.texts.push(0);
        }
        self
    }

    /// The bytes of the finished structure.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.formatted[1] = u8::try_from(self.formatted.len()).unwrap_or(u8::MAX);
        if self.texts.is_empty() {
            self.texts.push(0);
        }
        self.texts.push(0);
        self.formatted.extend(self.texts);
        self.formatted
    }
}
