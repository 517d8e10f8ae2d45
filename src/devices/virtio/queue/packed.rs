//! Packed rings (virtio 1.2, 2.8).

use std::sync::atomic::{Ordering, fence};

use super::{
    Element, Limits, RingError, RingLayout, RingPosition, RingRules,
    chain::{INDIRECT, NEXT, WRITE},
    is_due,
    memory::{DESCRIPTOR, at, load, store, write},
};
use crate::mem::GuestRam;

/// Descriptor flag: the driver's wrap counter when it made the descriptor available.
const AVAILABLE: u16 = 1 << 7;
/// Descriptor flag: differs from the other while available, equals it once used.
const USED: u16 = 1 << 15;
/// Offset of length, id and flags in a descriptor.
const LENGTH: u64 = 8;
const ID: u64 = 12;
const FLAGS: u64 = 14;
/// Offset of the flags in an area of wishes for events; index and wrap counter come before it.
const EVENT_FLAGS: u64 = 2;
/// Wishes for events: always, never, at an index.
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const AT_INDEX: u16 = 2;
/// The wrap counter in an index of a wish.
const WRAP: u16 = 1 << 15;

#[derive(Clone, Debug)]
pub(super) struct PackedRing {
    layout: RingLayout,
    rules: RingRules,
    available: Place,
    used: Place,
    in_flight: u16,
    signalled: Option<u16>,
    notification: bool,
}

/// A place in the ring, and how often the ring has been gone around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    /// The place `count` descriptors on, which are at most the ring's size; whether the ring's end lies between.
    fn after(self, count: u16, size: u16) -> (Self, bool) {
        let left = size - self.index;
        if count < left {
            let index = self.index + count;
            return (Self { index, ..self }, false);
        }
        let wrapped = Self {
            index: count - left,
            wrap: !self.wrap,
        };
        (wrapped, true)
    }
}

impl PackedRing {
    pub(super) fn new(layout: RingLayout, rules: RingRules) -> Self {
        let start = Place { index: 0, wrap: true };
        Self {
            layout,
            rules,
            available: start,
            used: start,
            in_flight: 0,
            signalled: None,
            notification: true,
        }
    }

    pub(super) fn resumed(
        (layout, rules): (RingLayout, RingRules),
        position: RingPosition,
        in_flight: u32,
    ) -> Result<Self, RingError> {
        let in_flight = u16::try_from(in_flight).unwrap_or(u16::MAX);
        if in_flight.max(position.available).max(position.used) > layout.size {
            return Err(RingError::Exceeded);
        }
        let place = |index: u16, wrap: bool| Place { index, wrap }.after(0, layout.size).0;
        Ok(Self {
            available: place(position.available, position.available_wrap),
            used: place(position.used, position.used_wrap),
            in_flight,
            ..Self::new(layout, rules)
        })
    }

    pub(super) fn rewound(self) -> Self {
        Self {
            available: self.used,
            in_flight: 0,
            ..self
        }
    }

    pub(super) fn pop(&mut self, ram: &GuestRam) -> Result<Option<Element>, RingError> {
        if !self.is_available(ram)? {
            return Ok(None);
        }
        if self.in_flight >= self.layout.size {
            return Err(RingError::Exceeded);
        }
        let element = self.chain(ram)?;
        self.available = self.available.after(element.descriptors, self.layout.size).0;
        self.in_flight += element.descriptors;
        if self.rules.event_index && self.notification {
            self.ask_at_index(ram)?;
        }
        Ok(Some(element))
    }

    pub(super) fn is_available(&self, ram: &GuestRam) -> Result<bool, RingError> {
        let flags = at(self.descriptor(self.available)?, FLAGS)?;
        let flags = load(ram, flags, Ordering::Acquire)?;
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        Ok(available == self.available.wrap && used != self.available.wrap)
    }

    /// The buffer that starts at the next place.
    fn chain(&self, ram: &GuestRam) -> Result<Element, RingError> {
        let mut limits = Limits::new(self.layout.descriptors, self.layout.size.into());
        let mut element = Element::default();
        let mut index = self.available.index;
        loop {
            let descriptor = limits.read(ram, index.into())?;
            let (id, flags) = (descriptor.third, descriptor.fourth);
            element.descriptors += 1;
            element.id = id;
            if flags & INDIRECT != 0 {
                // All of the table, in its order.
                let mut table = Limits::indirect(descriptor, flags)?;
                for index in 0..table.count {
                    let descriptor = table.read(ram, index)?;
                    if descriptor.fourth & INDIRECT != 0 {
                        return Err(RingError::Nested);
                    }
                    element.add(ram, descriptor, descriptor.fourth)?;
                }
                return Ok(element);
            }
            element.add(ram, descriptor, flags)?;
            if flags & NEXT == 0 {
                return Ok(element);
            }
            index = (index + 1) % self.layout.size;
        }
    }

    pub(super) fn push_all(&mut self, ram: &GuestRam, elements: &[(&Element, u32)]) -> Result<(), RingError> {
        // The driver looks at one after the other: it sees none of them before the flags of the first.
        let mut first = None;
        for (element, written) in elements {
            let descriptor = self.descriptor(self.used)?;
            write(ram, at(descriptor, LENGTH)?, &written.to_le_bytes())?;
            write(ram, at(descriptor, ID)?, &element.id.to_le_bytes())?;
            let flags = if self.used.wrap { AVAILABLE | USED } else { 0 };
            let flags = flags | if *written > 0 { WRITE } else { 0 };
            let place = at(descriptor, FLAGS)?;
            match first {
                None => first = Some((place, flags)),
                Some(_) => store(ram, place, flags, Ordering::Release)?,
            }
            let (used, has_wrapped) = self.used.after(element.descriptors, self.layout.size);
            self.used = used;
            self.in_flight = self.in_flight.saturating_sub(element.descriptors);
            if has_wrapped {
                self.signalled = None;
            }
        }
        first.map_or(Ok(()), |(place, flags)| store(ram, place, flags, Ordering::Release))
    }

    pub(super) fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        fence(Ordering::SeqCst);
        let flags = load(ram, at(self.layout.driver, EVENT_FLAGS)?, Ordering::Relaxed)?;
        let asked = load(ram, self.layout.driver, Ordering::Relaxed)?;
        let before = self.signalled.replace(self.used.index);
        Ok(match flags {
            DISABLE => false,
            AT_INDEX => {
                let mut index = asked & !WRAP;
                if (asked & WRAP != 0) != self.used.wrap {
                    index = index.wrapping_sub(self.layout.size);
                }
                before.is_none_or(|old| is_due(index, self.used.index, old))
            }
            _ => true,
        })
    }

    pub(super) fn set_notification(&mut self, ram: &GuestRam, on: bool) -> Result<(), RingError> {
        self.notification = on;
        if on && self.rules.event_index {
            return self.ask_at_index(ram);
        }
        let wish = if on { ENABLE } else { DISABLE };
        store(ram, at(self.layout.device, EVENT_FLAGS)?, wish, Ordering::Relaxed)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn ask_at_index(&self, ram: &GuestRam) -> Result<(), RingError> {
        let wrap = if self.available.wrap { WRAP } else { 0 };
        store(ram, self.layout.device, self.available.index | wrap, Ordering::Relaxed)?;
        store(ram, at(self.layout.device, EVENT_FLAGS)?, AT_INDEX, Ordering::Release)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn rewind(&mut self, to: RingPosition, in_flight: u16) {
        self.available = Place {
            index: to.available,
            wrap: to.available_wrap,
        };
        self.in_flight = in_flight;
    }

    pub(super) fn position(&self) -> RingPosition {
        RingPosition {
            available: self.available.index,
            available_wrap: self.available.wrap,
            used: self.used.index,
            used_wrap: self.used.wrap,
        }
    }

    pub(super) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    fn descriptor(&self, place: Place) -> Result<u64, RingError> {
        at(self.layout.descriptors, u64::from(place.index) * DESCRIPTOR)
    }
}
