//! Queues in saved state. Some of what is said of them is an array of as many entries as any device may have queues.

use crate::devices::virtio::queue::RingPosition;
use crate::vmstate::{Fields, StateError};

use super::NO_VECTOR;

/// Entries of those arrays.
pub(in crate::devices::virtio) const MAX_QUEUES: usize = 1024;

/// Guest addresses of a ring's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// Descriptors.
    pub descriptors: u64,
    /// What the driver writes.
    pub driver: u64,
    /// What the device writes.
    pub device: u64,
}

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Descriptors that its ring has room for.
    pub size: u32,
    /// The same unless the driver says otherwise.
    pub max: u16,
    /// Where its ring lies, if it is in use: its descriptors are not at 0 then.
    pub ring: Areas,
    /// How far it has come. What was given back is in guest memory, except for packed rings.
    pub position: RingPosition,
    /// Buffers of a packed ring that were taken and not given back.
    pub in_flight: u32,
    /// Its vector.
    pub vector: u16,
    /// What the driver has written to the registers of the modern interface: size, use, and places.
    pub written: (u16, bool, Areas),
}

impl QueueState {
    /// A queue of this size that no driver has set up.
    #[must_use]
    pub fn unused(max: u16) -> Self {
        Self {
            size: max.into(),
            max,
            ring: Areas::default(),
            position: RingPosition::START,
            in_flight: 0,
            vector: NO_VECTOR,
            written: (0, false, Areas::default()),
        }
    }

    /// Whether it has a ring.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.ring.descriptors != 0
    }

    pub(super) fn fields(&mut self, fields: &mut Fields<'_, '_>, has_vectors: bool) -> Result<(), StateError> {
        fields.int("num", &mut self.size)?;
        fields.int("desc", &mut self.ring.descriptors)?;
        fields.int("last_avail_idx", &mut self.position.available)?;
        match has_vectors {
            true => fields.int("vector", &mut self.vector),
            false => Ok(()),
        }
    }

    /// Whether a device can have such a queue.
    pub(super) fn check(&self) -> Result<(), StateError> {
        if self.size == 0 || self.size > self.max.into() {
            return Err(StateError::out_of_range("num", self.size));
        }
        match !self.is_used() && self.position.available != 0 {
            true => Err(StateError::out_of_range("last_avail_idx", self.position.available)),
            false => Ok(()),
        }
    }
}

/// Calls `visit` with each queue, and with unused ones for the rest of an array.
fn each(
    queues: &mut [QueueState],
    mut visit: impl FnMut(&mut QueueState) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let missing = MAX_QUEUES.saturating_sub(queues.len());
    queues.iter_mut().try_for_each(&mut visit)?;
    (0..missing).try_for_each(|_| visit(&mut QueueState::unused(0)))
}

/// Where the parts of rings lie that are written beside the descriptors.
pub(super) struct RingAddresses<'a>(pub(super) &'a mut [QueueState]);

impl RingAddresses<'_> {
    pub(super) fn fields(self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        each(self.0, |queue| {
            fields.int("avail", &mut queue.ring.driver)?;
            fields.int("used", &mut queue.ring.device)
        })
    }
}

/// The sizes that queues have unless a driver says otherwise. Newer releases take no notice of them.
pub(super) fn sizes(fields: &mut Fields<'_, '_>, queues: &[QueueState]) -> Result<(), StateError> {
    let maxima = queues.iter().map(|queue| u32::from(queue.max));
    for max in maxima.chain(std::iter::repeat(0)).take(MAX_QUEUES) {
        fields.int("num_default", &mut { max })?;
    }
    Ok(())
}

/// How far packed rings have come.
pub(super) struct PackedQueues<'a>(pub(super) &'a mut [QueueState]);

impl PackedQueues<'_> {
    pub(super) fn fields(self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        each(self.0, |queue| {
            let position = &mut queue.position;
            fields.int("last_avail_idx", &mut position.available)?;
            fields.flag::<u8>("last_avail_wrap_counter", &mut position.available_wrap)?;
            fields.int("used_idx", &mut position.used)?;
            fields.flag::<u8>("used_wrap_counter", &mut position.used_wrap)?;
            fields.int("inuse", &mut queue.in_flight)
        })
    }
}

/// What drivers have written to the registers of the modern interface.
pub(super) struct ModernQueues<'a>(pub(super) &'a mut [QueueState]);

impl ModernQueues<'_> {
    pub(super) fn fields(self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        each(self.0, |queue| {
            let (size, enabled, areas) = &mut queue.written;
            fields.int("num", size)?;
            fields.unused("unused", 1)?;
            fields.flag::<u8>("enabled", enabled)?;
            for area in [&mut areas.descriptors, &mut areas.driver, &mut areas.device] {
                let mut halves = [*area & 0xffff_ffff, *area >> 32].map(|half| half as u32);
                for half in &mut halves {
                    fields.int("address", half)?;
                }
                let [low, high] = halves.map(u64::from);
                *area = high << 32 | low;
            }
            Ok(())
        })
    }
}
