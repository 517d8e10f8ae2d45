//! Doorbells: addresses that a guest writes to only so that somebody wakes up.

use std::{io, sync::Arc};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A write here is an event. Accelerators that can, signal it without leaving the guest (`ioeventfd`); without one the
/// address space does.
///
/// A doorbell hides nothing: what lies beneath still answers reads, and writes that do not ring.
#[derive(Clone, Debug)]
pub struct Doorbell {
    event: Arc<EventFd>,
    datamatch: Option<(u64, u8)>,
}

impl Doorbell {
    /// Rung by every write, whatever its size.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            event: Arc::new(EventFd::new(EFD_NONBLOCK)?),
            datamatch: None,
        })
    }

    /// Rung by writes of just this value in `size` (1, 2, 4 or 8) bytes, little endian. Several at one address are told
    /// apart by their values.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn matching(value: u64, size: u8) -> io::Result<Self> {
        Ok(Self {
            datamatch: Some((value, size)),
            ..Self::new()?
        })
    }

    /// Another doorbell for the same event, which is rung by writes of just this value in `size` bytes.
    #[must_use]
    pub fn answering_to(&self, value: u64, size: u8) -> Self {
        Self {
            event: Arc::clone(&self.event),
            datamatch: Some((value, size)),
        }
    }

    /// What becomes readable when it rings.
    #[must_use]
    pub fn event(&self) -> &Arc<EventFd> {
        &self.event
    }

    /// The value and size of the writes that ring; none when all do.
    #[must_use]
    pub fn datamatch(&self) -> Option<(u64, u8)> {
        self.datamatch
    }

    /// Bytes of guest memory it takes: those of the smallest write.
    pub(super) fn size(&self) -> u64 {
        self.datamatch.map_or(1, |(_, size)| size.into())
    }

    /// Whether this write rings.
    pub(super) fn is_rung_by(&self, data: &[u8]) -> bool {
        let Some((value, size)) = self.datamatch else {
            return true;
        };
        data.len() == usize::from(size) && value.to_le_bytes().starts_with(data)
    }

    pub(super) fn ring(&self) {
        // Fails only when the count is at its end, and then the event is there already.
        if let Err(error) = self.event.write(1) {
            tracing::debug!(%error, "doorbell");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_rings_in_its_size_only() {
        let bell = Doorbell::matching(0x102, 2).unwrap();
        assert!(bell.is_rung_by(&[2, 1]));
        assert!(!bell.is_rung_by(&[2, 1, 0, 0]) && !bell.is_rung_by(&[1, 1]) && !bell.is_rung_by(&[2]));
        bell.ring();
        bell.ring();
        assert_eq!(bell.event().read().unwrap(), 2);
        assert!(Doorbell::new().unwrap().is_rung_by(&[7]));
    }
}
