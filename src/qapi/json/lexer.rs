//! Tokens of JSON, found byte by byte.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of `{ } [ ] : ,`.
    Punct(u8),
    /// A string with its quotes.
    String,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// Small letters.
    Keyword,
    /// Bytes that make no token.
    Stray,
    /// A token longer than allowed; its bytes are gone.
    TooLong,
}

/// A token and its bytes; the byte of punctuation is in its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: Vec<u8>,
}

/// How far the token at hand has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between tokens.
    #[default]
    Start,
    /// After bytes that make no token, until something that may start one.
    Recovery,
    /// After more than is allowed, until the end of the line.
    NextLine,
    /// In a string with this quote.
    String(u8),
    /// After a backslash in a string with this quote.
    Escape(u8),
    /// After a minus sign.
    Minus,
    /// After a zero that starts a number.
    Zero,
    /// In the digits of a number.
    Digits,
    /// After a decimal point.
    Point,
    /// In the digits after it.
    Fraction,
    /// After the letter that starts an exponent.
    ExponentMark,
    /// After the sign of an exponent.
    ExponentSign,
    /// In the digits of an exponent.
    Exponent,
    /// In small letters.
    Keyword,
}

/// What a byte does to the token at hand.
enum Step {
    /// It belongs to the token, which goes on.
    Into(State),
    /// It belongs to the token and ends it.
    Ends(Kind),
    /// It does not belong to the token, which ended before it.
    EndedBefore(Kind),
    /// It means nothing.
    Skip(State),
    /// It starts something new.
    Again,
}

/// Finds tokens.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    state: State,
    text: Vec<u8>,
}

impl Lexer {
    /// Takes one byte; the tokens that end with it, at most two of them. No token is longer than `limit` bytes.
    pub(super) fn push(&mut self, byte: u8, limit: usize) -> [Option<Token>; 2] {
        let mut tokens = [None, None];
        for token in &mut tokens {
            match self.step(byte) {
                Step::Into(state) => {
                    self.text.push(byte);
                    self.state = state;
                    if self.text.len() > limit {
                        *token = Some(self.take(Kind::TooLong));
                    }
                    return tokens;
                }
                Step::Ends(kind) => {
                    if !matches!(kind, Kind::Punct(_)) {
                        self.text.push(byte);
                    }
                    *token = Some(self.take(kind));
                    return tokens;
                }
                Step::Skip(state) => {
                    self.state = state;
                    return tokens;
                }
                Step::EndedBefore(kind) => *token = Some(self.take(kind)),
                Step::Again => self.state = State::Start,
            }
        }
        tokens
    }

    /// There are no more bytes: the token that was at hand, if any.
    pub(super) fn finish(&mut self) -> Option<Token> {
        let kind = match self.state {
            State::Start | State::Recovery | State::NextLine => return None,
            State::Zero | State::Digits => Kind::Integer,
            State::Fraction | State::Exponent => Kind::Float,
            State::Keyword => Kind::Keyword,
            _ => Kind::Stray,
        };
        Some(self.take(kind))
    }

    /// Drops what was begun and skips the rest of the line.
    pub(super) fn skip_line(&mut self) {
        self.text.clear();
        self.state = State::NextLine;
    }

    fn take(&mut self, kind: Kind) -> Token {
        self.state = match kind {
            Kind::Stray => State::Recovery,
            Kind::TooLong => State::NextLine,
            _ => State::Start,
        };
        let text = std::mem::take(&mut self.text);
        Token { kind, text }
    }

    fn step(&self, byte: u8) -> Step {
        match self.state {
            State::Start => start(byte),
            State::Recovery => match byte {
                b'{' | b'}' | b'[' | b']' | b':' | b',' | 0xFE | 0xFF => Step::Again,
                b'\t' | 0x20.. => Step::Skip(State::Recovery),
                _ => Step::Again,
            },
            State::NextLine => match byte {
                b'\n' | 0xFF => Step::Skip(State::Start),
                _ => Step::Skip(State::NextLine),
            },
            State::String(quote) => match byte {
                b'\\' => Step::Into(State::Escape(quote)),
                _ if byte == quote => Step::Ends(Kind::String),
                0x20..=0xFD => Step::Into(State::String(quote)),
                _ => Step::Ends(Kind::Stray),
            },
            State::Escape(quote) => match byte {
                0x20..=0xFD => Step::Into(State::String(quote)),
                _ => Step::Ends(Kind::Stray),
            },
            State::Keyword => match byte {
                b'a'..=b'z' => Step::Into(State::Keyword),
                _ => Step::EndedBefore(Kind::Keyword),
            },
            number => number_step(number, byte),
        }
    }
}

fn start(byte: u8) -> Step {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Step::Skip(State::Start),
        b'{' | b'}' | b'[' | b']' | b':' | b',' => Step::Ends(Kind::Punct(byte)),
        b'"' | b'\'' => Step::Into(State::String(byte)),
        b'-' => Step::Into(State::Minus),
        b'0' => Step::Into(State::Zero),
        b'1'..=b'9' => Step::Into(State::Digits),
        b'a'..=b'z' => Step::Into(State::Keyword),
        _ => Step::Ends(Kind::Stray),
    }
}

fn number_step(state: State, byte: u8) -> Step {
    match (state, byte) {
        (State::Minus, b'0') => Step::Into(State::Zero),
        (State::Minus, b'1'..=b'9') | (State::Digits, b'0'..=b'9') => Step::Into(State::Digits),
        (State::Zero | State::Digits, b'.') => Step::Into(State::Point),
        (State::Point | State::Fraction, b'0'..=b'9') => Step::Into(State::Fraction),
        (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => Step::Into(State::ExponentMark),
        (State::ExponentMark, b'+' | b'-') => Step::Into(State::ExponentSign),
        (State::ExponentMark | State::ExponentSign | State::Exponent, b'0'..=b'9') => Step::Into(State::Exponent),
        (State::Zero, b'0'..=b'9') => Step::Ends(Kind::Stray),
        (State::Zero | State::Digits, _) => Step::EndedBefore(Kind::Integer),
        (State::Fraction | State::Exponent, _) => Step::EndedBefore(Kind::Float),
        _ => Step::Ends(Kind::Stray),
    }
}
