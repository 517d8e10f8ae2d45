//! What the tasks of a card, its transport and its clients share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::filter::Filter;
use super::settings::{
    CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_VLAN, CTRL_VQ, GUEST_ANNOUNCE, GUEST_CSUM, GUEST_ECN, GUEST_OFFLOADS,
    GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_USO4, GUEST_USO6, MQ, MRG_RXBUF, NetSettings,
};
use crate::devices::virtio::{Features, Link, Virtqueue};
use crate::net::{HEADER_LEN, Mac, News, Offloads, Port, RxFilter};

/// Status: there is a link.
const LINK_UP: u16 = 1;
/// Status: the driver shall tell its network where it is.
const ANNOUNCE: u16 = 1 << 1;
/// Bytes of the header that drivers of the legacy interface know, unless buffers are merged.
const SHORT_HEADER: usize = 10;
/// Speed or duplex that is not known.
const UNKNOWN_SPEED: u32 = u32::MAX;
const UNKNOWN_DUPLEX: u8 = 0xff;
/// Frames of the card's own that may wait.
const INJECTED: usize = 16;

/// The card.
pub(super) struct Card {
    pub(super) settings: NetSettings,
    bound: OnceLock<Bound>,
    state: Mutex<State>,
    /// Its cable is in.
    cable: AtomicBool,
    /// Its back end's cable is in.
    netdev_up: Arc<AtomicBool>,
    /// Queue pairs that the driver uses.
    pairs: AtomicU16,
    /// The driver knows of several queue pairs.
    multiqueue: AtomicBool,
    /// The driver's header has no number of buffers.
    short_header: AtomicBool,
    /// A frame may take several buffers.
    mergeable: AtomicBool,
}

struct Bound {
    link: Arc<Link>,
    queues: Vec<Arc<Virtqueue>>,
}

struct State {
    accepted: Features,
    filter: Filter,
    /// Clients are told of the next change of the filter.
    tells: bool,
    announces: bool,
    /// The queues of the back end.
    ports: Vec<Port>,
    offloads: Offloads,
    /// What the card sends by itself.
    injected: VecDeque<Vec<u8>>,
}

impl Card {
    pub(super) fn new(settings: NetSettings, ports: Vec<Port>, netdev_up: Arc<AtomicBool>) -> Self {
        Self {
            state: Mutex::new(State {
                accepted: Features::NONE,
                filter: Filter::new(settings.mac),
                tells: true,
                announces: false,
                ports,
                offloads: Offloads::default(),
                injected: VecDeque::new(),
            }),
            settings,
            bound: OnceLock::new(),
            cable: AtomicBool::new(true),
            netdev_up,
            pairs: AtomicU16::new(1),
            multiqueue: AtomicBool::new(false),
            short_header: AtomicBool::new(true),
            mergeable: AtomicBool::new(false),
        }
    }

    pub(super) fn connect(&self, link: &Arc<Link>, queues: Vec<Arc<Virtqueue>>) {
        // A card is connected once.
        let _ = self.bound.set(Bound {
            link: Arc::clone(link),
            queues,
        });
    }

    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.bound.get().map(|bound| &bound.link)
    }

    pub(super) fn queue(&self, index: usize) -> Option<&Arc<Virtqueue>> {
        self.bound.get()?.queues.get(index)
    }

    /// The number of the control queue, which depends on what the driver knows of.
    pub(super) fn control_queue(&self) -> usize {
        match self.is_multiqueue() {
            true => 2 * usize::from(self.settings.pairs),
            false => 2,
        }
    }

    pub(super) fn is_multiqueue(&self) -> bool {
        self.multiqueue.load(Ordering::Acquire)
    }

    /// Whether the driver uses a queue pair.
    pub(super) fn is_active(&self, pair: u16) -> bool {
        pair < self.pairs.load(Ordering::Acquire)
    }

    /// Whether frames pass.
    pub(super) fn is_up(&self) -> bool {
        self.cable.load(Ordering::Acquire) && self.netdev_up.load(Ordering::Acquire)
    }

    /// Bytes of the driver's header.
    pub(super) fn header_len(&self) -> usize {
        match self.short_header.load(Ordering::Acquire) {
            true => SHORT_HEADER,
            false => HEADER_LEN,
        }
    }

    pub(super) fn is_mergeable(&self) -> bool {
        self.mergeable.load(Ordering::Acquire)
    }

    /// Whether the card takes a frame, which begins with its destination.
    pub(super) fn takes(&self, frame: &[u8]) -> bool {
        self.lock().filter.takes(frame)
    }

    /// The next frame that the card sends by itself.
    pub(super) fn take_injected(&self) -> Option<Vec<u8>> {
        self.lock().injected.pop_front()
    }

    /// The driver wants these features.
    pub(super) fn accept(&self, features: Features) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.accepted, features);
        let modern = features.contains(Features::VERSION_1);
        let mergeable = features.contains(MRG_RXBUF);
        self.short_header.store(!modern && !mergeable, Ordering::Release);
        self.mergeable.store(mergeable, Ordering::Release);
        self.multiqueue.store(features.contains(MQ), Ordering::Release);
        let filters_vlans = features.contains(CTRL_VLAN);
        if filters_vlans != before.contains(CTRL_VLAN) {
            state.filter.set_filters_vlans(filters_vlans);
        }
        state.set_offloads(features);
    }

    /// As after power-on. The cable stays as it is.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.accepted = Features::NONE;
        state.filter = Filter::new(self.settings.mac);
        state.announces = false;
        state.set_offloads(Features::NONE);
        self.short_header.store(true, Ordering::Release);
        self.mergeable.store(false, Ordering::Release);
        self.multiqueue.store(false, Ordering::Release);
        self.use_pairs(&state, 1);
    }

    /// The driver uses so many queue pairs from now on.
    pub(super) fn set_pairs(&self, pairs: u16) {
        self.use_pairs(&self.lock(), pairs);
    }

    fn use_pairs(&self, state: &State, pairs: u16) {
        self.pairs.store(pairs, Ordering::Release);
        if state.ports.len() > 1 {
            for (index, port) in (0..).zip(&state.ports) {
                if let Some(tap) = port.tap() {
                    tap.set_active(index < pairs);
                }
            }
        }
        self.wake();
    }

    /// Lets all tasks look again at what they may do.
    fn wake(&self) {
        let queues = self.bound.get().map(|bound| bound.queues.iter());
        queues.into_iter().flatten().for_each(|queue| queue.ring());
    }

    /// There is no back end any more.
    pub(super) fn forget_ports(&self) {
        self.lock().ports.clear();
    }

    /// What the driver sees.
    pub(super) fn config(&self) -> Vec<u8> {
        let state = self.lock();
        let link = if self.cable.load(Ordering::Acquire) { LINK_UP } else { 0 };
        let status = link | if state.announces { ANNOUNCE } else { 0 };
        let settings = &self.settings;
        let mut config = state.filter.mac.0.to_vec();
        config.extend(status.to_le_bytes());
        config.extend(settings.pairs.to_le_bytes());
        config.extend(settings.mtu.to_le_bytes());
        config.extend(settings.speed.unwrap_or(UNKNOWN_SPEED).to_le_bytes());
        config.push(settings.full_duplex.map_or(UNKNOWN_DUPLEX, u8::from));
        config.truncate(settings.config_len());
        config
    }

    /// Drivers that know no better command write the address.
    pub(super) fn write_config(&self, offset: usize, data: &[u8]) {
        let mut state = self.lock();
        if state.accepted.contains(Features::VERSION_1) || state.accepted.contains(CTRL_MAC_ADDR) {
            return;
        }
        let mut mac = state.filter.mac;
        for (index, byte) in data.iter().enumerate() {
            if let Some(place) = mac.0.get_mut(offset + index) {
                *place = *byte;
            }
        }
        if mac != state.filter.mac {
            self.change(&mut state, |filter| filter.mac = mac);
        }
    }

    /// Plugs the cable in or out.
    pub(super) fn set_cable(&self, up: bool) {
        let before = self.cable.swap(up, Ordering::AcqRel);
        if before != up {
            if let Some(link) = self.link() {
                link.config_changed();
            }
        }
        self.wake();
    }

    /// What the filter is; the next change is told of.
    pub(super) fn rx_filter(&self) -> RxFilter {
        let mut state = self.lock();
        state.tells = true;
        state.filter.shown()
    }

    /// Changes the filter.
    pub(super) fn change_filter(&self, change: impl FnOnce(&mut Filter)) {
        self.change(&mut self.lock(), change);
    }

    fn change(&self, state: &mut State, change: impl FnOnce(&mut Filter)) {
        change(&mut state.filter);
        if std::mem::take(&mut state.tells) {
            let (id, path) = (self.settings.id.clone(), self.settings.path.clone());
            self.settings.teller.tell(News::RxFilterChanged(id, path));
        }
    }

    /// Whether the driver said that it uses a feature.
    pub(super) fn has_accepted(&self, features: Features) -> bool {
        self.lock().accepted.contains(features)
    }

    /// The driver has told its network where it is.
    pub(super) fn announced(&self) -> bool {
        std::mem::take(&mut self.lock().announces)
    }

    /// What the driver takes as it comes from now on, if it may say that. Bits are those of the features.
    pub(super) fn set_guest_offloads(&self, wanted: Features) -> bool {
        let mut state = self.lock();
        let all = GUEST_OFFLOADS.iter().fold(Features::NONE, |all, bit| all | *bit);
        if !state.accepted.contains(CTRL_GUEST_OFFLOADS) || !(state.accepted & all).contains(wanted) {
            return false;
        }
        state.set_offloads(wanted);
        true
    }

    /// Tells the network where the card is, by itself and through its driver.
    pub(super) fn announce(&self) {
        let mut state = self.lock();
        let frame = reverse_arp(state.filter.mac);
        if state.injected.len() < INJECTED {
            state.injected.push_back(frame);
        }
        let asks = state.accepted.contains(GUEST_ANNOUNCE) && state.accepted.contains(CTRL_VQ);
        state.announces |= asks;
        drop(state);
        if let Some(link) = self.link().filter(|_| asks) {
            link.config_changed();
        }
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says to the back end what the driver takes as it comes.
    fn set_offloads(&mut self, features: Features) {
        let offloads = Offloads {
            csum: features.contains(GUEST_CSUM),
            tso4: features.contains(GUEST_TSO4),
            tso6: features.contains(GUEST_TSO6),
            ecn: features.contains(GUEST_ECN),
            ufo: features.contains(GUEST_UFO),
            uso4: features.contains(GUEST_USO4),
            uso6: features.contains(GUEST_USO6),
        };
        if offloads == self.offloads {
            return;
        }
        self.offloads = offloads;
        for tap in self.ports.iter().filter_map(Port::tap) {
            tap.set_offloads(offloads);
        }
    }
}

/// A request of reverse ARP by this card for itself, which tells switches where it is.
fn reverse_arp(mac: Mac) -> Vec<u8> {
    /// Type of the frame, kinds and lengths of the addresses, and the operation.
    const HEAD: [u8; 10] = [0x80, 0x35, 0, 1, 0x08, 0x00, 6, 4, 0, 3];
    /// Bytes of the shortest frame.
    const SHORTEST: usize = 60;
    let mut frame = vec![0; HEADER_LEN];
    frame.extend(Mac::BROADCAST.0);
    frame.extend(mac.0);
    frame.extend(HEAD);
    frame.extend(mac.0);
    frame.extend([0; 4]);
    frame.extend(mac.0);
    frame.resize(HEADER_LEN + SHORTEST, 0);
    frame
}
