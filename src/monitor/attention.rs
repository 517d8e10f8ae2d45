//! Staying awake for the next command.
//!
//! Clients that set up or watch a guest send one command after the other. To be woken for each takes the kernel longer
//! than most commands take here, so a session that has just answered looks for the next command for a moment before it
//! sleeps.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long to look: longer than a client needs to read a reply and write the next command, held up by this or that. A
/// client that asks now and then costs this much of a processor each time.
const SPAN: Duration = Duration::from_micros(200);

/// With one processor the client could not write while we look.
static IS_USEFUL: LazyLock<bool> = LazyLock::new(|| available_parallelism().is_ok_and(|count| count.get() > 1));

/// Looks for the next command of a session.
#[derive(Clone, Default)]
pub(super) struct Attention {
    until: Rc<Cell<Option<Instant>>>,
}

impl Attention {
    /// A command was answered: look for the next one.
    pub(super) fn renew(&self) {
        if !*IS_USEFUL {
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
