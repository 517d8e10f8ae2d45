//! The ports of a device, and the bus that they are plugged into.
//!
//! Lines of character devices call in on the loop that serves them, the driver's doorbells on the device's loop, resets on vCPU
//! threads: all of them take the one lock here for as long as it takes to move a few buffers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::control::{self, News, Told};
use super::port::{Held, Port, PortConfig, PortError};
use super::state::{HeldState, PortState, SerialState};
use crate::devices::characters::{Input, Sink};
use crate::devices::virtio::queue::RingError;
use crate::devices::virtio::saved::SavedElement;
use crate::devices::virtio::{Features, Virtqueue};
use crate::devices::{Notice, Notifier, PortNews};
use crate::report;
use crate::vmstate::{StateError, StateErrorKind};

/// Feature: several ports, and a pair of queues to speak of them.
pub(super) const MULTIPORT: Features = Features::bit(1);
/// Queues of port 0, and of what is said about ports.
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;
/// Most bytes that are read from a guest, or offered to it, at once.
const CHUNK: u64 = 4096;
/// Buffers that are taken from a queue before others have their turn.
const AT_ONCE: usize = 128;
/// With so many messages waiting for buffers, the driver's own are not looked at.
const MESSAGES: usize = 64;
/// A driver that says nonsense again and again does not fill the log.
const COMPLAINTS: u32 = 32;

/// The bus.
pub struct PortBus {
    max_ports: u32,
    notifier: Notifier,
    state: Mutex<State>,
    queues: OnceLock<Vec<Arc<Virtqueue>>>,
}

#[derive(Default)]
struct State {
    ports: BTreeMap<u32, Port>,
    /// The driver knows of several ports.
    multiport: bool,
    /// The driver has said that it is there.
    driver_ready: bool,
    /// What the driver is to be told, once there are buffers.
    news: VecDeque<(u32, News)>,
    complaints: u32,
}

/// Which way a queue carries, and of which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    ToGuest(u32),
    FromGuest(u32),
    News,
    Told,
}

fn role(queue: usize) -> Role {
    match queue {
        CONTROL_IN => Role::News,
        CONTROL_OUT => Role::Told,
        _ => {
            let pair = u32::try_from(queue / 2).unwrap_or(u32::MAX);
            let port = if pair == 0 { 0 } else { pair - 1 };
            if queue % 2 == 0 {
                Role::ToGuest(port)
            } else {
                Role::FromGuest(port)
            }
        }
    }
}

/// The queue to the guest of a port; the one from the guest follows.
fn queue_of(port: u32) -> usize {
    let port = usize::try_from(port).unwrap_or(usize::MAX / 4);
    if port == 0 { 0 } else { 2 * port + 2 }
}

impl PortBus {
    /// The bus of a device with room for so many ports.
    #[must_use]
    pub fn new(max_ports: u32, notifier: Notifier) -> Arc<Self> {
        Arc::new(Self {
            max_ports,
            notifier,
            state: Mutex::default(),
            queues: OnceLock::new(),
        })
    }

    /// How many ports there is room for.
    #[must_use]
    pub fn max_ports(&self) -> u32 {
        self.max_ports
    }

    /// Whether there is a port of this name.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        let state = self.lock();
        state.ports.values().any(|port| port.name.as_deref() == Some(name))
    }

    /// The number that a port will have.
    ///
    /// # Errors
    /// It cannot have the one that it wants, or there is none left.
    pub fn number(&self, wanted: Option<u32>, is_console: bool) -> Result<u32, PortError> {
        let state = self.lock();
        let number = match wanted {
            Some(number) if state.ports.contains_key(&number) => return Err(PortError::Number(number)),
            Some(number) => number,
            None if is_console && !state.ports.contains_key(&0) => 0,
            // Port 0 is kept for a console.
            None => (1..self.max_ports)
                .find(|number| !state.ports.contains_key(number))
                .ok_or(PortError::Full)?,
        };
        if number >= self.max_ports {
            return Err(PortError::Range(self.max_ports.saturating_sub(1)));
        }
        match number == 0 && !is_console {
            true => Err(PortError::Reserved),
            false => Ok(number),
        }
    }

    /// Plugs a port in, whose characters go to `sink`; it gets this number, which [`Self::number`] has given it. The guest is told.
    pub fn plug(&self, number: u32, config: PortConfig, sink: Box<dyn Sink>, is_connected: bool) {
        let mut state = self.lock();
        let port = Port {
            name: config.name,
            is_console: config.is_console,
            news: config.id.map(PortNews::new),
            sink,
            host_open: config.is_console && is_connected,
            guest_open: false,
            throttled: false,
            awaits_host: false,
            late: Vec::new(),
            held: None,
        };
        state.ports.insert(number, port);
        self.tell(&mut state, number, News::Added);
    }

    /// Takes a port out. What the guest wrote and nobody has taken is lost; the guest is told.
    pub fn unplug(&self, number: u32) {
        let mut state = self.lock();
        let Some(mut port) = state.ports.remove(&number) else {
            return;
        };
        if port.guest_open && !port.is_console {
            port.sink.set_open(false);
        }
        state.news.retain(|(about, _)| *about != number);
        self.discard(number, &mut port.held);
        if let (Some(held), Some(queue)) = (port.held, self.queue(queue_of(number) + 1)) {
            queue.finish(held.taken, Vec::new());
        }
        self.tell(&mut state, number, News::Removed);
        drop(state);
    }

    /// The queues there are from now on.
    pub(super) fn connect(&self, queues: &[Arc<Virtqueue>]) {
        // A device has one transport.
        drop(self.queues.set(queues.to_vec()));
    }

    /// The driver is there, and wants these features.
    pub(super) fn driver_ready(&self, features: Features) {
        let mut state = self.lock();
        state.multiport = features.contains(MULTIPORT);
        if state.multiport {
            return;
        }
        if let Some(port) = state.ports.get_mut(&0) {
            port.guest_open = true;
            port.sink.attend();
        }
    }

    /// The driver is gone, and has closed everything.
    pub(super) fn driver_gone(&self) {
        let mut state = self.lock();
        state.multiport = false;
        state.driver_ready = false;
        state.news.clear();
        for port in state.ports.values_mut() {
            (port.held, port.throttled) = (None, false);
            if std::mem::take(&mut port.guest_open) {
                self.say_open(port, false);
            }
        }
    }

    /// Forgets the buffer that was taken from a queue.
    pub(super) fn reset_queue(&self, queue: u16) {
        if let Role::FromGuest(number) = role(queue.into()) {
            if let Some(port) = self.lock().ports.get_mut(&number) {
                (port.held, port.throttled) = (None, false);
            }
        }
    }

    /// The driver rang for a queue.
    pub(super) fn rung(&self, queue: usize) {
        let mut state = self.lock();
        match role(queue) {
            Role::News | Role::Told => {
                self.flush_news(&mut state);
                self.listen(&mut state);
            }
            Role::ToGuest(number) => {
                self.give_late(&mut state, number);
                if let Some(port) = state.ports.get(&number) {
                    port.sink.attend();
                }
            }
            Role::FromGuest(number) => self.send(&mut state, number),
        }
    }

    /// A byte that the driver has to say when there is no other way: for the console.
    pub(super) fn emergency(&self, byte: u8) {
        if let Some(port) = self.lock().ports.get(&0) {
            // Nobody waits for a back end that takes nothing.
            let _ = port.sink.send(&[byte]);
        }
    }

    /// What takes the characters that come in for a port.
    #[must_use]
    pub fn input(self: &Arc<Self>, number: u32) -> Box<dyn Input> {
        Box::new(PortInput {
            bus: Arc::clone(self),
            number,
        })
    }

    fn queue(&self, index: usize) -> Option<&Virtqueue> {
        self.queues.get()?.get(index).map(AsRef::as_ref)
    }

    /// Tells those who manage the guest, and the back end.
    fn say_open(&self, port: &Port, open: bool) {
        if !port.is_console {
            port.sink.set_open(open);
        }
        if let Some(notice) = port.news.as_ref().and_then(|news| news.changed(open)) {
            (self.notifier)(Notice::PortChange(notice));
        }
    }

    /// Tells the driver something of a port, as soon as it can be told. Of what the host does with a port, only the last counts.
    fn tell(&self, state: &mut State, number: u32, news: News) {
        if !state.multiport || !state.driver_ready {
            return;
        }
        if matches!(news, News::Open(_)) {
            let is_older = |(about, older): &(u32, News)| *about == number && matches!(older, News::Open(_));
            state.news.retain(|waiting| !is_older(waiting));
        }
        state.news.push_back((number, news));
        self.flush_news(state);
    }

    fn flush_news(&self, state: &mut State) {
        let Some(queue) = self.queue(CONTROL_IN) else { return };
        while let Some((number, news)) = state.news.front() {
            if !queue.serve(|_, _| Ok(news.bytes(*number))) {
                return;
            }
            state.news.pop_front();
        }
    }

    /// Takes what the driver says, unless it does not take what it is told.
    fn listen(&self, state: &mut State) {
        let Some(queue) = self.queue(CONTROL_OUT) else { return };
        for _ in 0..AT_ONCE {
            if state.news.len() >= MESSAGES + state.ports.len() {
                return;
            }
            let (mut bytes, mut len) = ([0; control::LEN], 0);
            let is_told = queue.serve(|buffer, ram| {
                len = buffer.read(ram, 0, &mut bytes)?;
                Ok(Vec::new())
            });
            if !is_told {
                return;
            }
            // What is shorter than a message is none.
            if len == bytes.len() {
                self.told(state, Told::new(bytes));
            }
        }
        queue.ring();
    }

    fn told(&self, state: &mut State, told: Told) {
        if told.event == control::DEVICE_READY {
            if told.value == 0 {
                return self.complain(state, "virtio-serial-bus: Guest failure in adding device");
            }
            state.driver_ready = true;
            let ports: Vec<u32> = state.ports.keys().copied().collect();
            for number in ports {
                self.tell(state, number, News::Added);
            }
            return;
        }
        let Some(port) = state.ports.get_mut(&told.port) else {
            return self.complain(state, &format!("virtio-serial-bus: Unexpected port id {}", told.port));
        };
        match told.event {
            control::PORT_READY if told.value == 0 => {
                let text = format!("virtio-serial-bus: Guest failure in adding port {}", told.port);
                self.complain(state, &text);
            }
            control::PORT_READY => {
                let console = port.is_console.then_some(News::Console);
                let name = port.name.clone().map(News::Name);
                let open = port.host_open.then_some(News::Open(true));
                for news in console.into_iter().chain(name).chain(open) {
                    self.tell(state, told.port, news);
                }
            }
            control::PORT_OPEN => {
                port.guest_open = told.value != 0;
                self.say_open(port, port.guest_open);
                port.sink.attend();
                self.give_late(state, told.port);
            }
            _ => {}
        }
    }

    fn complain(&self, state: &mut State, text: &str) {
        if state.complaints < COMPLAINTS {
            state.complaints += 1;
            report::error(text);
        }
    }

    /// Sends what the guest has written to a port, as far as the back end takes it.
    fn send(&self, state: &mut State, number: u32) {
        let Some(queue) = self.queue(queue_of(number) + 1) else {
            return;
        };
        let Some(port) = state.ports.get_mut(&number) else {
            return self.discard(number, &mut None);
        };
        if !port.host_open {
            if port.held.is_none() || !port.awaits_host {
                self.discard(number, &mut port.held);
            }
            return;
        }
        if port.throttled {
            return;
        }
        for _ in 0..AT_ONCE {
            let next = port.held.take();
            let next = next.or_else(|| queue.pop().map(|taken| Held { taken, sent: 0 }));
            let Some(mut held) = next else { return };
            let end = held.taken.element().readable_len();
            while held.sent < end {
                let mut chunk = vec![0; usize::try_from(CHUNK.min(end - held.sent)).unwrap_or_default()];
                let Some(count) = queue.read(&held.taken, held.sent, &mut chunk) else {
                    // The guest is paused, or its ring is gone, which forgets the buffer.
                    port.held = Some(held);
                    return;
                };
                let taken = port.sink.send(&chunk[..count]);
                held.sent += taken as u64;
                if taken < count {
                    port.throttled = true;
                    port.held = Some(held);
                    return;
                }
            }
            if let Some(taken) = queue.give_back_read(held.taken) {
                port.held = Some(Held { taken, sent: end });
                return;
            }
        }
        queue.ring();
    }

    /// Gives back what the guest has written to a port at which nobody listens. What is held stays so while it cannot be given back.
    fn discard(&self, number: u32, held: &mut Option<Held>) {
        let Some(queue) = self.queue(queue_of(number) + 1) else {
            return;
        };
        if let Some(Held { taken, .. }) = held.take() {
            let sent = taken.element().readable_len();
            *held = queue.give_back_read(taken).map(|taken| Held { taken, sent });
        }
        if held.is_some() {
            return;
        }
        for _ in 0..AT_ONCE {
            if !queue.serve(|_, _| Ok(Vec::new())) {
                return;
            }
        }
        queue.ring();
    }

    fn host_open(&self, number: u32, open: bool) {
        let mut state = self.lock();
        let Some(port) = state.ports.get_mut(&number) else {
            return;
        };
        if port.is_console || port.host_open == open {
            return;
        }
        (port.host_open, port.awaits_host) = (open, false);
        if !open {
            port.throttled = false;
            self.discard(number, &mut port.held);
        }
        self.tell(&mut state, number, News::Open(open));
        if open {
            self.send(&mut state, number);
        }
    }

    /// How many bytes the guest has room for at a port.
    fn room(&self, number: u32) -> usize {
        let mut state = self.lock();
        if !self.give_late(&mut state, number) {
            return 0;
        }
        let room = self.queue(queue_of(number)).map_or(0, Virtqueue::room);
        usize::try_from(room.min(CHUNK)).unwrap_or_default()
    }

    /// Gives the guest characters of a port, for which it had room.
    fn receive(&self, number: u32, bytes: &[u8]) {
        let mut state = self.lock();
        if let Some(port) = state.ports.get_mut(&number) {
            port.late.extend(bytes);
            self.give_late(&mut state, number);
        }
    }

    /// Gives the guest what it has not had yet, if it has the port open. Returns whether it could have more.
    fn give_late(&self, state: &mut State, number: u32) -> bool {
        let port = state.ports.get_mut(&number).filter(|port| port.guest_open);
        let (Some(port), Some(queue)) = (port, self.queue(queue_of(number))) else {
            return false;
        };
        let mut given = 0;
        while let Some(rest) = port.late.get(given..).filter(|rest| !rest.is_empty()) {
            let mut count = 0;
            let is_taken = queue.serve(|buffer, _| {
                count = usize::try_from(buffer.writable_len())
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                Ok(rest[..count].to_vec())
            });
            if !is_taken {
                break;
            }
            given += count;
        }
        port.late.drain(..given);
        port.late.is_empty()
    }

    /// The ports, for saving.
    pub(super) fn state(&self) -> SerialState {
        let state = self.lock();
        let held = |held: &Held| HeldState {
            sent: held.sent,
            element: SavedElement::of(held.taken.element()),
        };
        let ports = state.ports.iter().map(|(number, port)| PortState {
            number: *number,
            guest_open: port.guest_open,
            host_open: port.host_open,
            held: port.held.as_ref().map(held),
        });
        SerialState {
            max_ports: self.max_ports,
            ports: ports.collect(),
        }
    }

    /// Takes over what the driver knows of the ports. Where somebody came or went at this host, it is told.
    pub(super) fn set_state(&self, saved: &SerialState) -> Result<(), StateError> {
        let mut state = self.lock();
        // A driver that has told of itself elsewhere does not do so again.
        state.driver_ready = state.multiport;
        for saved in &saved.ports {
            let Some(port) = state.ports.get_mut(&saved.number) else {
                return Err(StateError::out_of_range("id", saved.number));
            };
            if let Some(held) = &saved.held {
                let queue = self.queue(queue_of(saved.number) + 1);
                let queue = queue.ok_or_else(|| StateError::out_of_range("id", saved.number))?;
                let SavedElement { id, readable, writable } = &held.element;
                let taken = queue.resume_taken(*id, readable, writable);
                let refused = |error: RingError| StateError::new(StateErrorKind::Refused(error.to_string()));
                port.held = Some(Held {
                    taken: taken.map_err(refused)?,
                    sent: held.sent,
                });
                port.awaits_host = saved.host_open;
            }
            if saved.guest_open && !port.guest_open {
                port.guest_open = true;
                self.say_open(port, true);
            }
            port.sink.attend();
            let (host_open, was_open) = (port.host_open, saved.host_open);
            if host_open != was_open && !port.is_console {
                self.tell(&mut state, saved.number, News::Open(host_open));
            }
        }
        Ok(())
    }

    /// The back end of a port takes characters again.
    fn go_on(&self, number: u32) {
        let mut state = self.lock();
        if let Some(port) = state.ports.get_mut(&number) {
            port.throttled = false;
            self.send(&mut state, number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port, as the lines of character devices see it.
struct PortInput {
    bus: Arc<PortBus>,
    number: u32,
}

impl Input for PortInput {
    fn room(&mut self) -> usize {
        self.bus.room(self.number)
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.bus.receive(self.number, bytes);
    }

    fn hears_of_clients(&mut self) -> bool {
        true
    }

    fn opened(&mut self) {
        self.bus.host_open(self.number, true);
    }

    fn closed(&mut self) {
        self.bus.host_open(self.number, false);
    }

    fn ready(&mut self) {
        self.bus.go_on(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_its_role() {
        let roles: Vec<Role> = (0..8).map(role).collect();
        let expected = [
            Role::ToGuest(0),
            Role::FromGuest(0),
            Role::News,
            Role::Told,
            Role::ToGuest(1),
            Role::FromGuest(1),
            Role::ToGuest(2),
            Role::FromGuest(2),
        ];
        assert_eq!(roles, expected);
        for port in 0..31 {
            assert_eq!(role(queue_of(port)), Role::ToGuest(port));
            assert_eq!(role(queue_of(port) + 1), Role::FromGuest(port));
        }
    }
}
