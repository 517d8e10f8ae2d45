//! The rings by which a driver hands buffers to a device (virtio 1.2, 2.6 to 2.8).
//!
//! Everything in a ring is written by the guest and believed by nobody: a [`Ring`] reads guest memory only within RAM,
//! follows at most as many descriptors as a chain may have, and says what is wrong as a [`RingError`]. A device whose ring
//! is wrong needs a reset; that is its driver's harm alone.

mod chain;
mod error;
mod memory;
mod packed;
mod split;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use chain::{Element, Part};
pub use error::RingError;

use crate::mem::GuestRam;
use chain::Limits;
use packed::PackedRing;
use split::SplitRing;

/// Largest ring, and most parts of a buffer.
pub const MAX_SIZE: u16 = 1024;

/// Where a ring lies, as its driver has set it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingLayout {
    /// Descriptors there are room for.
    pub size: u16,
    /// Guest address of the descriptors.
    pub descriptors: u64,
    /// Guest address of what the driver writes: the available ring, or its wishes for events.
    pub driver: u64,
    /// Guest address of what the device writes: the used ring, or its wishes for events.
    pub device: u64,
}

impl RingLayout {
    /// The ring of a driver that knows the legacy interface alone, which says where the descriptors are (virtio 1.2, 2.7.2).
    #[must_use]
    pub fn legacy(size: u16, descriptors: u64) -> Self {
        const ALIGNMENT: u64 = 4096;
        // Sixteen bytes for each descriptor, then flags, index, entries and event index of the available ring.
        let driver = descriptors.saturating_add(u64::from(size) * 16);
        let end = driver.saturating_add(6 + u64::from(size) * 2);
        Self {
            size,
            descriptors,
            driver,
            device: end.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX),
        }
    }
}

/// How driver and device have agreed to use a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingRules {
    /// One ring of descriptors for both directions instead of three parts.
    pub packed: bool,
    /// Each side says at which index it wants to hear of the other.
    pub event_index: bool,
    /// Interrupt whenever the driver has nothing more to offer (a legacy driver's wish).
    pub notify_on_empty: bool,
}

/// How far a ring has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPosition {
    /// What the device takes next.
    pub available: u16,
    /// The wrap counter there; always true of a split ring.
    pub available_wrap: bool,
    /// What the device gives back next.
    pub used: u16,
    /// The wrap counter there; always true of a split ring.
    pub used_wrap: bool,
}

impl RingPosition {
    /// Where a ring begins.
    pub const START: Self = Self {
        available: 0,
        available_wrap: true,
        used: 0,
        used_wrap: true,
    };

    /// The same before anything was taken that has not been given back: of a device that gives buffers back in order.
    #[must_use]
    pub fn rewound(self) -> Self {
        Self {
            available: self.used,
            available_wrap: self.used_wrap,
            ..self
        }
    }
}

/// A ring, from the device's side.
#[derive(Clone, Debug)]
pub struct Ring(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Ring {
    /// A ring in which nothing has happened yet.
    #[must_use]
    pub fn new(layout: RingLayout, rules: RingRules) -> Self {
        Self(match rules.packed {
            false => Kind::Split(SplitRing::new(layout, rules)),
            true => Kind::Packed(PackedRing::new(layout, rules)),
        })
    }

    /// A ring that has come to `position`, with so many buffers (of a packed ring: descriptors) taken and not given back. Of a
    /// split ring, guest memory tells both what was given back and how many are out.
    ///
    /// # Errors
    /// The ring does not lie in RAM, or there is no such position.
    pub fn resumed(
        ram: &GuestRam,
        (layout, rules): (RingLayout, RingRules),
        position: RingPosition,
        in_flight: u32,
    ) -> Result<Self, RingError> {
        Ok(Self(match rules.packed {
            false => Kind::Split(SplitRing::resumed(ram, (layout, rules), position.available)?),
            true => Kind::Packed(PackedRing::resumed((layout, rules), position, in_flight)?),
        }))
    }

    /// The same before anything was taken that has not been given back: of a device that gives buffers back in order.
    #[must_use]
    pub fn rewound(self) -> Self {
        Self(match self.0 {
            Kind::Split(ring) => Kind::Split(ring.rewound()),
            Kind::Packed(ring) => Kind::Packed(ring.rewound()),
        })
    }

    /// Takes the next buffer that the driver offers, if there is one.
    ///
    /// # Errors
    /// The driver broke the rules, or points to something that is no RAM.
    pub fn pop(&mut self, ram: &GuestRam) -> Result<Option<Element>, RingError> {
        match &mut self.0 {
            Kind::Split(ring) => ring.pop(ram),
            Kind::Packed(ring) => ring.pop(ram),
        }
    }

    /// The next buffer that the driver offers, without taking it.
    ///
    /// # Errors
    /// As those of [`Self::pop`].
    pub fn peek(&self, ram: &GuestRam) -> Result<Option<Element>, RingError> {
        // What a ring knows of itself is in the value; the driver is at most asked to ring for what it offers next.
        self.clone().pop(ram)
    }

    /// Gives a buffer back of which `written` bytes were written.
    ///
    /// # Errors
    /// The ring does not lie in RAM.
    pub fn push(&mut self, ram: &GuestRam, element: &Element, written: u32) -> Result<(), RingError> {
        self.push_all(ram, &[(element, written)])
    }

    /// Gives buffers back with as many bytes written as stand beside each. The driver sees all of them or none.
    ///
    /// # Errors
    /// The ring does not lie in RAM.
    pub fn push_all(&mut self, ram: &GuestRam, elements: &[(&Element, u32)]) -> Result<(), RingError> {
        match &mut self.0 {
            Kind::Split(ring) => ring.push_all(ram, elements),
            Kind::Packed(ring) => ring.push_all(ram, elements),
        }
    }

    /// Takes back that buffers were taken: those since it was here, with so many under way. Nothing may have been given back
    /// since.
    pub fn rewind(&mut self, to: RingPosition, in_flight: u16) {
        match &mut self.0 {
            Kind::Split(ring) => ring.rewind(to, in_flight),
            Kind::Packed(ring) => ring.rewind(to, in_flight),
        }
    }

    /// Whether the driver wants an interrupt for what was given back since this was asked last.
    ///
    /// # Errors
    /// The ring does not lie in RAM.
    pub fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        match &mut self.0 {
            Kind::Split(ring) => ring.wants_interrupt(ram),
            Kind::Packed(ring) => ring.wants_interrupt(ram),
        }
    }

    /// Asks the driver to ring for what it offers, or not to. After asking for it, look whether something came meanwhile.
    ///
    /// # Errors
    /// The ring does not lie in RAM.
    pub fn set_notification(&mut self, ram: &GuestRam, on: bool) -> Result<(), RingError> {
        match &mut self.0 {
            Kind::Split(ring) => ring.set_notification(ram, on),
            Kind::Packed(ring) => ring.set_notification(ram, on),
        }
    }

    /// Whether the driver offers nothing more.
    ///
    /// # Errors
    /// The ring does not lie in RAM.
    pub fn is_empty(&self, ram: &GuestRam) -> Result<bool, RingError> {
        match &self.0 {
            Kind::Split(ring) => ring.is_empty(ram),
            Kind::Packed(ring) => Ok(!ring.is_available(ram)?),
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn position(&self) -> RingPosition {
        match &self.0 {
            Kind::Split(ring) => ring.position(),
            Kind::Packed(ring) => ring.position(),
        }
    }

    /// Buffers that were taken and not given back.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        match &self.0 {
            Kind::Split(ring) => ring.in_flight(),
            Kind::Packed(ring) => ring.in_flight(),
        }
    }
}

/// Whether an index that was asked for lies within what was added: `(old, new]`, shifted by one (virtio 1.2, 2.7.10).
fn is_due(asked: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(asked).wrapping_sub(1) < new.wrapping_sub(old)
}
