//! The event bus: events on their way to the clients.
//!
//! Each client has a queue of its own that holds so many and no more. A client that does not read loses the oldest; it
//! can neither hold up whoever makes events nor make the process grow.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::qapi::throttle::EventThrottle;
use crate::qapi::visit::WireEvent;
use crate::report::Voice;

/// How many events wait for one client.
const MOST_WAITING: usize = 1024;

/// An event and when it happened, counted from 1970-01-01.
#[derive(Clone, Debug)]
pub struct Happened<E> {
    /// The event.
    pub event: E,
    /// When.
    pub at: Duration,
}

/// Sends events to every client; those that come too often are held back as the schema says.
pub struct EventBus<E> {
    clients: RefCell<Vec<Weak<Waiting<E>>>>,
    throttle: RefCell<EventThrottle<Rc<Happened<E>>>>,
    held: Notify,
    closed: Cell<bool>,
    /// Speaks of clients that lose events.
    voice: Voice,
}

/// One client's events. Dropping it ends the subscription.
pub struct EventReader<E> {
    waiting: Rc<Waiting<E>>,
}

struct Waiting<E> {
    events: RefCell<VecDeque<Rc<Happened<E>>>>,
    changed: Notify,
    closed: Cell<bool>,
    /// Events were lost since the queue was last empty.
    overrun: Cell<bool>,
    voice: Voice,
}

impl<E> Default for EventBus<E> {
    fn default() -> Self {
        Self::of(Voice::default())
    }
}

impl<E> EventBus<E> {
    /// A bus without clients, of the guest for which `voice` speaks.
    #[must_use]
    pub fn of(voice: Voice) -> Self {
        Self {
            clients: RefCell::default(),
            throttle: RefCell::default(),
            held: Notify::new(),
            closed: Cell::new(false),
            voice,
        }
    }
}

impl<E: WireEvent> EventBus<E> {
    /// Events from now on.
    pub fn subscribe(&self) -> EventReader<E> {
        let waiting = Rc::new(Waiting {
            events: RefCell::default(),
            changed: Notify::new(),
            closed: Cell::new(self.closed.get()),
            overrun: Cell::new(false),
            voice: self.voice.clone(),
        });
        self.clients.borrow_mut().push(Rc::downgrade(&waiting));
        EventReader { waiting }
    }

    /// Sends an event, now or when its rate allows it.
    pub fn emit(&self, event: E) {
        let key = event.throttle_key();
        // A clock before 1970 is no reason to lose an event.
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = self
            .throttle
            .borrow_mut()
            .push(key, Rc::new(Happened { event, at }), Instant::now());
        match now {
            Some(happened) => self.send(&happened),
            None => self.held.notify_one(),
        }
    }

    /// Sends what was held back, when its time has come. Never returns.
    pub async fn run(&self) {
        loop {
            let deadline = self.throttle.borrow().deadline();
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => self.held.notified().await,
            }
            let due = self.throttle.borrow_mut().expire(Instant::now());
            due.iter().for_each(|happened| self.send(happened));
        }
    }

    /// Ends every subscription once what waits is read: there will be no more events.
    pub fn close(&self) {
        self.closed.set(true);
        for client in self.clients.take().iter().filter_map(Weak::upgrade) {
            client.closed.set(true);
            client.changed.notify_one();
        }
    }

    fn send(&self, happened: &Rc<Happened<E>>) {
        self.clients.borrow_mut().retain(|client| {
            let Some(client) = client.upgrade() else {
                return false;
            };
            client.push(Rc::clone(happened));
            true
        });
    }
}

impl<E> Waiting<E> {
    fn push(&self, happened: Rc<Happened<E>>) {
        let mut events = self.events.borrow_mut();
        if events.len() >= MOST_WAITING {
            events.pop_front();
            if !self.overrun.replace(true) {
                self.voice.warning(format!(
                    "a client of a monitor does not read: it loses the oldest of {MOST_WAITING} events"
                ));
            }
        }
        events.push_back(happened);
        drop(events);
        self.changed.notify_one();
    }
}

impl<E> EventReader<E> {
    /// The next event that is there already.
    pub fn try_next(&mut self) -> Option<Rc<Happened<E>>> {
        let next = self.waiting.events.borrow_mut().pop_front();
        if next.is_none() {
            self.waiting.overrun.set(false);
        }
        next
    }

    /// The next event; none once there will be no more. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Rc<Happened<E>>> {
        loop {
            if let Some(happened) = self.try_next() {
                return Some(happened);
            }
            if self.waiting.closed.get() {
                return None;
            }
            self.waiting.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::qmp::{Event, RtcChangeEvent, WatchdogAction, WatchdogEvent};

    fn rtc(offset: i64) -> Event {
        Event::RtcChange(RtcChangeEvent {
            offset,
            qom_path: "/machine/rtc".into(),
        })
    }

    #[tokio::test]
    async fn a_held_event_comes_later_and_only_the_latest_one() {
        let bus = EventBus::default();
        let mut client = bus.subscribe();
        (1..4).for_each(|offset| bus.emit(rtc(offset)));
        bus.emit(Event::Watchdog(WatchdogEvent {
            action: WatchdogAction::None,
        }));
        assert_eq!(client.next().await.unwrap().event, rtc(1));
        let next = client.next().await.unwrap();
        assert!(matches!(next.event, Event::Watchdog(_)), "held back by itself only");
        assert!(client.try_next().is_none());
        bus.close();
        assert!(client.next().await.is_none());
        assert!(bus.subscribe().next().await.is_none());
    }

    #[test]
    fn who_does_not_read_loses_the_oldest() {
        let bus = EventBus::default();
        let (mut idle, mut busy) = (bus.subscribe(), bus.subscribe());
        for _ in 0..3 * MOST_WAITING {
            bus.emit(Event::Stop);
            assert!(busy.try_next().is_some(), "one that reads has them all");
        }
        bus.emit(Event::Resume);
        let waiting: Vec<Event> = std::iter::from_fn(|| idle.try_next())
            .map(|happened| happened.event.clone())
            .collect();
        assert_eq!((waiting.len(), waiting.last()), (MOST_WAITING, Some(&Event::Resume)));
        drop(idle);
        bus.emit(Event::Stop);
        assert_eq!(bus.clients.borrow().len(), 1);
    }
}
