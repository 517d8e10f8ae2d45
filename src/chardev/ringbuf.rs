//! A buffer that keeps the newest bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::OpenError;
use super::port::BackPort;

/// The size in bytes if none is given.
pub(super) const DEFAULT_SIZE: u64 = 64 * 1024;

/// The buffer. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Ringbuf {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    size: usize,
}

impl Ringbuf {
    /// A buffer of `size` bytes, which must be a power of two.
    pub(super) fn new(size: u64) -> Result<Self, OpenError> {
        if !size.is_power_of_two() {
            return Err(OpenError::OddRingbuf);
        }
        // The memory is taken as bytes come, so that a large size costs nothing by itself.
        let size = usize::try_from(size).map_err(|_| OpenError::LargeRingbuf)?;
        Ok(Self {
            bytes: Arc::default(),
            size,
        })
    }

    /// Adds bytes; the oldest make room.
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut buffer = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = &bytes[bytes.len().saturating_sub(self.size)..];
        let overflow = (buffer.len() + newest.len()).saturating_sub(self.size);
        buffer.drain(..overflow);
        buffer.extend(newest);
    }

    /// Takes up to `count` of the oldest bytes.
    pub(super) fn read(&self, count: usize) -> Vec<u8> {
        let mut buffer = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(buffer.len());
        buffer.drain(..count).collect()
    }

    /// Keeps what the front end sends.
    pub(super) async fn run(self, port: &mut BackPort) {
        port.input.opened("ringbuf");
        loop {
            let bytes = port.output.recv().await;
            self.write(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_bytes_make_room() {
        let ring = Ringbuf::new(16).unwrap();
        ring.write(b"0123456789abcdefXYZ");
        assert_eq!(ring.read(5), b"34567");
        ring.write(b"!!");
        assert_eq!(ring.read(500), b"89abcdefXYZ!!");
        assert!(ring.read(1).is_empty());
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(
            Ringbuf::new(3).unwrap_err().to_string(),
            "size of ringbuf chardev must be power of two"
        );
        assert_eq!(
            Ringbuf::new(0).unwrap_err().to_string(),
            "size of ringbuf chardev must be power of two"
        );
    }
}
