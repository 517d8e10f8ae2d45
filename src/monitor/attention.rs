//! Staying awake for the next command.
//!
//! Clients that set up or watch a guest send one command after the other. To be woken for each takes the kernel longer
//! than most commands take here, so a session that has just answered looks for the next command for a moment before it
//! sleeps.

use std::cell::Cell;
use std::rc::Rc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long to look: about what a client needs to read a reply and write the next command.
const SPAN: Duration = Duration::from_micros(50);

/// Looks for the next command of a session.
#[derive(Clone)]
pub(super) struct Attention {
    until: Rc<Cell<Option<Instant>>>,
    /// With one processor the client could not write while we look.
    is_useful: bool,
}

impl Attention {
    pub(super) fn new() -> Self {
        Self {
            until: Rc::default(),
            is_useful: available_parallelism().is_ok_and(|count| count.get() > 1),
        }
    }

    /// A command was answered: look for the next one.
    pub(super) fn renew(&self) {
        if !self.is_useful {
            return;
        }
        let looks_already = self.until.replace(Some(Instant::now() + SPAN)).is_some();
        if looks_already {
            return;
        }
        let until = Rc::clone(&self.until);
        tokio::task::spawn_local(async move {
            while until.get().is_some_and(|until| Instant::now() < until) {
                // The runtime asks for input between two yields, and does not sleep.
                tokio::task::yield_now().await;
            }
            until.set(None);
        });
    }
}
