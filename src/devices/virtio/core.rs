//! The part of a virtio device that is the same for every transport: status, features, queues (virtio 1.2, 2 and 3).

use std::io;
use std::sync::Arc;

use super::queue::{MAX_SIZE, Ring, RingLayout, RingPosition, RingRules};
use super::saved::{Areas, QueueState, VirtioState};
use super::{Features, Link, VirtioDevice, Virtqueue, status};
use crate::devices::drain::Drain;
use crate::mem::Doorbell;
use crate::vmstate::{StateError, StateErrorKind};

/// A device with its queues, as a transport drives it.
pub(super) struct Core {
    device: Arc<dyn VirtioDevice>,
    link: Arc<Link>,
    offered: Features,
    accepted: Features,
    /// All that there may be.
    queues: Vec<Slot>,
    /// How many of them the driver sees.
    shown: u16,
}

/// A queue as the driver sets it up.
struct Slot {
    queue: Arc<Virtqueue>,
    max: u16,
    layout: RingLayout,
    enabled: bool,
}

/// An address of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Descriptors,
    Driver,
    Device,
}

impl Core {
    /// `offered` are the bits that the transport and the user's wishes add to those of the device.
    pub(super) fn new(device: Arc<dyn VirtioDevice>, link: &Arc<Link>, offered: Features) -> io::Result<Self> {
        let slot = |(index, max): (u16, u16)| -> io::Result<Slot> {
            let doorbell = Doorbell::new()?;
            Ok(Slot {
                queue: Arc::new(Virtqueue::new(index, link, doorbell)),
                max: max.min(MAX_SIZE),
                layout: RingLayout::default(),
                enabled: false,
            })
        };
        let mut sizes = device.queue_sizes();
        // Those that the driver does not see yet have no size.
        sizes.resize(device.queue_limit().max(sizes.len()), 1);
        let slots = (0..).zip(sizes).map(slot);
        let mut core = Self {
            offered: offered | device.features(),
            accepted: Features::NONE,
            queues: slots.collect::<io::Result<_>>()?,
            shown: 0,
            link: Arc::clone(link),
            device,
        };
        core.forget();
        let queues = core.queues.iter().map(|slot| Arc::clone(&slot.queue)).collect();
        core.device.connect(link, queues);
        core.device.reset();
        core.arrange();
        Ok(core)
    }

    pub(super) fn device(&self) -> &Arc<dyn VirtioDevice> {
        &self.device
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// How many queues the driver sees.
    pub(super) fn queue_count(&self) -> u16 {
        self.shown
    }

    /// How many queues there may be.
    pub(super) fn most_queues(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(u16::MAX)
    }

    /// The driver sees the queues that the device has with what it accepted.
    fn arrange(&mut self) {
        let sizes = self.device.queue_sizes();
        for (slot, max) in self.queues.iter_mut().zip(&sizes) {
            let max = (*max).min(MAX_SIZE);
            if slot.max != max && !slot.enabled {
                slot.max = max;
                slot.layout.size = max;
            }
        }
        self.shown = u16::try_from(sizes.len()).unwrap_or(u16::MAX).min(self.most_queues());
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &Arc<Virtqueue>> {
        self.queues.iter().map(|slot| &slot.queue)
    }

    /// The feature bits on offer to drivers of the modern interface.
    pub(super) fn offered_modern(&self) -> Features {
        self.offered & !(Features::LEGACY_ONLY | self.device.legacy_features())
    }

    /// The feature bits on offer.
    pub(super) fn offered(&self) -> Features {
        self.offered
    }

    /// The feature bits that the driver wants.
    pub(super) fn accepted(&self) -> Features {
        self.accepted
    }

    /// What the driver wants. No effect once features are agreed upon.
    pub(super) fn accept(&mut self, features: Features) {
        if self.link.status() & status::FEATURES_OK == 0 {
            self.accepted = features;
            self.tell_accepted();
        }
    }

    /// What a driver of the legacy interface wants, of what that has; there is no way to refuse it.
    pub(super) fn accept_legacy(&mut self, bits: u32) {
        let known = self.offered & !Features::MODERN_ONLY & !Features::BAD_FEATURE;
        self.accepted = Features::NONE.with_word(0, bits) & known;
        self.tell_accepted();
    }

    fn tell_accepted(&mut self) {
        self.device.accept(self.accepted & self.offered);
        self.arrange();
    }

    /// Whether the device can work with what the driver wants.
    fn agrees(&self, needs_version_1: bool) -> bool {
        let must = Features::NONE.with(Features::VERSION_1, needs_version_1).with(
            Features::ACCESS_PLATFORM,
            self.offered.contains(Features::ACCESS_PLATFORM),
        );
        self.offered_modern().contains(self.accepted) && self.accepted.contains(must)
    }

    /// The driver wrote the device status. `needs_version_1`: there is no legacy interface.
    pub(super) fn set_status(&mut self, wanted: u8, needs_version_1: bool) {
        if wanted == 0 {
            return self.reset();
        }
        let before = self.link.status();
        let mut wanted = wanted;
        let now_set = |bit: u8, wanted: u8| before & bit == 0 && wanted & bit != 0;
        if now_set(status::FEATURES_OK, wanted) && !self.agrees(needs_version_1) {
            wanted &= !status::FEATURES_OK;
        }
        self.link.set_status(wanted);
        if now_set(status::DRIVER_OK, wanted) {
            self.device.driver_ready(self.accepted);
            self.wake();
        }
        if before & !wanted & status::DRIVER_OK != 0 {
            self.settle();
            self.device.driver_gone();
        }
    }

    /// The transport lets the device start transfers, or no longer.
    pub(super) fn set_disabled(&self, disabled: bool) {
        self.link.hold_disabled(disabled);
        if disabled {
            let was_ready = self.link.status() & status::DRIVER_OK != 0;
            self.link.set_status(self.link.status() & !status::DRIVER_OK);
            self.settle();
            if was_ready {
                self.device.driver_gone();
            }
        } else {
            self.wake();
        }
    }

    /// The guest does not run any more. When this returns, the device writes nothing into the guest's rings; what is to be
    /// waited for may still reach the buffers that it has taken.
    pub(super) fn pause(&self) -> Option<Drain> {
        self.link.hold_paused(true);
        self.settle();
        self.device.pause()
    }

    /// The guest is about to run.
    pub(super) fn resume(&self) {
        self.link.hold_paused(false);
        self.device.resume();
        self.wake();
    }

    /// Returns to the state after power-on. When this returns, nothing of what was under way reaches the guest.
    pub(super) fn reset(&mut self) {
        self.link.clear_status();
        for index in 0..self.most_queues() {
            self.reset_queue(index);
        }
        // What was under way on a loop may have found the ring broken before it was taken away.
        self.link.clear_status();
        self.accepted = Features::NONE;
        self.device.driver_gone();
        self.device.reset();
        self.arrange();
    }

    /// Takes the ring of a queue away, so that the driver may set up another.
    pub(super) fn reset_queue(&mut self, index: u16) {
        let Some(slot) = self.queues.get_mut(usize::from(index)) else {
            return;
        };
        slot.queue.take_down();
        self.device.reset_queue(index);
        slot.enabled = false;
        slot.layout = RingLayout {
            size: slot.max,
            ..RingLayout::default()
        };
    }

    /// A queue's number of descriptors; 0 if there is no such queue.
    pub(super) fn queue_size(&self, index: u16) -> u16 {
        self.slot(index).map_or(0, |slot| slot.layout.size)
    }

    /// Makes a queue smaller. What cannot be is ignored.
    pub(super) fn set_queue_size(&mut self, index: u16, size: u16) {
        let packed = self.accepted.contains(Features::RING_PACKED);
        let Some(slot) = self.unused_slot(index) else { return };
        if size != 0 && size <= slot.max && (packed || size.is_power_of_two()) {
            slot.layout.size = size;
        }
    }

    /// Where an area of a queue lies.
    pub(super) fn area(&self, index: u16, area: Area) -> u64 {
        let layout = self.slot(index).map(|slot| slot.layout).unwrap_or_default();
        match area {
            Area::Descriptors => layout.descriptors,
            Area::Driver => layout.driver,
            Area::Device => layout.device,
        }
    }

    /// Says where an area of a queue lies. No effect on a queue that is in use.
    pub(super) fn set_area(&mut self, index: u16, area: Area, addr: u64) {
        let Some(slot) = self.unused_slot(index) else { return };
        let place = match area {
            Area::Descriptors => &mut slot.layout.descriptors,
            Area::Driver => &mut slot.layout.driver,
            Area::Device => &mut slot.layout.device,
        };
        *place = addr;
    }

    /// Whether a queue is in use.
    pub(super) fn is_enabled(&self, index: u16) -> bool {
        self.slot(index).is_some_and(|slot| slot.enabled)
    }

    /// Takes a queue into use as it is set up.
    pub(super) fn enable(&mut self, index: u16) {
        let rules = self.rules();
        let Some(slot) = self.unused_slot(index) else { return };
        slot.enabled = true;
        slot.queue.set_up(Ring::new(slot.layout, rules));
        // What was offered already is taken once the driver is ready.
        slot.queue.ring();
    }

    /// How the driver uses rings.
    fn rules(&self) -> RingRules {
        RingRules {
            packed: self.accepted.contains(Features::RING_PACKED),
            event_index: self.accepted.contains(Features::EVENT_IDX),
            notify_on_empty: self.accepted.contains(Features::NOTIFY_ON_EMPTY),
        }
    }

    /// The queues, for saving.
    pub(super) fn queue_states(&self) -> Vec<QueueState> {
        let redoes = self.device.redoes_buffers();
        let is_modern = self.accepted.contains(Features::VERSION_1);
        let state = |slot: &Slot| {
            let position = slot.queue.position().unwrap_or(RingPosition::START);
            let areas = Areas {
                descriptors: slot.layout.descriptors,
                driver: slot.layout.driver,
                device: slot.layout.device,
            };
            let is_touched = slot.enabled || slot.layout.size != slot.max;
            let written = match slot.enabled && !is_modern {
                true => Default::default(),
                false => (if is_touched { slot.layout.size } else { 0 }, slot.enabled, areas),
            };
            QueueState {
                size: slot.layout.size.into(),
                ring: if slot.enabled { areas } else { Areas::default() },
                position: if redoes { position.rewound() } else { position },
                in_flight: if redoes { 0 } else { slot.queue.in_flight().into() },
                written,
                ..QueueState::unused(slot.max)
            }
        };
        self.queues.iter().take(self.shown.into()).map(state).collect()
    }

    /// Takes over device and queues as they were elsewhere, just after a reset. The guest's memory is there.
    ///
    /// # Errors
    /// The driver has what the device does not offer, a ring cannot be, or the device cannot take its own part over.
    pub(super) fn restore(&mut self, state: &VirtioState) -> Result<(), StateError> {
        let refused = |why: String| StateError::new(StateErrorKind::Refused(why));
        if !self.offered.contains(state.accepted) {
            let (theirs, own) = (state.accepted, self.offered);
            return Err(refused(format!(
                "Features {theirs:?} unsupported. Allowed features: {own:?}"
            )));
        }
        self.accepted = state.accepted;
        self.tell_accepted();
        let (rules, redoes) = (self.rules(), self.device.redoes_buffers());
        let is_modern = self.accepted.contains(Features::VERSION_1);
        for (slot, saved) in self.queues.iter_mut().zip(&state.queues) {
            let size = u16::try_from(saved.size).unwrap_or(u16::MAX);
            let areas = if saved.is_used() { saved.ring } else { saved.written.2 };
            slot.layout = match saved.is_used() && !is_modern {
                true => RingLayout::legacy(size, areas.descriptors),
                false => RingLayout {
                    size,
                    descriptors: areas.descriptors,
                    driver: areas.driver,
                    device: areas.device,
                },
            };
            if !saved.is_used() {
                continue;
            }
            let position = (saved.position, saved.in_flight);
            let resumed = slot.queue.resume_ring((slot.layout, rules), position, redoes);
            resumed.map_err(|error| refused(format!("queue {}: {error}", slot.queue.index())))?;
            slot.enabled = true;
        }
        let needs_reset = if state.broken { status::NEEDS_RESET } else { 0 };
        self.link.set_status(state.status | needs_reset);
        if state.status & status::DRIVER_OK != 0 {
            self.device.driver_ready(self.accepted);
        }
        self.device.set_state(state.own.clone())
    }

    /// The driver rings for a queue.
    pub(super) fn notify(&self, index: u16) {
        if let Some(slot) = self.slot(index) {
            slot.queue.ring();
        }
    }

    /// The configuration at `offset`; beyond its end it reads as ones.
    pub(super) fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.device.config();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            let here = at.checked_add(index).and_then(|at| config.get(at));
            *byte = here.copied().unwrap_or(0xff);
        }
    }

    /// The driver writes to the configuration; what goes beyond its end is lost.
    pub(super) fn write_config(&self, offset: u64, data: &[u8]) {
        let len = self.device.config().len();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if at.checked_add(data.len()).is_some_and(|end| end <= len) {
            self.device.write_config(at, data);
        }
    }

    fn forget(&mut self) {
        for slot in &mut self.queues {
            slot.layout.size = slot.max;
        }
    }

    fn wake(&self) {
        if self.link.is_live() {
            self.queues().for_each(|queue| queue.resume());
        }
    }

    fn settle(&self) {
        self.queues().for_each(|queue| queue.settle());
    }

    fn slot(&self, index: u16) -> Option<&Slot> {
        self.queues.get(usize::from(index)).filter(|_| index < self.shown)
    }

    fn unused_slot(&mut self, index: u16) -> Option<&mut Slot> {
        let slot = self.queues.get_mut(usize::from(index)).filter(|_| index < self.shown)?;
        (!slot.enabled).then_some(slot)
    }
}
