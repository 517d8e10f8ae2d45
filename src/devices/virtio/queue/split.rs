//! Split rings (virtio 1.2, 2.7).

use std::sync::atomic::{Ordering, fence};

use super::{
    Element, Limits, RingError, RingLayout, RingPosition, RingRules,
    chain::{INDIRECT, NEXT},
    is_due,
    memory::{at, load, store, write},
};
use crate::mem::GuestRam;

/// Offset of the index in the available and the used ring; flags come before it.
const INDEX: u64 = 2;
/// Offset of the entries in both.
const ENTRIES: u64 = 4;
/// Bytes of an entry of the available ring.
const AVAILABLE_ENTRY: u64 = 2;
/// Bytes of an entry of the used ring: id and length.
const USED_ENTRY: u64 = 8;
/// Flag of the available ring: the driver needs no interrupt.
const NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: the device needs no notification.
const NO_NOTIFY: u16 = 1;

#[derive(Clone, Debug)]
pub(super) struct SplitRing {
    layout: RingLayout,
    rules: RingRules,
    available: u16,
    used: u16,
    in_flight: u16,
    /// What the driver was last interrupted for; none when that is too long ago to compare.
    signalled: Option<u16>,
    notification: bool,
}

impl SplitRing {
    pub(super) fn new(layout: RingLayout, rules: RingRules) -> Self {
        Self {
            layout,
            rules,
            available: 0,
            used: 0,
            in_flight: 0,
            signalled: None,
            notification: true,
        }
    }

    pub(super) fn resumed(
        ram: &GuestRam,
        (layout, rules): (RingLayout, RingRules),
        available: u16,
    ) -> Result<Self, RingError> {
        let used = load(ram, at(layout.device, INDEX)?, Ordering::Acquire)?;
        let in_flight = available.wrapping_sub(used);
        if in_flight > layout.size {
            return Err(RingError::Moved {
                from: used,
                to: available,
            });
        }
        Ok(Self {
            available,
            used,
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
        let index = load(ram, at(self.layout.driver, INDEX)?, Ordering::Acquire)?;
        let waiting = index.wrapping_sub(self.available);
        if waiting > self.layout.size {
            return Err(RingError::Moved {
                from: self.available,
                to: index,
            });
        }
        if waiting == 0 {
            return Ok(None);
        }
        if self.in_flight >= self.layout.size {
            return Err(RingError::Exceeded);
        }
        let slot = u64::from(self.available % self.layout.size);
        let entry = at(self.layout.driver, ENTRIES + slot * AVAILABLE_ENTRY)?;
        let head = load(ram, entry, Ordering::Relaxed)?;
        if head >= self.layout.size {
            return Err(RingError::Head(head));
        }
        self.available = self.available.wrapping_add(1);
        if self.rules.event_index && self.notification {
            self.set_available_event(ram, self.available)?;
        }
        let mut element = self.chain(ram, head)?;
        element.id = head;
        self.in_flight += 1;
        Ok(Some(element))
    }

    pub(super) fn is_empty(&self, ram: &GuestRam) -> Result<bool, RingError> {
        let index = load(ram, at(self.layout.driver, INDEX)?, Ordering::Acquire)?;
        Ok(index == self.available)
    }

    /// The buffer that starts with descriptor `head`.
    fn chain(&self, ram: &GuestRam, head: u16) -> Result<Element, RingError> {
        let mut limits = Limits::new(self.layout.descriptors, self.layout.size.into());
        let mut element = Element::default();
        let mut is_indirect = false;
        let mut descriptor = limits.read(ram, head.into())?;
        loop {
            let (flags, next) = (descriptor.third, descriptor.fourth);
            if flags & INDIRECT != 0 {
                if is_indirect {
                    return Err(RingError::Nested);
                }
                is_indirect = true;
                limits = Limits::indirect(descriptor, flags)?;
                descriptor = limits.read(ram, 0)?;
                continue;
            }
            element.add(ram, descriptor, flags)?;
            if flags & NEXT == 0 {
                return Ok(element);
            }
            if u32::from(next) >= limits.count {
                return Err(RingError::Next(next));
            }
            descriptor = limits.read(ram, next.into())?;
        }
    }

    pub(super) fn push_all(&mut self, ram: &GuestRam, elements: &[(&Element, u32)]) -> Result<(), RingError> {
        for (element, written) in elements {
            let slot = u64::from(self.used % self.layout.size);
            let entry = at(self.layout.device, ENTRIES + slot * USED_ENTRY)?;
            let [a, b, c, d] = u32::from(element.id).to_le_bytes();
            let [e, f, g, h] = written.to_le_bytes();
            write(ram, entry, &[a, b, c, d, e, f, g, h])?;
            self.used = self.used.wrapping_add(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        store(ram, at(self.layout.device, INDEX)?, self.used, Ordering::Release)?;
        // An index that has gone half around what was signalled cannot be compared with it any more.
        let used = self.used;
        self.signalled = self
            .signalled
            .filter(|at| (1..0x8000).contains(&used.wrapping_sub(*at)));
        Ok(())
    }

    pub(super) fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        // What was given back must be seen before the driver's wish is read.
        fence(Ordering::SeqCst);
        if self.rules.notify_on_empty && self.in_flight == 0 {
            let index = load(ram, at(self.layout.driver, INDEX)?, Ordering::Relaxed)?;
            if index == self.available {
                return Ok(true);
            }
        }
        if !self.rules.event_index {
            let flags = load(ram, self.layout.driver, Ordering::Relaxed)?;
            return Ok(flags & NO_INTERRUPT == 0);
        }
        let end = ENTRIES + u64::from(self.layout.size) * AVAILABLE_ENTRY;
        let asked = load(ram, at(self.layout.driver, end)?, Ordering::Relaxed)?;
        let before = self.signalled.replace(self.used);
        Ok(before.is_none_or(|old| is_due(asked, self.used, old)))
    }

    pub(super) fn set_notification(&mut self, ram: &GuestRam, on: bool) -> Result<(), RingError> {
        self.notification = on;
        if self.rules.event_index {
            if on {
                let index = load(ram, at(self.layout.driver, INDEX)?, Ordering::Relaxed)?;
                self.set_available_event(ram, index)?;
            }
        } else {
            store(
                ram,
                self.layout.device,
                if on { 0 } else { NO_NOTIFY },
                Ordering::Relaxed,
            )?;
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    /// Says at which index the driver shall notify, before the ring is looked at again.
    fn set_available_event(&self, ram: &GuestRam, index: u16) -> Result<(), RingError> {
        let end = ENTRIES + u64::from(self.layout.size) * USED_ENTRY;
        store(ram, at(self.layout.device, end)?, index, Ordering::Relaxed)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn rewind(&mut self, to: RingPosition, in_flight: u16) {
        (self.available, self.in_flight) = (to.available, in_flight);
    }

    pub(super) fn position(&self) -> RingPosition {
        RingPosition {
            available: self.available,
            available_wrap: true,
            used: self.used,
            used_wrap: true,
        }
    }

    pub(super) fn in_flight(&self) -> u16 {
        self.in_flight
    }
}
