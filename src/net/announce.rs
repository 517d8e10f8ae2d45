//! Telling networks again and again where cards are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use super::Networks;
use super::networks::Nic;
use crate::io::{EventLoop, Handle, Task};

/// How often, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceSchedule {
    /// Before the first time.
    pub initial: Duration,
    /// Between two times at most.
    pub max: Duration,
    /// How often.
    pub rounds: u32,
    /// By how much the time between grows.
    pub step: Duration,
    /// Names of the cards; all if there are none.
    pub interfaces: Option<Vec<String>>,
    /// The timer; the one of all who name none if it is left out.
    pub id: Option<String>,
}

impl AnnounceSchedule {
    /// How long to wait after so many rounds.
    fn wait_after(&self, done: u32) -> Duration {
        match done {
            0 => self.initial,
            done => (self.initial + self.step * (done - 1)).min(self.max),
        }
    }
}

/// The timers that run.
#[derive(Default)]
pub(super) struct Announcer(Mutex<Option<Running>>);

struct Running {
    timers: BTreeMap<String, Task>,
    io: EventLoop,
}

impl Announcer {
    pub(super) fn start(&self, networks: &Networks, schedule: AnnounceSchedule) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = schedule.id.clone().unwrap_or_default();
        if schedule.rounds == 0 {
            let stopped = running.as_mut().and_then(|running| running.timers.remove(&id));
            return drop(stopped);
        }
        if running.is_none() {
            match EventLoop::new(Some("announce".to_owned())) {
                Ok(io) => {
                    *running = Some(Running {
                        timers: BTreeMap::new(),
                        io,
                    });
                }
                Err(error) => return tracing::warn!(%error, "networks are not told where cards are"),
            }
        }
        let Some(running) = running.as_mut() else { return };
        let is_wanted = |name: &String| {
            let interfaces = schedule.interfaces.as_ref();
            interfaces.is_none_or(|interfaces| interfaces.contains(name))
        };
        let nics = networks.nics().into_iter();
        let nics = nics.filter(|(name, ..)| is_wanted(name));
        let nics: Vec<Weak<dyn Nic>> = nics.map(|(_, _, nic)| std::sync::Arc::downgrade(&nic)).collect();
        let on = running.io.handle().clone();
        match running.io.handle().spawn(rounds(on, schedule, nics)) {
            Ok(task) => drop(running.timers.insert(id, task)),
            Err(error) => tracing::warn!(%error, "networks are not told where cards are"),
        }
    }
}

async fn rounds(on: Handle, schedule: AnnounceSchedule, nics: Vec<Weak<dyn Nic>>) {
    for done in 0..schedule.rounds {
        on.sleep(schedule.wait_after(done)).await;
        for nic in nics.iter().filter_map(Weak::upgrade) {
            nic.announce();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_grows_up_to_the_most() {
        let millis = Duration::from_millis;
        let schedule = AnnounceSchedule {
            initial: millis(50),
            max: millis(220),
            rounds: 4,
            step: millis(100),
            ..AnnounceSchedule::default()
        };
        let waits: Vec<_> = (0..4).map(|done| schedule.wait_after(done)).collect();
        assert_eq!(waits, [millis(50), millis(50), millis(150), millis(220)]);
    }
}
