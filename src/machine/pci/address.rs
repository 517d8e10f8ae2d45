//! Device and function numbers.

use std::fmt;

/// A slot (0 to 31) and a function (0 to 7) in one byte, as in configuration addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Devfn(u8);

impl Devfn {
    /// The function `function` of slot `slot`; only their lower five and three bits count.
    #[must_use]
    pub const fn new(slot: u8, function: u8) -> Self {
        Self((slot & 0x1f) << 3 | function & 7)
    }

    /// From the byte in a configuration address.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte in a configuration address.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The slot.
    #[must_use]
    pub const fn slot(self) -> u8 {
        self.0 >> 3
    }

    /// The function in the slot.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 & 7
    }

    /// Reads the property `addr`: hexadecimal `slot` or `slot.function`, with or without `0x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
        let (slot, function) = (hex(slot)?, hex(function)?);
        (slot < 32 && function < 8).then(|| Self::new(slot, function))
    }
}

impl fmt::Display for Devfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.slot(), self.function())
    }
}

fn hex(text: &str) -> Option<u8> {
    let text = text.trim();
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    // No sign: the standard library would take one.
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hexadecimal() {
        assert_eq!(Devfn::parse("1f.3"), Some(Devfn::new(31, 3)));
        assert_eq!(Devfn::parse("0x2.0x7"), Some(Devfn::new(2, 7)));
        assert_eq!(Devfn::parse("1c"), Some(Devfn::new(28, 0)));
        assert_eq!(Devfn::new(31, 3).to_string(), "1f.3");
        for wrong in ["", "20", "1.8", "x", "1.2.3", "-1"] {
            assert_eq!(Devfn::parse(wrong), None, "{wrong}");
        }
    }
}
