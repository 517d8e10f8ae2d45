//! What driver and device say to each other of ports (virtio 1.2, 5.3.6.2).

/// Bytes of a message without a name.
pub(super) const LEN: usize = 8;

/// What the driver says: it is there.
pub(super) const DEVICE_READY: u16 = 0;
/// What the device says: there is a port.
const PORT_ADD: u16 = 1;
/// What the device says: there is no such port any more.
const PORT_REMOVE: u16 = 2;
/// What the driver says: it knows of the port.
pub(super) const PORT_READY: u16 = 3;
/// What the device says: the port is a console.
const CONSOLE_PORT: u16 = 4;
/// Either side has its end of the port open, or no longer.
pub(super) const PORT_OPEN: u16 = 6;
/// What the device says: how the port is called.
const PORT_NAME: u16 = 7;

/// A message of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The port that it is about.
    pub(super) port: u32,
    /// What it is, such as [`PORT_OPEN`].
    pub(super) event: u16,
    /// What else there is to it: mostly whether something is so.
    pub(super) value: u16,
}

impl Told {
    /// The message in `bytes`.
    pub(super) fn new(bytes: [u8; LEN]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            port: u32::from_le_bytes([a, b, c, d]),
            event: u16::from_le_bytes([e, f]),
            value: u16::from_le_bytes([g, h]),
        }
    }
}

/// What the device has to say of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is there.
    Added,
    /// It is gone.
    Removed,
    /// It is a console.
    Console,
    /// It is called so.
    Name(String),
    /// The host has its end open, or no longer.
    Open(bool),
}

impl News {
    /// The message about `port`.
    pub(super) fn bytes(&self, port: u32) -> Vec<u8> {
        let (event, value) = match self {
            Self::Added => (PORT_ADD, 1),
            Self::Removed => (PORT_REMOVE, 1),
            Self::Console => (CONSOLE_PORT, 1),
            Self::Name(_) => (PORT_NAME, 1),
            Self::Open(open) => (PORT_OPEN, u16::from(*open)),
        };
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend(event.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        if let Self::Name(name) = self {
            bytes.extend(name.as_bytes());
            // Drivers take the name for a text of C.
            bytes.push(0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lie_as_the_specification_says() {
        let name = News::Name("org.x".into()).bytes(3);
        assert_eq!(name, b"\x03\0\0\0\x07\0\x01\0org.x\0");
        assert_eq!(News::Open(true).bytes(0x102), [2, 1, 0, 0, 6, 0, 1, 0]);
        assert_eq!(News::Removed.bytes(1), [1, 0, 0, 0, 2, 0, 1, 0]);
        let told = Told::new([5, 0, 0, 0, 6, 0, 1, 0]);
        let expected = Told {
            port: 5,
            event: PORT_OPEN,
            value: 1,
        };
        assert_eq!(told, expected);
    }
}
