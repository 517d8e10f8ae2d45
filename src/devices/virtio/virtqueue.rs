//! A queue as a device uses it: a ring once the driver has set one up, and the doorbell that the driver rings.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::link::Link;
use super::queue::{Element, Part, Ring, RingError, RingLayout, RingPosition, RingRules};
use crate::mem::{Doorbell, GuestRam};

/// A queue. Its methods may be called on any thread; none of them waits for the guest.
///
/// While the guest is paused, the driver not ready, or the device broken, nothing is taken from it; what is given back then
/// waits. Once the ring was taken away, what came from it is not given back any more.
pub struct Virtqueue {
    index: u16,
    link: Arc<Link>,
    doorbell: Doorbell,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ring: Option<Ring>,
    /// Counts the rings there have been: a buffer goes back only into the one it came from.
    epoch: u64,
    /// What was finished while it could not be given back.
    waiting: Vec<Finished>,
}

struct Finished {
    element: Element,
    /// Where in the buffer the data go.
    offset: u32,
    data: Vec<u8>,
}

/// What became of data that were to go into buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// They are there.
    Done,
    /// There are not enough buffers, or the device may not work now. The doorbell rings when that may have changed.
    NoRoom,
    /// They do not fit into as many buffers as they may take; those were left to the driver.
    TooLong,
}

/// A buffer, and the ring that it is from.
#[derive(Debug)]
pub struct Taken {
    element: Element,
    epoch: u64,
}

impl Taken {
    /// What the driver offers.
    #[must_use]
    pub fn element(&self) -> &Element {
        &self.element
    }
}

impl Virtqueue {
    /// Queue `index` without a ring.
    #[must_use]
    pub fn new(index: u16, link: &Arc<Link>, doorbell: Doorbell) -> Self {
        Self {
            index,
            link: Arc::clone(link),
            doorbell,
            state: Mutex::default(),
        }
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// What rings when the driver has offered something.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Rings as the driver would.
    pub fn ring(&self) {
        ring(self.doorbell.event());
    }

    /// Takes the next buffer, if there is one and the device may work.
    pub fn pop(&self) -> Option<Taken> {
        let mut state = self.lock();
        if !self.link.is_live() {
            return None;
        }
        let epoch = state.epoch;
        let popped = state.ring.as_mut()?.pop(&self.link.ram());
        match popped {
            Ok(element) => element.map(|element| Taken { element, epoch }),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Bytes that the next buffer has room for; 0 without one, or while the device may not work.
    pub fn room(&self) -> u64 {
        let state = self.lock();
        if !self.link.is_live() {
            return 0;
        }
        let Some(ring) = &state.ring else { return 0 };
        match ring.peek(&self.link.ram()) {
            Ok(element) => element.map_or(0, |element| element.writable_len()),
            Err(error) => {
                self.fail(error);
                0
            }
        }
    }

    /// Reads from byte `offset` on of what the driver has written into a buffer, as much as there is room for in `data`. Returns how
    /// much that was; none while the device may not work, or where the ring is gone.
    pub fn read(&self, taken: &Taken, offset: u64, data: &mut [u8]) -> Option<usize> {
        let state = self.lock();
        if taken.epoch != state.epoch || !self.link.is_live() {
            return None;
        }
        let read = taken.element.read(&self.link.ram(), offset, data);
        read.map_err(|error| self.fail(error)).ok()
    }

    /// Takes as many buffers as `data` need, `at_most` at most, and gives them back with the data in them. `prepare` is told
    /// how many they are, and may change the data before they are written.
    pub fn deliver(&self, data: &mut [u8], at_most: usize, prepare: impl FnOnce(&mut [u8], u16)) -> Delivery {
        let mut state = self.lock();
        if !self.link.is_live() {
            return Delivery::NoRoom;
        }
        let ram = self.link.ram();
        let Some(ring) = state.ring.as_mut() else {
            return Delivery::NoRoom;
        };
        match deliver(ring, &ram, data, at_most, prepare) {
            Ok((delivery, interrupts)) => {
                if interrupts {
                    self.link.interrupt_queue(self.index);
                }
                delivery
            }
            Err(error) => {
                self.fail(error);
                Delivery::NoRoom
            }
        }
    }

    /// Whether there is a buffer to take now. The doorbell rings for the next one only if there is none.
    pub fn has_buffer(&self) -> bool {
        let mut state = self.lock();
        if !self.link.is_live() {
            return false;
        }
        let ram = self.link.ram();
        let Some(ring) = state.ring.as_mut() else { return false };
        has_buffer(ring, &ram).unwrap_or_else(|error| {
            self.fail(error);
            false
        })
    }

    /// Asks the driver to ring for what it offers, or not to. After asking for it, look whether something came meanwhile.
    pub fn set_notification(&self, on: bool) {
        let mut state = self.lock();
        if !self.link.is_live() {
            return;
        }
        let ram = self.link.ram();
        let Some(ring) = state.ring.as_mut() else { return };
        if let Err(error) = ring.set_notification(&ram, on) {
            self.fail(error);
        }
    }

    /// Takes the next buffer and gives it back in one go, which no pause comes between. `serve` may read what the driver has
    /// written, and says what the driver is given. Returns whether there was a buffer, and the device may work.
    pub fn serve(&self, serve: impl FnOnce(&Element, &GuestRam) -> Result<Vec<u8>, RingError>) -> bool {
        let mut state = self.lock();
        if !self.link.is_live() {
            return false;
        }
        let ram = self.link.ram();
        let Some(ring) = state.ring.as_mut() else { return false };
        let served = ring.pop(&ram).and_then(|element| {
            let serve = |element| {
                Ok(Finished {
                    data: serve(&element, &ram)?,
                    offset: 0,
                    element,
                })
            };
            element.map(serve).transpose()
        });
        match served {
            Ok(Some(finished)) => self.give_back(&mut state, &finished),
            Ok(None) => return false,
            Err(error) => {
                self.fail(error);
                return false;
            }
        }
        true
    }

    /// Gives a buffer back in which nothing was written; one that cannot be given back now stays with the caller.
    pub fn give_back_read(&self, taken: Taken) -> Option<Taken> {
        let mut state = self.lock();
        if taken.epoch != state.epoch {
            return None;
        }
        if !self.link.is_live() {
            return Some(taken);
        }
        let finished = Finished {
            element: taken.element,
            offset: 0,
            data: Vec::new(),
        };
        self.give_back(&mut state, &finished);
        None
    }

    /// Gives a buffer back with `data` in it, as far as it fits, and interrupts if the driver wants that.
    pub fn finish(&self, taken: Taken, data: Vec<u8>) {
        self.finish_at(taken, 0, data);
    }

    /// The same for a buffer whose first `offset` writable bytes were written already.
    pub fn finish_at(&self, taken: Taken, offset: u32, data: Vec<u8>) {
        let mut state = self.lock();
        if taken.epoch != state.epoch {
            return;
        }
        let finished = Finished {
            element: taken.element,
            offset,
            data,
        };
        if self.link.is_live() {
            self.give_back(&mut state, &finished);
        } else if !self.link.is_broken() {
            // At most as many as the ring holds.
            state.waiting.push(finished);
        }
    }

    /// Starts with a ring.
    pub(super) fn set_up(&self, ring: Ring) {
        let mut state = self.lock();
        *state = State {
            ring: Some(ring),
            epoch: state.epoch + 1,
            waiting: Vec::new(),
        };
    }

    /// Goes on with a ring where it was. Where the device gives buffers back in order and `redoes` them, those that were taken and
    /// not given back are taken anew.
    ///
    /// # Errors
    /// The ring does not lie in RAM, or there is no such position.
    pub(super) fn resume_ring(
        &self,
        ring: (RingLayout, RingRules),
        (position, in_flight): (RingPosition, u32),
        redoes: bool,
    ) -> Result<(), RingError> {
        let ring = Ring::resumed(&self.link.ram(), ring, position, in_flight)?;
        self.set_up(if redoes { ring.rewound() } else { ring });
        Ok(())
    }

    /// A buffer that was taken from the ring elsewhere, as [`Element::resumed`].
    ///
    /// # Errors
    /// As those of that.
    pub(super) fn resume_taken(&self, id: u16, readable: &[Part], writable: &[Part]) -> Result<Taken, RingError> {
        let epoch = self.lock().epoch;
        let element = Element::resumed(&self.link.ram(), id, readable, writable)?;
        Ok(Taken { element, epoch })
    }

    /// Buffers that were taken and not given back, as [`Ring::in_flight`].
    pub(super) fn in_flight(&self) -> u16 {
        self.lock().ring.as_ref().map_or(0, Ring::in_flight)
    }

    /// Forgets the ring and whatever is under way. When this returns, nothing more is written into guest memory.
    pub(super) fn take_down(&self) {
        let mut state = self.lock();
        *state = State {
            epoch: state.epoch + 1,
            ..State::default()
        };
    }

    /// Returns when nobody is in the middle of an access to guest memory: what begins after the link was told to hold
    /// finds it held.
    pub(super) fn settle(&self) {
        drop(self.lock());
    }

    /// The device may work again: gives back what waited, and looks for what was offered meanwhile.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        for finished in std::mem::take(&mut state.waiting) {
            self.give_back(&mut state, &finished);
        }
        if state.ring.is_some() {
            self.ring();
        }
    }

    /// How far the ring has come; none without one.
    #[must_use]
    pub fn position(&self) -> Option<RingPosition> {
        self.lock().ring.as_ref().map(Ring::position)
    }

    fn give_back(&self, state: &mut State, finished: &Finished) {
        let ram = self.link.ram();
        let Some(ring) = state.ring.as_mut() else { return };
        let result = finished
            .element
            .write(&ram, finished.offset, &finished.data)
            .and_then(|written| {
                ring.push(&ram, &finished.element, written)?;
                ring.wants_interrupt(&ram)
            });
        match result {
            Ok(true) => self.link.interrupt_queue(self.index),
            Ok(false) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: RingError) {
        self.link.fail(error);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the data, and whether the driver wants an interrupt.
fn deliver(
    ring: &mut Ring,
    ram: &GuestRam,
    data: &mut [u8],
    at_most: usize,
    prepare: impl FnOnce(&mut [u8], u16),
) -> Result<(Delivery, bool), RingError> {
    let (start, in_flight) = (ring.position(), ring.in_flight());
    let mut elements = Vec::with_capacity(1);
    let mut room = 0;
    while room < data.len() {
        if elements.len() == at_most {
            ring.rewind(start, in_flight);
            return Ok((Delivery::TooLong, false));
        }
        let Some(element) = ring.pop(ram)? else {
            // For what comes after those that are not enough.
            ring.set_notification(ram, true)?;
            if !ring.is_empty(ram)? {
                continue;
            }
            ring.rewind(start, in_flight);
            return Ok((Delivery::NoRoom, false));
        };
        if element.writable().is_empty() {
            return Err(RingError::NothingToWrite);
        }
        room += usize::try_from(element.writable_len()).unwrap_or(data.len());
        elements.push(element);
    }
    prepare(data, u16::try_from(elements.len()).unwrap_or(u16::MAX));
    let mut rest: &[u8] = data;
    let mut written = Vec::with_capacity(elements.len());
    for element in &elements {
        let count = element.write(ram, 0, rest)?;
        rest = &rest[usize::try_from(count).unwrap_or(rest.len()).min(rest.len())..];
        written.push((element, count));
    }
    ring.push_all(ram, &written)?;
    Ok((Delivery::Done, ring.wants_interrupt(ram)?))
}

fn has_buffer(ring: &mut Ring, ram: &GuestRam) -> Result<bool, RingError> {
    if !ring.is_empty(ram)? {
        ring.set_notification(ram, false)?;
        return Ok(true);
    }
    ring.set_notification(ram, true)?;
    Ok(!ring.is_empty(ram)?)
}

/// Writes to a descriptor that counts.
fn ring(event: &EventFd) {
    match event.write(1) {
        // A counter at its end is readable as it is.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => tracing::warn!(%error, "doorbell"),
        _ => {}
    }
}
