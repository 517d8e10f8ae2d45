//! What people do, on its way to the devices that they use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::devices::SharedDevice;
use crate::devices::input::{InputEvent, InputKind, Key};
use crate::io::{self, GuestClock, Handle, Time};

/// Keys and pauses that wait at most.
const LIMIT: usize = 1024;

/// There is no room for so many keys at once, or before those that wait have been pressed.
#[derive(Debug, thiserror::Error)]
#[error("too many keys wait to be pressed")]
pub(crate) struct TooManyKeys;

/// The devices that people use, and the keys that wait to be pressed.
pub(crate) struct Input(Arc<Inner>);

struct Inner {
    devices: Vec<SharedDevice>,
    steps: Mutex<VecDeque<Step>>,
    timer: io::Timer,
}

/// What is to be done next; a pause at the head is under way.
#[derive(Clone, Copy, Debug)]
enum Step {
    Key(Key, bool),
    Pause(Duration),
}

impl Input {
    /// For these devices; the first that has a use for something gets it.
    pub(crate) fn new(devices: Vec<SharedDevice>, on: &Handle, guest: &Arc<GuestClock>) -> Self {
        Self(Arc::new_cyclic(|inner: &Weak<Inner>| {
            let served = Weak::clone(inner);
            let expire = move || {
                if let Some(inner) = served.upgrade() {
                    inner.go_on();
                }
            };
            Inner {
                devices,
                steps: Mutex::default(),
                timer: on.timer(Time::Guest(Arc::clone(guest)), expire),
            }
        }))
    }

    /// Whether a device has a use for what is of this kind.
    pub(crate) fn takes(&self, kind: InputKind) -> bool {
        self.0.devices.iter().any(|device| takes(device, kind))
    }

    /// Lets things happen, all at once.
    pub(crate) fn happen(&self, events: &[InputEvent]) {
        self.0.happen(events);
    }

    /// Presses keys, one after the other, and lets them go in the opposite order, with a pause after each. Those that are sent
    /// while others wait come after them.
    pub(crate) fn send_keys(&self, keys: &[Key], pause: Duration) -> Result<(), TooManyKeys> {
        let mut steps = self.0.steps();
        if steps.len().saturating_add(keys.len().saturating_mul(4)) > LIMIT {
            return Err(TooManyKeys);
        }
        let downs = keys.iter().map(|key| Step::Key(*key, true));
        let ups = keys.iter().rev().map(|key| Step::Key(*key, false));
        let is_idle = steps.is_empty();
        steps.extend(downs.chain(ups).flat_map(|step| [step, Step::Pause(pause)]));
        if is_idle {
            self.0.run(&mut steps);
        }
        Ok(())
    }
}

impl Inner {
    fn steps(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pause is over.
    fn go_on(&self) {
        let mut steps = self.steps();
        steps.pop_front();
        self.run(&mut steps);
    }

    /// Presses what is to be pressed before the next pause.
    fn run(&self, steps: &mut VecDeque<Step>) {
        while let Some(step) = steps.front().copied() {
            match step {
                Step::Key(key, down) => self.happen(&[InputEvent::Key(key, down)]),
                Step::Pause(pause) => return self.timer.arm_in(pause),
            }
            steps.pop_front();
        }
    }

    fn happen(&self, events: &[InputEvent]) {
        for event in events {
            if let Some(device) = self.devices.iter().find(|device| takes(device, event.kind())) {
                let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(view) = device.as_input() {
                    view.happen(*event);
                }
            }
        }
        for device in &self.devices {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(view) = device.as_input() {
                view.tell();
            }
        }
    }
}

fn takes(device: &SharedDevice, kind: InputKind) -> bool {
    let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
    device.as_input().is_some_and(|view| view.takes(kind))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::devices::Device;
    use crate::devices::input::InputDevice;
    use crate::io::EventLoop;
    use crate::vmstate::{StateError, Visitor};

    const MOMENT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(20);

    /// A keyboard that passes on what happens.
    struct Recorder(Sender<(&'static str, bool)>);

    impl Device for Recorder {
        fn type_name(&self) -> &'static str {
            "recorder"
        }

        fn reset(&mut self) {}

        fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
            Ok(())
        }

        fn as_input(&mut self) -> Option<&mut dyn InputDevice> {
            Some(self)
        }
    }

    impl InputDevice for Recorder {
        fn takes(&self, kind: InputKind) -> bool {
            kind == InputKind::Key
        }

        fn happen(&mut self, event: InputEvent) {
            if let InputEvent::Key(key, down) = event {
                self.0.send((key.name(), down)).unwrap();
            }
        }

        fn tell(&mut self) {}
    }

    struct Bench {
        input: Input,
        clock: Arc<GuestClock>,
        seen: Receiver<(&'static str, bool)>,
        _io: EventLoop,
    }

    impl Bench {
        fn new() -> Self {
            let (sender, seen) = channel();
            let (io, clock) = (EventLoop::new(None).unwrap(), Arc::new(GuestClock::default()));
            let keyboard: SharedDevice = Arc::new(Mutex::new(Recorder(sender)));
            Self {
                input: Input::new(vec![keyboard], io.handle(), &clock),
                clock,
                seen,
                _io: io,
            }
        }

        fn send(&self, names: &[&str]) -> Result<(), TooManyKeys> {
            let keys: Vec<_> = names.iter().filter_map(|name| Key::named(name)).collect();
            self.input.send_keys(&keys, MOMENT)
        }

        /// The keys that come next: those in capitals go down.
        fn comes(&self, wanted: &str) {
            for letter in wanted.chars() {
                let (name, down) = self.seen.recv_timeout(LONG).unwrap();
                assert_eq!(
                    (name, down),
                    (letter.to_lowercase().to_string().as_str(), letter.is_uppercase())
                );
            }
        }
    }

    #[test]
    fn keys_are_let_go_in_the_opposite_order_and_wait_for_those_before_them() {
        let bench = Bench::new();
        bench.clock.start();
        bench.send(&["a", "b"]).unwrap();
        bench.send(&["c"]).unwrap();
        bench.comes("ABbaCc");
        bench.send(&[]).unwrap();
        bench.send(&["d"]).unwrap();
        bench.comes("Dd");
    }

    #[test]
    fn a_pause_is_one_of_the_guests_time() {
        let bench = Bench::new();
        bench.send(&["a"]).unwrap();
        bench.comes("A");
        assert!(bench.seen.try_recv().is_err(), "the guest's clock stands still");
        bench.clock.start();
        bench.comes("a");
    }

    #[test]
    fn keys_for_which_there_is_no_room_are_not_pressed_at_all() {
        let bench = Bench::new();
        assert!(bench.send(&["a"; 257]).is_err());
        bench.send(&["a"; 100]).unwrap();
        bench.comes("A");
        while bench.send(&["b"; 10]).is_ok() {}
        bench.clock.start();
        bench.comes(&"A".repeat(99));
        bench.comes(&"a".repeat(100));
        bench.comes("B");
    }

    #[test]
    fn what_no_device_takes_happens_to_none() {
        let bench = Bench::new();
        assert!(bench.input.takes(InputKind::Key) && !bench.input.takes(InputKind::Button));
        bench
            .input
            .happen(&[InputEvent::Button(crate::devices::input::Button::Left, true)]);
        assert!(bench.seen.try_recv().is_err());
    }
}
