//! Addresses of network cards.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether frames to it go to a group.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address of everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMac;

impl FromStr for Mac {
    type Err = NotMac;

    /// Six bytes in hexadecimal, with colons or dashes between them.
    fn from_str(text: &str) -> Result<Self, NotMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(NotMac)?;
            let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = is_hex
                .then(|| u8::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(NotMac)?;
        }
        parts.next().map_or(Ok(Self(bytes)), |_| Err(NotMac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_texts() {
        let mac: Mac = "52:54:00:12:34:Fe".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0x12, 0x34, 0xfe]));
        assert_eq!(mac.to_string(), "52:54:00:12:34:fe");
        assert_eq!("52-54-00-12-34-fe".parse(), Ok(mac));
        for wrong in [
            "",
            "zz",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:+5",
            "5254:00:12:34:56",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NotMac), "{wrong}");
        }
    }
}
