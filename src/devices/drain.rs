//! Waiting for what devices have under way.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Counts the requests of a device that its back end has not answered yet. Clones count together.
#[derive(Clone, Default)]
pub struct InFlight(Arc<State>);

#[derive(Default)]
struct State {
    count: Mutex<usize>,
    idle: Condvar,
}

/// A request that is under way until it is dropped.
pub struct Request(InFlight);

/// Ends when nothing is under way any more. The device must start nothing new until then.
pub struct Drain(InFlight);

impl InFlight {
    /// A request has been handed to the back end.
    #[must_use]
    pub fn begin(&self) -> Request {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Request(self.clone())
    }

    /// What there is to wait for.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain(self.clone())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let state = &self.0.0;
        let mut count = state.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            state.idle.notify_all();
        }
    }
}

impl Drain {
    /// Returns once nothing is under way. The lock of the device must not be held: a request that ends may take it.
    pub fn wait(self) {
        let state = &self.0.0;
        let count = state.count.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = state.idle.wait_while(count, |count| *count != 0);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_drain_ends_with_the_last_request() {
        let requests = InFlight::default();
        requests.drain().wait();
        let (first, second) = (requests.begin(), requests.begin());
        let (ended, done) = channel();
        let drain = requests.drain();
        let waiter = thread::spawn(move || {
            drain.wait();
            ended.send(()).unwrap();
        });
        drop(first);
        assert!(done.try_recv().is_err());
        drop(second);
        done.recv().unwrap();
        waiter.join().unwrap();
    }
}
