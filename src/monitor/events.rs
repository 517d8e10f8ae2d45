//! The event bus: one guest's events on their way to its clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc};

use crate::qapi::qmp::Event;
use crate::qapi::throttle::EventThrottle;
use crate::qapi::visit::WireEvent;

/// An event and when it happened, counted from 1970-01-01.
#[derive(Clone, Debug)]
pub struct Happened {
    /// The event.
    pub event: Event,
    /// When.
    pub at: Duration,
}

/// Sends events to every client; those that come too often are held back as the schema says.
#[derive(Default)]
pub struct EventBus {
    clients: RefCell<Vec<mpsc::UnboundedSender<Rc<Happened>>>>,
    throttle: RefCell<EventThrottle<Rc<Happened>>>,
    held: Notify,
}

impl EventBus {
    /// Events from now on. The receiver ends with the bus.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Rc<Happened>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.clients.borrow_mut().push(sender);
        receiver
    }

    /// Sends an event, now or when its rate allows it.
    pub fn emit(&self, event: Event) {
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

    /// Ends every subscription: there will be no more events.
    pub fn close(&self) {
        self.clients.borrow_mut().clear();
    }

    fn send(&self, happened: &Rc<Happened>) {
        self.clients
            .borrow_mut()
            .retain(|client| client.send(Rc::clone(happened)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::qmp::{RtcChangeEvent, WatchdogAction, WatchdogEvent};

    #[test]
    fn a_held_event_comes_later_and_only_the_latest_one() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let bus = EventBus::default();
            let mut client = bus.subscribe();
            let rtc = |offset| {
                Event::RtcChange(RtcChangeEvent {
                    offset,
                    qom_path: "/machine/rtc".into(),
                })
            };
            (1..4).for_each(|offset| bus.emit(rtc(offset)));
            bus.emit(Event::Watchdog(WatchdogEvent {
                action: WatchdogAction::None,
            }));
            assert_eq!(client.recv().await.unwrap().event, rtc(1));
            assert!(
                matches!(client.recv().await.unwrap().event, Event::Watchdog(_)),
                "held back by itself only"
            );
            assert!(client.try_recv().is_err());
            bus.close();
        });
    }
}
