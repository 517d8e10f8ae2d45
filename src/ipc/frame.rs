//! Frames: a header of 8 bytes and a body, which is one message.
//!
//! Header, little-endian: bytes of the body (u32), number of the message's descriptors (u32). The descriptors travel
//! with bytes of their frame or of one before it, never later; each end keeps them in order.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::field::{Field, Malformed, Sink, Source};

/// Bytes of a header.
const HEADER: usize = 8;
/// The longest body that is accepted: a QMP message may not be longer either.
pub const MAX_BODY: usize = 64 << 20;
/// The most descriptors of one message, which is what one call to the kernel carries (`SCM_MAX_FD` of its
/// `include/net/scm.h`).
pub const MAX_FDS: usize = 253;

/// Why bytes are no frame, or a message cannot be one. The link is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_BODY`] bytes.
    #[error("a message of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// More than [`MAX_FDS`] descriptors.
    #[error("a message with {0} descriptors")]
    TooManyFds(usize),
    /// A frame announced more descriptors than came.
    #[error("a message lacks its descriptors")]
    MissingFds,
    /// The body is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The system said so.
    #[error("{}", crate::report::reason(.0))]
    Io(#[from] std::io::Error),
}

/// Turns messages into frames, or frames into messages, beside the descriptors that are under way in that direction.
#[derive(Debug)]
pub struct Codec<T> {
    /// Descriptors to be sent, or received ones whose frame has not been read.
    pub fds: VecDeque<OwnedFd>,
    message: PhantomData<T>,
}

impl<T> Default for Codec<T> {
    fn default() -> Self {
        Self {
            fds: VecDeque::new(),
            message: PhantomData,
        }
    }
}

impl<T: Field> Encoder<T> for Codec<T> {
    type Error = FrameError;

    fn encode(&mut self, message: T, out: &mut BytesMut) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let mut fds = Vec::new();
        message.put(&mut Sink {
            bytes: out,
            fds: &mut fds,
        });
        let length = out.len() - start - HEADER;
        if length > MAX_BODY || fds.len() > MAX_FDS {
            out.truncate(start);
            return Err(match length > MAX_BODY {
                true => FrameError::TooLong(length),
                false => FrameError::TooManyFds(fds.len()),
            });
        }
        // Both numbers were just found to be small.
        let numbers = [length, fds.len()].map(|number| (number as u32).to_le_bytes());
        out[start..start + HEADER].copy_from_slice(numbers.as_flattened());
        self.fds.extend(fds);
        Ok(())
    }
}

impl<T: Field> Decoder for Codec<T> {
    type Item = T;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<T>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, f0, f1, f2, f3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let count = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        if count > MAX_FDS {
            return Err(FrameError::TooManyFds(count));
        }
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        if self.fds.len() < count {
            return Err(FrameError::MissingFds);
        }
        buffer.advance(HEADER);
        let body = buffer.split_to(length);
        let mut source = Source::new(&body, self.fds.drain(..count).collect());
        let message = T::take(&mut source)?;
        source.finish()?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_split(texts in prop::collection::vec("\\PC{0,40}", 1..6), step in 1usize..50) {
            let mut wire = BytesMut::new();
            for text in &texts {
                Codec::default().encode(text.clone(), &mut wire).unwrap();
            }
            let mut codec = Codec::<String>::default();
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(text) = codec.decode(&mut buffer).unwrap() {
                    seen.push(text);
                }
            }
            prop_assert_eq!(seen, texts);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let _ = Codec::<super::super::message::ToWorker>::default().decode(&mut buffer);
            let mut buffer = BytesMut::from(&bytes[..]);
            let _ = Codec::<super::super::message::FromWorker>::default().decode(&mut buffer);
        }
    }

    #[test]
    fn a_header_that_cannot_be_true_is_an_error() {
        for header in [[0xff; 8], [1, 0, 0, 0, 0xff, 0xff, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]] {
            let mut buffer = BytesMut::from(&header[..]);
            assert!(Codec::<u8>::default().decode(&mut buffer).is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_leaves_what_was_there() {
        let mut out = BytesMut::from(&b"before"[..]);
        let result = Codec::default().encode("x".repeat(MAX_BODY + 1), &mut out);
        assert!(matches!(result, Err(FrameError::TooLong(_))));
        assert_eq!(out, b"before"[..]);
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        let mut wire = BytesMut::new();
        Codec::default().encode(7u64, &mut wire).unwrap();
        let result = Codec::<u32>::default().decode(&mut wire);
        assert!(matches!(
            result,
            Err(FrameError::Malformed(Malformed::Long { bytes: 4, fds: 0 }))
        ));
    }
}
