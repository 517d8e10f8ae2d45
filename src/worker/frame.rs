//! Frames on the socket pair between a monitor and its worker.
//!
//! A frame is a header of 16 bytes and a body. Header, little-endian: body length (u32), kind (u16), number of
//! descriptors that came with the header's first byte (u16), id (u64). What a kind's body holds is said at
//! [`super::message`].

/// Bytes of a header.
pub const HEADER: usize = 16;
/// The longest body that is accepted: a QMP message may not be longer either.
pub const MAX_BODY: usize = 64 << 20;
/// The most descriptors one frame carries.
pub const MAX_FDS: usize = 8;

/// A frame without its descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: u16,
    /// How many descriptors belong to the frame.
    pub fds: u16,
    /// Pairs a reply with its request; zero where there is none.
    pub id: u64,
    /// The content.
    pub body: Vec<u8>,
}

/// Bytes that cannot be a frame. The connection is of no use afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header announces more than [`MAX_BODY`] bytes.
    #[error("a frame of {0} bytes is longer than any message")]
    TooLong(usize),
    /// The header announces more than [`MAX_FDS`] descriptors.
    #[error("a frame with {0} descriptors")]
    TooManyFds(u16),
}

impl Frame {
    /// Appends the wire form to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER + self.body.len());
        // A body longer than the limit is cut off by the receiver's check, so the cast cannot mislead it.
        out.extend_from_slice(&u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.fds.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The header cannot be true.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, id @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let fds = u16::from_le_bytes([f0, f1]);
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        if usize::from(fds) > MAX_FDS {
            return Err(FrameError::TooManyFds(fds));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame {
            kind: u16::from_le_bytes([k0, k1]),
            fds,
            id: u64::from_le_bytes(id),
            body: body.to_vec(),
        };
        self.buffer.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_split(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
                                    step in 1usize..50) {
            let frames: Vec<Frame> = bodies.into_iter().enumerate()
                .map(|(at, body)| Frame { kind: at as u16, fds: at as u16 % 3, id: at as u64, body }).collect();
            let mut wire = Vec::new();
            frames.iter().for_each(|frame| frame.write(&mut wire));
            let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
            for chunk in wire.chunks(step) {
                reader.feed(chunk);
                while let Some(frame) = reader.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }
    }

    #[test]
    fn impossible_headers_are_errors() {
        let mut reader = FrameReader::default();
        reader.feed(&[0xff; HEADER]);
        assert_eq!(reader.next_frame(), Err(FrameError::TooLong(u32::MAX as usize)));
        let mut reader = FrameReader::default();
        reader.feed(&[0, 0, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reader.next_frame(), Err(FrameError::TooManyFds(9)));
    }
}
