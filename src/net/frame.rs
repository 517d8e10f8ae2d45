//! The place that frames are received in.

use super::{HEADER_LEN, MAX_FRAME};

/// A frame with its header, in a place where the largest fits. It is used again and again, so that nothing is cleared for each.
pub struct Frame {
    bytes: Box<[u8]>,
    len: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            bytes: vec![0; MAX_FRAME].into_boxed_slice(),
            len: 0,
        }
    }
}

impl Frame {
    /// The frame, header included.
    #[must_use]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// What comes after the header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes[..self.len].get(HEADER_LEN..).unwrap_or_default()
    }

    /// Where the next frame goes, with a header of zeros.
    pub(super) fn begin(&mut self) -> &mut [u8] {
        self.len = 0;
        self.bytes[..HEADER_LEN].fill(0);
        &mut self.bytes
    }

    /// Says how long the frame became, header included.
    pub(super) fn end(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_frame_before_shows() {
        let mut frame = Frame::default();
        assert!(frame.payload().is_empty() && frame.bytes().is_empty());
        frame.begin().fill(7);
        frame.end(HEADER_LEN + 3);
        assert_eq!((frame.bytes().len(), frame.payload()), (HEADER_LEN + 3, &[7; 3][..]));
        frame.begin();
        frame.end(HEADER_LEN);
        assert_eq!(
            (frame.payload().len(), frame.bytes().to_vec()),
            (0, vec![0; HEADER_LEN])
        );
    }
}
